"""Whisper's encoder (arXiv 2212.04356) as features, of a CTranslate2 directory such as those that transcribe.

What it hears of the words is in them, and of the voice less than in a codec's first level: cells of these features
(`fit-units`) are content tokens where no HuBERT is at hand. B rows, T samples or frames, D channels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.codecs import files
from models.codecs.interface import Identified, Latents, check_longest, check_wave
from models.identity import TokenIdentity
from models.layers.masks import pad_rows

if TYPE_CHECKING:
    import ctranslate2

NAME = "whisper"
SAMPLE_RATE, HOP = 16_000, 320
_WEIGHTS = "model.bin"
_WINDOW_S, _SILENCE_S = 30, 1
"""The encoder's window; the silence that it hears after each row, as after every recording that it was trained on."""


class WhisperEncoder(Identified):
    """The encoder's output, each row by itself, with a second of silence after it.

    A row has a frame for every 20 ms that is begun.
    """

    max_samples: int | None = (_WINDOW_S - _SILENCE_S) * SAMPLE_RATE

    def __init__(self, model: ctranslate2.models.Whisper, mels: Any, identity: TokenIdentity) -> None:
        """`mels`: the model's `WhisperFeatureExtractor`."""
        self.identity, self._model, self._mels = identity, model, mels

    @torch.no_grad()
    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> features (B, T, D) float32, on the device of the waves."""
        check_wave(wave_BT, lengths_B)
        check_longest(self.name, lengths_B.tolist(), self.max_samples, "samples")
        waves = wave_BT.cpu().float()
        rows = [
            torch.from_numpy(self._features(wave_T[:length].numpy()))
            for wave_T, length in zip(waves, lengths_B.tolist(), strict=True)
        ]
        if not rows:
            return Latents(torch.zeros(0, 0, self.identity.channels, device=wave_BT.device), lengths_B)
        features_BTD, mask_BT = pad_rows(rows)
        return Latents(features_BTD.to(wave_BT.device), mask_BT.sum(dim=1).to(lengths_B.device))

    def _features(self, wave_T: np.ndarray) -> np.ndarray:
        frames = -(-len(wave_T) // HOP)
        padded_T = np.zeros(frames * HOP + _SILENCE_S * SAMPLE_RATE, np.float32)
        padded_T[: len(wave_T)] = wave_T
        return encoded(self._model, self._mels, padded_T)[:frames]


def encoded(model: ctranslate2.models.Whisper, mels: Any, wave_T: np.ndarray) -> np.ndarray:
    """The encoder's output (T, D) float32 of samples (T,); `mels` is a `WhisperFeatureExtractor`."""
    import ctranslate2

    made = mels(wave_T, sampling_rate=SAMPLE_RATE, padding=False, return_tensors="np")
    batch = np.ascontiguousarray(made["input_features"], np.float32)
    found = model.encode(ctranslate2.StorageView.from_array(batch), to_cpu=True)
    return np.array(found, np.float32).squeeze(0)


def is_model(directory: Path) -> bool:
    """True if CTranslate2's weights are there."""
    return (directory / _WEIGHTS).is_file()


def load(directory: Path, device: str | torch.device = "cpu") -> WhisperEncoder:
    """Read a CTranslate2 directory of Whisper. FileNotFoundError or ValueError names what is missing or wrong."""
    import ctranslate2
    from transformers import WhisperFeatureExtractor

    weights = directory / _WEIGHTS
    files.require(weights)
    where = torch.device(device)
    try:
        model = ctranslate2.models.Whisper(
            str(directory),
            device=where.type,
            device_index=where.index or 0,
            compute_type="float32",
            intra_threads=torch.get_num_threads(),
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{directory} cannot be read: {' '.join(str(error).split())}") from error
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mels = WhisperFeatureExtractor(feature_size=model.n_mels)
    channels = encoded(model, mels, np.zeros(2 * HOP, np.float32)).shape[1]
    identity = TokenIdentity(NAME, "encoder", digest, SAMPLE_RATE, HOP, 0, 0, channels)
    return WhisperEncoder(model, mels, identity)
