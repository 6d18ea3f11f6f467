"""Spectral distances: nothing between equal waves, more for more noise, what descript-audio-codec measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.objectives.spectral import MelDistance, SpectralSettings, StftDistance, spectrum

DISTANCES = [MelDistance(SpectralSettings(), 16_000), StftDistance(SpectralSettings())]


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("samples", [1, 31, 2047, 4000])
def test_equal_waves_are_at_no_distance_whatever_their_length(distance: nn.Module, samples: int) -> None:
    wave_BN = noise(samples)
    assert float(distance(wave_BN, wave_BN)) == 0.0
    assert float(distance(torch.zeros(2, samples), wave_BN)) > 0.5


@pytest.mark.parametrize("distance", DISTANCES)
def test_more_noise_is_farther_and_gradients_lead_back(distance: nn.Module) -> None:
    wave_BN = noise(4000)
    found = [float(distance(wave_BN + level * noise(4000, 1), wave_BN)) for level in (0.01, 0.1, 1.0)]
    assert found == sorted(found)
    assert found[0] > 0
    made_BN = (wave_BN + noise(4000, 1)).requires_grad_()
    before = distance(made_BN, wave_BN)
    before.backward()
    assert made_BN.grad is not None
    step = 0.01 * made_BN.grad / made_BN.grad.norm()
    assert float(distance(made_BN.detach() - step, wave_BN)) < float(before.detach())


@pytest.mark.parametrize("distance", DISTANCES)
def test_silence_has_finite_gradients(distance: nn.Module) -> None:
    made_BN = torch.zeros(1, 4000, requires_grad=True)
    distance(made_BN, noise(4000)[:1]).backward()
    assert made_BN.grad is not None
    assert bool(made_BN.grad.isfinite().all())


def test_what_lies_below_the_floor_is_at_no_distance() -> None:
    made_BN, real_BN = 1e-4 * noise(4000), 1e-4 * noise(4000, 1)
    assert float(MelDistance(SpectralSettings(), 16_000)(made_BN, real_BN)) > 0.1
    assert float(MelDistance(SpectralSettings(mel_floor=0.1), 16_000)(made_BN, real_BN)) == 0.0


def test_distances_are_those_of_dac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # librosa refuses to be imported where numba can write neither beside it nor at home.
    monkeypatch.setattr(pytest.importorskip("numba").config, "CACHE_DIR", str(tmp_path))
    loss = pytest.importorskip("dac.nn.loss")
    audiotools = pytest.importorskip("audiotools")
    settings = SpectralSettings()
    made_BN, real_BN = noise(4000), noise(4000, 1)
    # Its spectra are kept in the signal, so each measure gets its own.
    signals = lambda: [audiotools.AudioSignal(wave_BN[:, None], 16_000) for wave_BN in (made_BN, real_BN)]  # noqa: E731
    mel = loss.MelSpectrogramLoss(
        n_mels=list(settings.mel_counts),
        window_lengths=list(settings.mel_windows),
        mel_fmin=[0.0] * 7,
        mel_fmax=[None] * 7,
        pow=1.0,
        mag_weight=0.0,
    )
    torch.testing.assert_close(DISTANCES[0](made_BN, real_BN), mel(*signals()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(DISTANCES[1](made_BN, real_BN), loss.MultiScaleSTFTLoss()(*signals()))


def test_a_tone_is_in_its_bin() -> None:
    wave_BN = torch.sin(2 * torch.pi * 1000 * torch.arange(4000) / 16_000)[None]
    assert int(spectrum(wave_BN, 512)[0, :, 10].argmax()) == 1000 * 512 // 16_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mel_weight": -1.0}, "mel_weight is -1.0"),
        ({"mel_counts": (5, 10)}, "mel_windows has 7 entries and mel_counts 2"),
        ({"stft_windows": (510,)}, r"stft_windows is \(510,\): needs multiples of 4"),
        ({"mel_windows": (32,), "mel_counts": (0,)}, r"mel_counts is \(0,\)"),
        ({"mel_floor": 0.0}, r"mel_floor is 0\.0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralSettings(**wrong)
