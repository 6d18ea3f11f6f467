"""The encoder as users of raoabinav/versaface_autoencoder call it: a path or an array in, arrays out.

Shapes: S samples, T frames, D channels of the features, c of the latents, Q levels. Every result is a batch of one.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.codecs.interface import Codec, Latents
from models.prompt import codes_of, resampled
from models.semantic.tokenizer import SemanticTokenizer

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Read = Callable[[str | Path], tuple[Floats, int]]
"""Samples (S,) in [-1, 1] and their rate, Hz."""


class Metis8dEncoder:
    """Features, latents and codes of single recordings, resampled as voice prompts are."""

    def __init__(self, tokenizer: SemanticTokenizer, codec: Codec, read: Read | None = None) -> None:
        """`codec` makes the acoustic codes. `read` reads a path; by default PCM WAV files only, as `read_wav`."""
        self.tokenizer, self.codec, self._read = tokenizer, codec, read or read_wav

    def encode_waveform(self, samples: Floats, sample_rate: int) -> tuple[Floats, Floats]:
        """Samples (S,) -> features (1, T, D), as the tokenizer normalises them, and latents (1, T, c)."""
        features = self._features(_checked(samples, "the waveform"), sample_rate)
        return _array(features.latents_BTD), _array(self.tokenizer.latents_of(features).latents_BTD)

    def encode_waveform_16k(self, samples: Floats) -> tuple[Floats, Floats]:
        """`encode_waveform` of 16 kHz."""
        return self.encode_waveform(samples, 16_000)

    def encode_from_path(self, path: str | Path) -> tuple[Floats, Floats]:
        """`encode_waveform` of a file. FileNotFoundError if it is missing, ValueError if it is empty or no audio."""
        return self.encode_waveform(*self._samples(path))

    def encode_acoustic_from_path(self, path: str | Path) -> Codes:
        """Codes (1, T, Q) of the codec."""
        return self._acoustic(*self._samples(path))

    def encode_semantic_code_from_path(self, path: str | Path) -> Codes:
        """Semantic codes (1, T)."""
        return self.semantic_codes(self.encode_from_path(path)[1])

    def encode_full_from_path(self, path: str | Path) -> tuple[Codes, Floats, Codes]:
        """Semantic codes (1, T), the features (1, T, D) that they stand for, and acoustic codes (1, T, Q)."""
        samples, rate = self._samples(path)
        latents = self.tokenizer.latents_of(self._features(samples, rate))
        codes = self.tokenizer.quantize(latents)
        decoded = self.tokenizer.reconstruct(codes).latents_BTD
        return codes.codes_BQT[:, 0].cpu().numpy(), _array(decoded), self._acoustic(samples, rate)

    def encode_prompt_from_path(self, path: str | Path) -> tuple[Codes, Codes]:
        """Semantic (1, T) and acoustic codes (1, T, Q): what `Metis8dDecoder.decode_from_z` takes as the voice."""
        semantic, _, acoustic = self.encode_full_from_path(path)
        return semantic, acoustic

    def semantic_codes(self, z: Floats) -> Codes:
        """Latents (1, T, c) or (T, c) -> semantic codes (1, T), by the tokenizer's metric."""
        latents_BTc = torch.from_numpy(np.array(z, np.float32)).reshape(-1, *z.shape[-2:])
        channels = self.tokenizer.latents.channels
        if z.ndim not in (2, 3) or len(latents_BTc) != 1 or z.shape[-1] != channels:
            raise ValueError(f"z has shape {z.shape}; expected (1, frames, {channels})")
        latents = Latents(latents_BTc, torch.tensor([latents_BTc.shape[1]]))
        return self.tokenizer.quantize(latents).codes_BQT[:, 0].cpu().numpy()

    def _samples(self, path: str | Path) -> tuple[Floats, int]:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is no file")
        samples, rate = self._read(path)
        return _checked(samples, str(path)), rate

    def _features(self, samples: Floats, sample_rate: int) -> Latents:
        wave_T = resampled(torch.from_numpy(samples), sample_rate, self.tokenizer.sample_rate)
        features = self.tokenizer.features.embed(wave_T[None], torch.tensor([len(wave_T)]))
        if not features.latents_BTD.shape[1]:
            raise ValueError(f"{len(samples)} samples at {sample_rate} Hz are too short for a frame")
        return features

    def _acoustic(self, samples: Floats, sample_rate: int) -> Codes:
        wave_T = resampled(torch.from_numpy(samples), sample_rate, self.codec.sample_rate)
        return codes_of(wave_T, self.codec).T[None].cpu().numpy()


def interpolate(first: Floats, second: Floats, share: float) -> Floats:
    """Latents (..., T, c) on the line from `first` (`share` 0) to `second` (1), frame by frame, of the shorter one."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share:g}, must be from 0 to 1")
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"latents have {first.shape[-1]} and {second.shape[-1]} channels, must have equally many"
        )
    frames = min(first.shape[-2], second.shape[-2])
    mixed: Floats = (1 - np.float32(share)) * first[..., :frames, :] + np.float32(share) * second[
        ..., :frames, :
    ]
    return mixed


def read_wav(path: str | Path) -> tuple[Floats, int]:
    """A PCM WAV file of 16, 24 or 32 bits, its channels averaged. ValueError names the file and what is wrong."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is no PCM WAV file: {error}") from error
    if width not in (2, 3, 4):
        raise ValueError(f"{path} has samples of {8 * width} bits, must be 16, 24 or 32")
    # The highest bytes of int32, so that all widths share one full scale.
    whole = data[: len(data) // (width * channels) * width * channels].reshape(-1, width)
    padded = np.zeros((len(whole), 4), np.uint8)
    padded[:, 4 - width :] = whole
    samples = padded.view("<i4").reshape(-1, channels).mean(axis=1) / 2**31
    return samples.astype(np.float32), rate


def _checked(samples: Floats, name: str) -> Floats:
    """ValueError unless it is one channel of finite samples."""
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"{name} has shape {samples.shape}; expected one channel that is not empty")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} holds NaN or infinite samples")
    return np.asarray(samples, np.float32)


def _array(values: Tensor) -> Floats:
    found: Floats = values.float().cpu().numpy()
    return found
