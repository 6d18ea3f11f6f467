"""The embedded codec behind the codec interface: canonical padding, long audio in pieces, files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from models.codecs.embedded.network import MillConfig, MillNetwork
from models.codecs.embedded.spectrum import cut_at_quiet, griffin_lim, sharpen
from models.codecs.interface import (
    Codes,
    Wave,
    check_code_lengths,
    check_codes,
    check_wave,
    frame_lengths,
    mask_rows,
)

KIND = "mill"
_PIECE_FRAMES = 500
_LONGEST_PHRASE_S = 60


class MillCodec:
    """Encodes in float64: rounding then never decides between two codes, whatever the batch, the number of threads
    or the length of the pieces, and the same recording gives the same codes everywhere. Decodes in float32.
    """

    def __init__(self, network: MillNetwork, name: str, edition: str, weights_sha256: str) -> None:
        config = network.config
        self.name, self.edition, self.weights_sha256 = name, edition, weights_sha256
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.n_codebooks, self.codebook_size = config.n_codebooks, config.codebook_size
        self.config = config
        self.network = network.float().eval().requires_grad_(False)
        self._encoder = MillNetwork(config).double().eval().requires_grad_(False)
        self._encoder.load_state_dict(network.state_dict())
        self.device = self.network.mean_M.device
        self._encoder.to(self.device)

    @torch.no_grad()
    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 -> codes (B, n_codebooks, ceil(T / hop)); ValueError for NaN or bad lengths."""
        check_wave(wave_BT, lengths_B)
        frames_B = frame_lengths(lengths_B, self.hop_length)
        wave_BT = mask_rows(wave_BT.to(self.device, torch.float64), lengths_B)
        frames = int(frames_B.max()) if len(frames_B) else 0
        context = self._encoder.encoder_context * self.hop_length
        padded = functional.pad(wave_BT, (context, context + frames * self.hop_length - wave_BT.shape[1]))
        pieces = [
            self._encode_piece(padded, start, min(_PIECE_FRAMES, frames - start))
            for start in range(0, frames, _PIECE_FRAMES)
        ]
        codes_BQT = torch.cat(pieces, dim=2) if pieces else self._no_codes(wave_BT.shape[0])
        return Codes(codes_BQT, frames_B)

    def _encode_piece(self, padded_BT: Tensor, start: int, frames: int) -> Tensor:
        context, network = self._encoder.encoder_context, self._encoder
        begin, end = start * self.hop_length, (start + frames + 2 * context) * self.hop_length
        mel_BTM = network.log_mel(network.magnitudes(padded_BT[:, begin:end]))
        latents_BTD = network.encode(mel_BTM)[:, context : context + frames]
        codes_NQ = network.quantizer.search(latents_BTD.flatten(0, 1), self.config.search_width)
        return codes_NQ.reshape(padded_BT.shape[0], frames, -1).transpose(1, 2)

    def _no_codes(self, rows: int) -> Tensor:
        return torch.zeros(rows, self.n_codebooks, 0, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Wave:
        """Codes (B, k, T) of the first k levels -> waves (B, T * hop) float32, each row from its own frames."""
        check_code_lengths(codes)
        lengths_B = codes.lengths_B.to(torch.int64) * self.hop_length
        wave_BT = torch.zeros(codes.codes_BQT.shape[0], codes.codes_BQT.shape[2] * self.hop_length)
        for row, frames in enumerate(codes.lengths_B.tolist()):
            if frames:
                wave_BT[row, : frames * self.hop_length] = self._decode_row(
                    codes.codes_BQT[row, :, :frames]
                ).cpu()
        return Wave(wave_BT.to(self.device), lengths_B, self.sample_rate)

    def _decode_row(self, codes_QT: Tensor) -> Tensor:
        magnitudes_SF = self._magnitudes(codes_QT)
        config = self.config
        longest = _LONGEST_PHRASE_S * config.sample_rate // config.spectrum_hop
        waves = [
            griffin_lim(
                sharpen(phrase_SF, config.contrast), config.spectrum_hop, config.griffin_lim_iterations
            )
            for phrase_SF in cut_at_quiet(magnitudes_SF, longest)
        ]
        return torch.cat(waves).clamp(-1.0, 1.0)

    def _magnitudes(self, codes_QT: Tensor) -> Tensor:
        network, frames, context = self.network, codes_QT.shape[1], self.network.decoder.context
        pieces = []
        for start in range(0, frames, _PIECE_FRAMES):
            begin, end = max(0, start - context), min(frames, start + _PIECE_FRAMES + context)
            latents_BTD = self.embed(codes_QT[None, :, begin:end]).transpose(1, 2)
            inner_BTF = network.decode(latents_BTD)[:, start - begin : start - begin + _PIECE_FRAMES]
            pieces.append(network.from_log(inner_BTF)[0])
        return torch.cat(pieces)

    @torch.no_grad()
    def embed(self, codes_BQT: Tensor) -> Tensor:
        """Codes of the first k levels -> the sum of their vectors, (B, latent_channels, T) float32."""
        check_codes(codes_BQT, self.n_codebooks, 0, self.codebook_size - 1)
        codes_NQ = codes_BQT.to(self.device).transpose(1, 2).flatten(0, 1)
        vectors_ND = self.network.quantizer.decode(codes_NQ)
        return vectors_ND.reshape(codes_BQT.shape[0], -1, vectors_ND.shape[1]).transpose(1, 2)


def save_directory(network: MillNetwork, directory: Path, name: str, edition: str) -> None:
    """Write config.json and model.safetensors (float16, as the codec is meant to be carried along)."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    (directory / "model.safetensors").write_bytes(save(weights))
    described = {"kind": KIND, "name": name, "edition": edition, "config": asdict(network.config)}
    (directory / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_directory(directory: Path, device: str | torch.device = "cpu") -> MillCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"codec directory {directory} has no {name}")
    described = _read_config(directory / "config.json")
    network = MillNetwork(described["config"])
    content = (directory / "model.safetensors").read_bytes()
    weights = load(content)
    wanted = network.state_dict()
    if weights.keys() != wanted.keys() or any(weights[key].shape != wanted[key].shape for key in wanted):
        differing = sorted(weights.keys() ^ wanted.keys()) or [
            k for k in wanted if weights[k].shape != wanted[k].shape
        ]
        raise ValueError(
            f"{directory / 'model.safetensors'} does not fit its config.json: {', '.join(differing)}"
        )
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    digest = hashlib.sha256(content).hexdigest()
    return MillCodec(network.to(device), described["name"], described["edition"], digest)


def _read_config(path: Path) -> dict[str, Any]:
    described = json.loads(path.read_text(encoding="utf-8"))
    if described.get("kind") != KIND:
        raise ValueError(f"{path}: kind is {described.get('kind')!r}; this reads codecs of kind {KIND!r}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in described["config"].items()
    }
    return {**described, "config": MillConfig(**values)}
