"""The waveform head: where it starts, what it may see, and what it leaves alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.interface import Codes
from models.codecs.mill.codec import MillCodec, load_directory
from models.codecs.mill.editions import FOLDER as EMBEDDED_FOLDER
from models.codecs.mill.head import HeadConfig, WaveHead
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.mill.spectrum import (
    analyse,
    cut_at_quiet,
    griffin_lim,
    griffin_lim_spectrum,
    magnitudes,
    sharpen,
    synthesize,
)

Sweep = Callable[[int, int], Tensor]
HOP = 160


@pytest.fixture
def head() -> WaveHead:
    torch.manual_seed(0)
    return WaveHead(HeadConfig(16, 2, 2), 512, HOP, 12, 0.01)


def by_griffin_lim(codec: MillCodec, codes: Codes) -> Tensor:
    """The first edition's decoder, step by step."""
    latents_BTD = codec.embed(codes.codes_BQT).transpose(1, 2)
    found_BSF = codec.network.from_log(codec.network.decode(latents_BTD))
    sharp_SF = sharpen(found_BSF[0], codec.config.contrast)
    config = codec.config
    return griffin_lim(sharp_SF, HOP, config.griffin_lim_iterations, config.griffin_lim_start).clamp(-1, 1)


@pytest.mark.parametrize("headed", [False, True])
def test_an_untrained_decoder_is_griffin_lim(tiny_directory: Path, sweep: Sweep, headed: bool) -> None:
    codec = load_directory(tiny_directory)
    if headed:
        network = MillNetwork(replace(codec.config, griffin_lim_start="peaks", head=HeadConfig(16, 2, 2)))
        network.load_state_dict({**network.state_dict(), **codec.network.state_dict()})
        codec = MillCodec(network, "tiny", "2", "")
    codes = codec.encode(sweep(8000, 1)[None], torch.tensor([8000]))
    torch.testing.assert_close(codec.decode(codes).wave_BT[0], by_griffin_lim(codec, codes))


def test_the_first_edition_decodes_by_griffin_lim_alone(sweep: Sweep) -> None:
    codec = load_codec("mill-16khz@1")
    assert isinstance(codec, MillCodec)
    assert "head" not in json.loads((EMBEDDED_FOLDER / "mill-16khz@1" / "config.json").read_text())["config"]
    assert (codec.network.head, codec.config.griffin_lim_start) == (None, "random")
    codes = codec.encode(sweep(8000, 1)[None], torch.tensor([8000]))
    torch.testing.assert_close(codec.decode(codes).wave_BT[0], by_griffin_lim(codec, codes))


def test_a_head_changes_the_sound_and_not_the_codes(
    tiny_directory: Path, headed_directory: Path, sweep: Sweep
) -> None:
    plain, headed = load_directory(tiny_directory), load_directory(headed_directory)
    wave_BT, lengths_B = sweep(8000, 1)[None], torch.tensor([8000])
    codes = plain.encode(wave_BT, lengths_B)
    assert torch.equal(codes.codes_BQT, headed.encode(wave_BT, lengths_B).codes_BQT)
    assert not torch.allclose(plain.decode(codes).wave_BT, headed.decode(codes).wave_BT, atol=1e-3)
    assert headed.config.head == HeadConfig(16, 2, 2)


def test_phrases_of_a_long_recording_sound_as_they_do_alone(headed_directory: Path) -> None:
    codec = load_directory(headed_directory)
    draws = torch.Generator().manual_seed(0)
    codes_BQT = torch.randint(0, codec.codebook_size, (1, codec.n_codebooks, 3100), generator=draws)
    wave_T = codec.decode(Codes(codes_BQT, torch.tensor([3100]))).wave_BT[0]
    first_SF, second_SF = cut_at_quiet(codec._magnitudes(codec.embed(codes_BQT)[0]), 6000)
    latents_SD = codec.embed(codes_BQT)[0].T.repeat_interleave(2, dim=0)
    alone_N = codec.network.wave(second_SF[None], latents_SD[None, len(first_SF) :])[0]
    torch.testing.assert_close(wave_T[len(first_SF) * HOP :], alone_N.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_what_the_head_sees_does_not_depend_on_when(head: WaveHead, sweep: Sweep) -> None:
    wave_N = sweep(6400, 1)
    late_N = torch.cat([torch.zeros(7 * HOP), wave_N])
    early, late = (head._features(analyse(wave[None], 512, HOP)) for wave in (wave_N, late_N))
    torch.testing.assert_close(late[:, 9:-2], early[:, 2:-2], rtol=1e-3, atol=2e-3)


def test_what_the_head_sees_does_not_depend_on_the_common_phase(head: WaveHead, sweep: Sweep) -> None:
    spectrum_BSF = analyse(sweep(6400, 1)[None], 512, HOP)
    # Bins 0 and 256 have no imaginary part in a wave's spectrum, and their neighbours see them.
    turned_BSF = spectrum_BSF * -1
    torch.testing.assert_close(head._features(turned_BSF), head._features(spectrum_BSF), rtol=1e-4, atol=1e-4)


def test_a_steady_tone_has_a_steady_relative_phase(head: WaveHead) -> None:
    bin_hz = 16_000 / 512
    wave_N = torch.cos(2 * math.pi * 40 * bin_hz / 16_000 * torch.arange(6400, dtype=torch.float64)).float()
    values_BSI = head._features(analyse(wave_N[None], 512, HOP))
    to_earlier_SF = values_BSI[0, 5:-5, 4 * 257 : 5 * 257]
    assert float(to_earlier_SF[:, 40].min()) > 0.99


def test_an_output_depends_on_a_bounded_segment(head: WaveHead) -> None:
    torch.nn.init.normal_(head.leave.weight, std=0.1)
    draws = torch.Generator().manual_seed(0)
    spectrum_BSF = torch.randn(1, 60, 257, dtype=torch.complex64, generator=draws)
    latents_BSD = torch.randn(1, 60, 12, generator=draws)
    whole = head(spectrum_BSF, latents_BSD)
    part = head(spectrum_BSF[:, 10:], latents_BSD[:, 10:])
    torch.testing.assert_close(part[:, 12:], whole[:, 22:], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(part[:, 0], whole[:, 10], atol=1e-3)


def test_gradients_reach_the_magnitudes_and_every_parameter(headed_network: MillNetwork) -> None:
    head = headed_network.head
    assert head is not None
    head.requires_grad_(True).zero_grad()
    draws = torch.Generator().manual_seed(0)
    found_BSF = torch.rand(2, 20, 257, generator=draws).requires_grad_(True)
    latents_BSD = torch.randn(2, 20, 12, generator=draws)
    magnitudes(headed_network.wave(found_BSF, latents_BSD), 512, HOP).square().sum().backward()
    silent = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert found_BSF.grad is not None
    assert bool((found_BSF.grad.abs().sum(dim=(1, 2)) > 0).all())


def test_magnitudes_with_a_gradient_sound_the_same(headed_network: MillNetwork) -> None:
    draws = torch.Generator().manual_seed(0)
    found_BSF = torch.rand(1, 20, 257, generator=draws)
    latents_BSD = torch.randn(1, 20, 12, generator=draws)
    plain_BN = headed_network.wave(found_BSF, latents_BSD)
    torch.testing.assert_close(headed_network.wave(found_BSF.requires_grad_(True), latents_BSD), plain_BN)


def unevenness(wave_N: Tensor) -> float:
    """Dependence of the power of a wave on the place within a hop: its largest tenth over the mean, less 1."""
    power_P = wave_N[4 * HOP : -4 * HOP].reshape(-1, 10, HOP // 10).square().mean(dim=(0, 2))
    return float(power_P.max() / power_P.mean()) - 1


def test_even_magnitudes_hiss_instead_of_buzzing() -> None:
    even_SF = torch.ones(200, 257)
    buzzing, hissing = (
        synthesize(griffin_lim_spectrum(even_SF, HOP, 24, "peaks", noise_from), HOP)
        for noise_from in (None, 1)
    )
    assert unevenness(buzzing) > 0.5
    assert unevenness(hissing) < 0.1


def test_noise_begins_where_it_is_told_to() -> None:
    draws = torch.Generator().manual_seed(0)
    wanted_BSF = torch.rand(2, 30, 257, generator=draws)
    plain, noisy = (griffin_lim_spectrum(wanted_BSF, HOP, 0, "peaks", bin_) for bin_ in (None, 64))
    torch.testing.assert_close(noisy[..., :65], plain[..., :65])
    level = noisy.abs() / wanted_BSF
    torch.testing.assert_close(level[0], level[1])
    assert float(level[..., 128:].square().mean()) == pytest.approx(1.0, abs=0.05)
    assert float(level[..., 128:].std()) == pytest.approx(
        0.46, abs=0.03
    )  # Rayleigh's, for a mean square of 1


def test_noise_outside_the_spectrum_is_refused() -> None:
    with pytest.raises(ValueError, match="noise_from_hz is 9000: must be above 0 and below 8000"):
        MillConfig(noise_from_hz=9000.0)


def test_silence_stays_silent(headed_network: MillNetwork) -> None:
    wave_BN = headed_network.wave(torch.zeros(1, 8, 257), torch.zeros(1, 8, 12))
    assert not wave_BN.any()
    assert not griffin_lim_spectrum(torch.zeros(8, 257), HOP, 2).abs().any()


def test_the_codec_with_its_head_stays_small() -> None:
    with torch.device("meta"):
        network = MillNetwork(MillConfig(head=HeadConfig()))
    assert 2 * sum(value.numel() for value in network.state_dict().values()) < 20e6


@pytest.mark.parametrize("name", ["channels", "blocks", "expansion"])
def test_impossible_sizes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"head\.{name} is 0: must be at least 1"):
        HeadConfig(**{name: 0})
