"""A small classifier of short utterances, an honest ear: trained on recordings, it judges what a system says.

It tells apart words (the demo's digits) or speakers. An utterance is cut at its silences, its log-mel spectrogram is
stretched to 48 frames and standardised; a two-layer convolutional network tells the classes apart.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.audio.containers import Samples

SAMPLE_RATE = 16_000
_FRAMES, _MELS = 48, 40
_TRIM_DB = -35.0


@dataclass(frozen=True)
class UtteranceClassifier:
    """A trained network; `recognize` gives the class each wave sounds most like."""

    network: nn.Module
    classes: tuple[str, ...]

    def recognize(self, waves: Sequence[Samples]) -> list[str]:
        """Waves (T,) float32 at 16 kHz -> one of `classes` each."""
        return [self.classes[index] for index in self.log_probabilities(waves).argmax(dim=1).tolist()]

    @torch.no_grad()
    def log_probabilities(self, waves: Sequence[Samples]) -> Tensor:
        """Waves (T,) float32 at 16 kHz -> (B, C) in the order of `classes`."""
        scores_BC: Tensor = self.network(_features(waves))
        return scores_BC.log_softmax(dim=1)

    def correct(self, waves: Sequence[Samples], labels: Sequence[str]) -> int:
        """Number of `waves` that are recognised as the class they should be."""
        return sum(heard == label for heard, label in zip(self.recognize(waves), labels, strict=True))


def train_classifier(
    waves: Sequence[Samples],
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 300,
) -> UtteranceClassifier:
    """Fit on labelled recordings (16 kHz). ValueError when a class has no recording, or a recording no class."""
    missing, unknown = sorted(set(classes) - set(labels)), sorted(set(labels) - set(classes))
    if missing:
        raise ValueError(f"the recordings hold no {', '.join(missing)}; every class needs at least one")
    if unknown:
        raise ValueError(f"a recording is labelled {unknown[0]!r}; the classes are {', '.join(classes)}")
    draws = torch.Generator().manual_seed(seed)
    features_BFM = _features(waves)
    labels_B = torch.tensor([classes.index(label) for label in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(len(classes))
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
        for _ in range(steps):
            rows = torch.randint(len(waves), (64,), generator=draws)
            loss = functional.cross_entropy(network(_disturb(features_BFM[rows], draws)), labels_B[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return UtteranceClassifier(network.eval(), tuple(classes))


def _network(n_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(_MELS, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * (_FRAMES // 8), n_classes),
    )


def _disturb(features_BMF: Tensor, draws: torch.Generator) -> Tensor:
    """Noise and small shifts, so that the classifier does not lean on the exact sound of the recordings."""
    noise = 0.3 * torch.randn(features_BMF.shape, generator=draws)
    shift = int(torch.randint(-3, 4, (1,), generator=draws))
    return torch.roll(features_BMF + noise, shift, dims=2)


def _features(waves: Sequence[Samples]) -> Tensor:
    """(B, mels, frames) of the trimmed waves, standardised per utterance."""
    return torch.stack(
        [_feature(torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))) for wave in waves]
    )


@functools.cache
def _mel_filters() -> Tensor:
    import torchaudio

    filters_FM: Tensor = torchaudio.functional.melscale_fbanks(201, 50.0, 7600.0, _MELS, SAMPLE_RATE)
    return filters_FM.T


def _feature(wave_T: Tensor) -> Tensor:
    mel_MF = _mel_filters() @ (
        torch.stft(
            functional.pad(wave_T, (0, max(0, 800 - len(wave_T)))),
            400,
            160,
            window=torch.hann_window(400),
            return_complex=True,
        ).abs()
        ** 2
    )
    energy_F = 10 * torch.log10(mel_MF.sum(0) + 1e-10)
    loud = torch.nonzero(energy_F > energy_F.max() + _TRIM_DB).flatten()
    log_MF = torch.log(mel_MF[:, int(loud[0]) : int(loud[-1]) + 1] + 1e-6)
    log_MF = functional.interpolate(log_MF[None], size=_FRAMES, mode="linear", align_corners=False)[0]
    return (log_MF - log_MF.mean()) / log_MF.std().clamp(min=1e-3)
