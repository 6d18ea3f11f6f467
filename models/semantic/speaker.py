"""Speaker vectors, one per utterance: x-vector networks of transformers, and Resemblyzer's encoder.

B rows, T samples, N frames of a window, M mel bands, D channels. Each row by itself, so nothing depends on the batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.building import no_larger_than
from models.checkpoints import HUB_WEIGHTS, StateReader, filled, read_tensors, state_digest
from models.codecs import files
from models.codecs.hub import local_or_hub
from models.codecs.interface import Identified, Latents, check_longest, check_wave
from models.identity import TokenIdentity

RESEMBLYZER = "resemblyzer"
PUBLISHED = "microsoft/wavlm-base-plus-sv"
"""On the Hugging Face Hub; its weights are under the MIT licence of microsoft/UniSpeech."""
_RATE = 16_000
_LONGEST_S = 120


class SpeakerVectors(Identified, ABC):
    """Unit vectors (B, 1, D); a row that is too short for the network has none."""

    max_samples: int | None = _LONGEST_S * _RATE
    least_samples: int

    def __init__(self, identity: TokenIdentity) -> None:
        self.identity = identity

    @torch.no_grad()
    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> one vector per row."""
        check_wave(wave_BT, lengths_B)
        check_longest(self.name, lengths_B.tolist(), self.max_samples, "samples")
        counts_B = (lengths_B >= self.least_samples).long()
        vectors_B1D = torch.zeros(len(wave_BT), 1, self.identity.channels, device=wave_BT.device)
        for row, length in enumerate(lengths_B.tolist()):
            if length >= self.least_samples:
                vectors_B1D[row, 0] = functional.normalize(self._vector(wave_BT[row, :length].float()), dim=0)
        return Latents(vectors_B1D, counts_B)

    @abstractmethod
    def _vector(self, wave_T: Tensor) -> Tensor:
        """The vector (D,) of a wave that is long enough."""


class XVectors(SpeakerVectors):
    """A network of transformers' AutoModelForAudioXVector."""

    least_samples = _RATE // 2

    def __init__(self, model: Any, normalises: bool, identity: TokenIdentity) -> None:
        """`normalises`: waves get mean 0 and variance 1."""
        super().__init__(identity)
        self.model, self.normalises = model, normalises

    def _vector(self, wave_T: Tensor) -> Tensor:
        if self.normalises:
            wave_T = (wave_T - wave_T.mean()) / (wave_T.var(correction=0) + 1e-7).sqrt()
        vectors_BD: Tensor = self.model(wave_T[None]).embeddings
        return vectors_BD[0].float()


class ResemblyzerNetwork(nn.Module):
    """GE2E's encoder (arXiv 1710.10467) in the sizes of resemble-ai/Resemblyzer: three LSTMs and a layer."""

    def __init__(self, n_mels: int = 40, size: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_mels, size, 3, batch_first=True)
        self.linear = nn.Linear(size, size)

    def forward(self, mel_BNM: Tensor) -> Tensor:
        """Windows -> unit vectors (B, D), not negative."""
        _, (hidden_LBD, _) = self.lstm(mel_BNM)
        vectors_BD: Tensor = functional.normalize(self.linear(hidden_LBD[-1]).relu(), dim=-1)
        return vectors_BD


class Resemblyzer(SpeakerVectors):
    """Mean vector of windows of 1.6 s, 1.3 per second; the package's own trimming of silence is left out.

    Quiet waves are raised to -30 dBFS, as there.
    """

    least_samples = 400
    _WINDOW, _STEP, _HOP = 160, 77, 160
    """Frames of a window, frames between windows (16000 / 1.3 / 160, rounded), samples of a frame."""
    _COVERAGE = 0.75
    """A last window that is filled less is left out, unless it is the only one."""

    def __init__(self, network: ResemblyzerNetwork, identity: TokenIdentity) -> None:
        from torchaudio.transforms import MelSpectrogram

        super().__init__(identity)
        self.network = network.eval().requires_grad_(False)
        options = {"power": 2.0, "norm": "slaney", "mel_scale": "slaney", "pad_mode": "constant"}
        mel: Any = MelSpectrogram(_RATE, n_fft=400, hop_length=self._HOP, n_mels=40, **options)
        self._mel = mel.to(next(network.parameters()).device)

    def _vector(self, wave_T: Tensor) -> Tensor:
        level = wave_T.square().mean().clamp(min=1e-12)
        wave_T = wave_T * (10**-3.0 / level).sqrt().clamp(min=1.0)
        samples, window = len(wave_T), self._WINDOW * self._HOP
        starts = list(range(0, max(1, samples // self._HOP + 1 - self._WINDOW + self._STEP + 1), self._STEP))
        covered = (samples - starts[-1] * self._HOP) / window
        if covered < self._COVERAGE and len(starts) > 1:
            starts.pop()
        wave_T = functional.pad(wave_T, (0, max(0, starts[-1] * self._HOP + window - samples)))
        mel_NM = self._mel(wave_T).T
        windows_BNM = torch.stack([mel_NM[start : start + self._WINDOW] for start in starts])
        vectors_BD: Tensor = self.network(windows_BNM)
        return vectors_BD.mean(dim=0)


def load(model: str, device: str | torch.device = "cpu") -> SpeakerVectors:
    """`resemblyzer` (if that package is installed; nothing of it is run), or a directory or hub id of an x-vector
    network. ValueError names what is missing or wrong.
    """
    return _resemblyzer(device) if model == RESEMBLYZER else _x_vectors(local_or_hub(model), device)


def _resemblyzer(device: str | torch.device) -> Resemblyzer:
    found = importlib.util.find_spec(RESEMBLYZER)
    if found is None or found.origin is None:
        raise ValueError(
            f"{RESEMBLYZER} is not installed; its package brings the weights: pip install resemblyzer"
        )
    path = Path(found.origin).parent / "pretrained.pt"
    state = read_tensors(path, "model_state")
    network, reader = ResemblyzerNetwork(), StateReader(RESEMBLYZER, state)
    taken = {name: reader.take(name, *value.shape) for name, value in network.state_dict().items()}
    for name in ("similarity_weight", "similarity_bias"):
        reader.ignore(name, "scales of the training loss")
    filled(network, taken, reader)
    identity = TokenIdentity(
        RESEMBLYZER, "", state_digest(taken), _RATE, 0, 0, 0, network.linear.out_features
    )
    return Resemblyzer(network.to(device), identity)


def _x_vectors(directory: Path, device: str | torch.device) -> XVectors:
    from safetensors import SafetensorError
    from transformers import AutoModelForAudioXVector

    files.require(directory / files.CONFIG)
    weights = next((directory / name for name in HUB_WEIGHTS if (directory / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{directory} has none of {', '.join(HUB_WEIGHTS)}")
    try:
        with no_larger_than(weights.stat().st_size):
            model: Any = AutoModelForAudioXVector.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{directory} cannot be read: {' '.join(str(error).split())}") from error
    given = directory / "preprocessor_config.json"
    described = json.loads(given.read_text(encoding="utf-8")) if given.is_file() else {}
    if described.get("sampling_rate", _RATE) != _RATE:
        raise ValueError(f"{directory} expects {described['sampling_rate']} Hz, must be {_RATE}")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = str(files.read_config(directory).get("model_type", "x-vector"))
    identity = TokenIdentity(f"{name}-x-vector", "", digest, _RATE, 0, 0, 0, model.config.xvector_output_dim)
    normalises = bool(described.get("do_normalize", False))
    return XVectors(model.to(device).float().eval().requires_grad_(False), normalises, identity)
