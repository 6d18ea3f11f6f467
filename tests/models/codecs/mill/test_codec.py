"""The embedded codec's spectra, its long recordings, its files, and what it does to speech."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import soundfile
import soxr
import torch
from pystoi import stoi
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.interface import Codec, Codes
from models.codecs.mill.codec import MillCodec, load_directory
from models.codecs.mill.editions import FOLDER as EMBEDDED_FOLDER
from models.codecs.mill.editions import editions
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.mill.spectrum import (
    Start,
    analyse,
    cut_at_quiet,
    griffin_lim,
    griffin_lim_spectrum,
    magnitudes,
    sharpen,
    synthesize,
)

Sweep = Callable[[int, int], Tensor]


def encode_one(codec: Codec, wave_T: Tensor) -> Tensor:
    return codec.encode(wave_T[None], torch.tensor([len(wave_T)])).codes_BQT[0]


def test_a_spectrum_is_centred_on_its_samples() -> None:
    wave_BN = torch.zeros(1, 1600)
    wave_BN[0, 800:960] = 1.0
    loudest = magnitudes(wave_BN, 512, 160)[0].sum(dim=1).argmax()
    assert int(loudest) == 5


def test_a_network_can_be_sized_without_memory() -> None:
    with torch.device("meta"):
        network = MillNetwork(MillConfig())
    assert sum(p.numel() for p in network.parameters()) > 3_000_000
    assert network.decoder.leave.weight.is_meta


def test_griffin_lim_finds_a_wave_with_the_magnitudes(sweep: Sweep) -> None:
    wanted_SF = magnitudes(sweep(16_000, 1)[None], 512, 160)[0]
    errors = []
    for iterations in (0, 4, 32):
        wave_T = griffin_lim(wanted_SF, 160, iterations)
        assert wave_T.shape == (16_000,)
        found_SF = magnitudes(wave_T[None], 512, 160)[0]
        errors.append(float((found_SF - wanted_SF).norm() / wanted_SF.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.15


@pytest.mark.parametrize("start", ["random", "peaks"])
def test_griffin_lim_of_rows_is_that_of_each_row(sweep: Sweep, start: Start) -> None:
    wanted_BSF = magnitudes(torch.stack([sweep(8000, 1), sweep(8000, 2)]), 512, 160)
    together_BN = griffin_lim(wanted_BSF, 160, 3, start)
    for wave_N, wanted_SF in zip(together_BN, wanted_BSF, strict=True):
        torch.testing.assert_close(wave_N, griffin_lim(wanted_SF, 160, 3, start))


@pytest.mark.parametrize("cycles", [40.0, 40.3, 40.5, 101.8])
def test_phases_of_peaks_make_a_steady_tone_at_once(cycles: float) -> None:
    n = torch.arange(16_000, dtype=torch.float64)
    wanted_SF = magnitudes(torch.sin(2 * math.pi * cycles / 512 * n).float()[None], 512, 160)[0, 4:-4]
    errors = []
    for start in get_args(Start):
        found_SF = magnitudes(griffin_lim(wanted_SF, 160, 0, start)[None], 512, 160)[0]
        errors.append(float((found_SF - wanted_SF)[4:-4].norm() / wanted_SF[4:-4].norm()))
    assert errors[0] > 0.5
    assert errors[1] < 0.05


def test_phases_of_peaks_stay_exact_over_a_minute() -> None:
    n = torch.arange(60 * 16_000, dtype=torch.float64)
    wanted_SF = magnitudes(torch.sin(2 * math.pi * 200.4 / 512 * n).float()[None], 512, 160)[0]
    found_SF = magnitudes(griffin_lim(wanted_SF, 160, 0, "peaks")[None], 512, 160)[0]
    assert float((found_SF - wanted_SF)[-100:-4].norm() / wanted_SF[-100:-4].norm()) < 0.05


def test_without_iterations_the_magnitudes_get_fixed_phases(sweep: Sweep) -> None:
    wanted_SF = magnitudes(sweep(8000, 1)[None], 512, 160)[0]
    spectrum_SF = griffin_lim_spectrum(wanted_SF, 160, 0)
    torch.testing.assert_close(spectrum_SF.abs(), wanted_SF)
    torch.testing.assert_close(griffin_lim_spectrum(2 * wanted_SF, 160, 0), 2 * spectrum_SF)


def test_synthesis_undoes_analysis(sweep: Sweep) -> None:
    wave_BN = torch.stack([sweep(8000, 1), sweep(8000, 2)])
    found_BN = synthesize(analyse(wave_BN, 512, 160), 160)
    # The outermost half window lies under fewer windows.
    torch.testing.assert_close(found_BN[:, 256:-256], wave_BN[:, 256:-256], atol=1e-5, rtol=0)


@pytest.mark.parametrize("start", ["random", "peaks"])
def test_a_longer_wave_begins_with_the_same_phases(sweep: Sweep, start: Start) -> None:
    wanted_SF = magnitudes(sweep(16_000, 1)[None], 512, 160)[0]
    short, long = griffin_lim(wanted_SF[:50], 160, 0, start), griffin_lim(wanted_SF, 160, 0, start)
    torch.testing.assert_close(short[: 160 * 45], long[: 160 * 45])


def test_sharpening_keeps_the_energy_and_widens_the_range() -> None:
    magnitudes_SF = torch.tensor([[1.0, 2.0, 8.0], [0.0, 0.5, 4.0]])
    sharper_SF = sharpen(magnitudes_SF, 1.1)
    torch.testing.assert_close(sharper_SF.norm(), magnitudes_SF.norm())
    assert float(sharper_SF[0, 2] / sharper_SF[0, 0]) == pytest.approx(8**1.1)
    assert not sharpen(torch.zeros(2, 3), 1.1).any()


def test_long_recordings_are_cut_where_it_is_quiet() -> None:
    magnitudes_SF = torch.ones(100, 3)
    magnitudes_SF[[33, 59]] = 0.0
    phrases = cut_at_quiet(magnitudes_SF, 40)
    assert [len(phrase) for phrase in phrases] == [33, 26, 20, 21]
    assert torch.equal(torch.cat(phrases), magnitudes_SF)


def test_a_long_recording_is_coded_like_its_parts(tiny_directory: Path, sweep: Sweep) -> None:
    codec = load_codec(str(tiny_directory))
    wave_T, hop = sweep(13 * 16_000, 3), codec.hop_length
    whole_QT = encode_one(codec, wave_T)
    frames, context = whole_QT.shape[1], 20
    assert frames > 600
    parts = []
    for start in range(0, frames, 130):
        begin = max(0, start - context)
        part_QT = encode_one(codec, wave_T[begin * hop : (start + 130 + context) * hop])
        parts.append(part_QT[:, start - begin : start - begin + 130])
    assert torch.equal(torch.cat(parts, dim=1), whole_QT)


def test_decoding_in_pieces_equals_decoding_at_once(tiny_directory: Path, sweep: Sweep) -> None:
    codec = load_directory(tiny_directory)
    codes_QT = encode_one(codec, sweep(13 * 16_000, 3))
    latents_BTD = codec.embed(codes_QT[None]).transpose(1, 2)
    at_once_SF = codec.network.from_log(codec.network.decode(latents_BTD))[0]
    torch.testing.assert_close(codec._magnitudes(latents_BTD[0].T), at_once_SF, rtol=1e-4, atol=1e-5)


def test_a_minute_and_more_decodes(tiny_directory: Path) -> None:
    codec = load_codec(str(tiny_directory))
    codes = torch.randint(0, codec.codebook_size, (1, codec.n_codebooks, 3200))
    wave = codec.decode(Codes(codes, torch.tensor([3200])))
    assert wave.wave_BT.shape == (1, 3200 * 320)


def test_names_and_editions() -> None:
    assert load_codec("mill-16khz").edition == editions()[-1]
    first = load_codec("mill-16khz@1")
    assert (first.name, first.edition, len(first.weights_sha256)) == ("mill-16khz", "1", 64)
    with pytest.raises(ValueError, match=r"has no edition '99'; editions with weights: 1"):
        load_codec("mill-16khz@99")
    with pytest.raises(ValueError, match=r"codec 'opus' is not known; use pcm-16khz, .*, mill-16khz"):
        load_codec("opus")
    with pytest.raises(ValueError, match="codec 'pcm-16khz@2' is not known"):
        load_codec("pcm-16khz@2")


@pytest.mark.parametrize("edition", editions())
def test_the_embedded_weights_are_small_and_of_the_promised_shape(edition: str) -> None:
    codec = load_codec(f"mill-16khz@{edition}")
    assert (codec.name, codec.edition) == ("mill-16khz", edition)
    assert (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size) == (
        16_000,
        320,
        8,
        1024,
    )
    assert (EMBEDDED_FOLDER / f"mill-16khz@{edition}" / "model.safetensors").stat().st_size <= 20e6
    assert (EMBEDDED_FOLDER / f"mill-16khz@{edition}" / "MODEL_CARD.md").is_file()


def test_the_first_edition_never_changes() -> None:
    codec = load_codec("mill-16khz@1")
    assert codec.weights_sha256 == "ed40e4ce6c0981858c57e916eebdb5ac305ff8550f1cc7e06bc297e851095bd7"


@pytest.mark.parametrize("edition", [edition for edition in editions() if edition in ("1", "2")])
def test_the_second_edition_has_the_codes_of_the_first(edition: str) -> None:
    codec = load_codec(f"mill-16khz@{edition}")
    n = torch.arange(16_000)
    wave_T = (((n * n // 700) % 97 - 48) * (1 + n // 2000)).float() / 1000
    codes = encode_one(codec, wave_T).to(torch.int16).numpy().tobytes()
    assert (
        hashlib.sha256(codes).hexdigest()
        == "791236d57964efef26912c49c8d1d48af8e8d32112391cc7cc07a31f59879f03"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hop_length": 322}, "hop_length is 322"),
        ({"latent_channels": 999}, "at most"),
        ({"contrast": 0.0}, "above 0"),
        ({"griffin_lim_iterations": -1}, "griffin_lim_iterations is -1"),
        ({"griffin_lim_start": "zero"}, "griffin_lim_start is 'zero': must be one of random, peaks"),
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MillConfig(**wrong)


def test_unseen_speech_stays_intelligible(shared_data: Path) -> None:
    codec = load_codec("mill-16khz")
    assert isinstance(codec, MillCodec)
    for name in ("LJ001-0002", "LJ001-0004"):
        samples, rate = soundfile.read(shared_data / "ljspeech" / f"{name}.flac", dtype="float32")
        samples = soxr.resample(samples, rate, codec.sample_rate)[: 5 * codec.sample_rate]
        codes = codec.encode(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        decoded = codec.decode(codes).wave_BT[0, : len(samples)].numpy()
        assert stoi(samples, decoded, codec.sample_rate) > 0.88
