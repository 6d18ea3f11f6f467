"""The embedded codec behind the codec interface: canonical padding, long audio in pieces, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.codecs import files
from models.codecs.chunking import in_pieces
from models.codecs.interface import (
    Codes,
    Context,
    Identified,
    Latents,
    Wave,
    check_code_lengths,
    check_codes,
    check_latents,
    check_level_range,
    check_wave,
    frame_lengths,
)
from models.codecs.mill.head import HeadConfig
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.mill.spectrum import cut_at_quiet
from models.identity import TokenIdentity
from models.layers.masks import length_mask, mask_rows

KIND = "mill"
_PIECE_FRAMES = 500
_LONGEST_PHRASE_S = 60


class MillCodec(Identified):
    """Encodes in float64: rounding then never decides between two codes, whatever the batch, the number of threads
    or the length of the pieces, and the same recording gives the same codes everywhere. Decodes in float32.
    """

    max_samples: int | None = None

    def __init__(self, network: MillNetwork, name: str, edition: str, weights_sha256: str) -> None:
        config = network.config
        sizes = (config.sample_rate, config.hop_length, config.n_codebooks, config.codebook_size)
        self.identity = TokenIdentity(name, edition, weights_sha256, *sizes)
        self.latents = replace(self.identity, n_codebooks=0, codebook_size=0, channels=config.latent_channels)
        self.config = config
        self.network = network.float().eval().requires_grad_(False)
        self._encoder = MillNetwork(replace(config, head=None)).double().eval().requires_grad_(False)
        weights = network.state_dict()
        self._encoder.load_state_dict({key: weights[key] for key in self._encoder.state_dict()})
        self.device = self.network.mean_M.device
        self._encoder.to(self.device)
        # Griffin-Lim finds the phases of a whole phrase at once.
        self.context = Context(self._encoder.encoder_context, None)

    @torch.no_grad()
    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 -> codes (B, n_codebooks, ceil(T / hop)); ValueError for NaN or bad lengths."""
        frames_B, pieces = self._encoded(wave_BT, lengths_B)
        frames = int(frames_B.max()) if len(frames_B) else 0
        codes_BTQ = torch.zeros(
            len(frames_B), frames, self.config.n_codebooks, dtype=torch.int64, device=self.device
        )
        heard_BT = length_mask(frames_B.to(self.device), frames)
        start = 0
        for latents_BDP in pieces:
            end = start + latents_BDP.shape[2]
            heard_BP = heard_BT[:, start:end]
            # The search takes most of the time, so padding is left out of it.
            latents_ND = latents_BDP.transpose(1, 2)[heard_BP]
            codes_BTQ[:, start:end][heard_BP] = self._encoder.quantizer.search(
                latents_ND, self.config.search_width
            )
            start = end
        return Codes(codes_BTQ.transpose(1, 2)[:, : self.n_codebooks], frames_B)

    @torch.no_grad()
    def encode_latents(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves as for `encode` -> the encoder's output (B, frames, D) float32, not quantized."""
        frames_B, pieces = self._encoded(wave_BT, lengths_B)
        nothing_BDT = torch.zeros(len(frames_B), self.latents.channels, 0, device=self.device)
        latents_BDT = torch.cat([nothing_BDT, *(piece.float() for piece in pieces)], dim=2)
        return Latents(mask_rows(latents_BDT, frames_B).transpose(1, 2), frames_B)

    def _encoded(self, wave_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Iterator[Tensor]]:
        """Frames of each row, and latents (B, D, P) float64 of consecutive segments of frames."""
        check_wave(wave_BT, lengths_B)
        frames_B = frame_lengths(lengths_B, self.hop_length)
        wave_BT = mask_rows(wave_BT.to(self.device, torch.float64), lengths_B)
        frames = int(frames_B.max()) if len(frames_B) else 0
        context, hop = self._encoder.encoder_context, self.hop_length
        padded = functional.pad(wave_BT, (context * hop, (context + frames) * hop - wave_BT.shape[1]))
        pieces = in_pieces(
            self._latents,
            padded,
            piece=_PIECE_FRAMES,
            context=context,
            values_per_frame=hop,
            frames=frames,
            lead=context,
        )
        return frames_B, pieces

    def _latents(self, wave_BT: Tensor) -> Tensor:
        """Waves of whole frames -> latents (B, D, frames)."""
        network = self._encoder
        return network.encode(network.log_mel(network.magnitudes(wave_BT))).transpose(1, 2)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Wave:
        """Codes (B, k, T) of the first k levels -> waves (B, T * hop) float32, each row from its own frames."""
        check_code_lengths(codes)
        check_codes(codes.codes_BQT, self.n_codebooks, 0, self.codebook_size - 1)
        rows = (
            codes_QT[:, :n] for codes_QT, n in zip(codes.codes_BQT, codes.lengths_B.tolist(), strict=True)
        )
        latents_DT = (self.embed(codes_QT[None])[0] for codes_QT in rows)
        return self._decode_rows(latents_DT, codes.lengths_B, codes.codes_BQT.shape[2])

    @torch.no_grad()
    def decode_latents(self, latents: Latents) -> Wave:
        """Latents (B, T, D), quantized or not -> waves as of `decode`."""
        check_latents(latents, self.latents.channels)
        latents_BTD = latents.latents_BTD.to(self.device, torch.float32)
        rows = zip(latents_BTD, latents.lengths_B.tolist(), strict=True)
        latents_DT = (latents_TD[:frames].T for latents_TD, frames in rows)
        return self._decode_rows(latents_DT, latents.lengths_B, latents_BTD.shape[1])

    def _decode_rows(self, rows_DT: Iterable[Tensor], frames_B: Tensor, longest: int) -> Wave:
        wave_BT = torch.zeros(len(frames_B), longest * self.hop_length)
        for wave_T, latents_DT in zip(wave_BT, rows_DT, strict=True):
            if latents_DT.shape[1]:
                wave_T[: latents_DT.shape[1] * self.hop_length] = self._decode_row(latents_DT).cpu()
        return Wave(wave_BT.to(self.device), frames_B.to(torch.int64) * self.hop_length, self.sample_rate)

    def _decode_row(self, latents_DT: Tensor) -> Tensor:
        config = self.config
        longest = _LONGEST_PHRASE_S * config.sample_rate // config.spectrum_hop
        phrases = cut_at_quiet(self._magnitudes(latents_DT), longest)
        latents_SD = latents_DT.T.repeat_interleave(config.spectra_per_frame, dim=0)
        waves, start = [], 0
        for phrase_SF in phrases:
            end = start + len(phrase_SF)
            waves.append(self.network.wave(phrase_SF[None], latents_SD[None, start:end])[0])
            start = end
        return torch.cat(waves).clamp(-1.0, 1.0)

    def _magnitudes(self, latents_DT: Tensor) -> Tensor:
        """Latents of one row -> magnitudes (T * spectra_per_frame, F)."""
        pieces = in_pieces(
            lambda piece_DT: self.network.from_log(self.network.decode(piece_DT.T[None]))[0].T,
            latents_DT,
            piece=_PIECE_FRAMES,
            context=self.network.decoder.context,
            outputs_per_frame=self.config.spectra_per_frame,
        )
        return torch.cat(list(pieces), dim=1).T.contiguous()

    @torch.no_grad()
    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors, (B, latent_channels, T) float32."""
        check_codes(codes_BQT, self.n_codebooks, 0, self.codebook_size - 1)
        check_level_range(codes_BQT.shape[1], first_level, self.n_codebooks)
        codes_NQ = codes_BQT.to(self.device).transpose(1, 2).flatten(0, 1)
        vectors_ND = self.network.quantizer.decode(codes_NQ, first_level)
        return vectors_ND.reshape(codes_BQT.shape[0], -1, vectors_ND.shape[1]).transpose(1, 2)


def save_directory(
    network: MillNetwork, directory: Path, name: str, edition: str, contrast: float | None = None
) -> None:
    """Write config.json and model.safetensors in half precision; `contrast` in the place of the network's, if given."""
    settings = network.config if contrast is None else replace(network.config, contrast=contrast)
    config = {key: value for key, value in asdict(settings).items() if value is not None}
    weights = network.state_dict()
    files.write(directory, kind=KIND, name=name, edition=edition, config=config, weights=weights)


def load_directory(directory: Path, device: str | torch.device = "cpu") -> MillCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    if (directory / files.CONFIG).is_file() and files.kind_of(directory) != KIND:
        kind = files.kind_of(directory)
        raise ValueError(f"{directory / files.CONFIG}: kind is {kind!r}; this reads codecs of kind {KIND!r}")
    stored = files.read(directory)
    try:
        config = _config(stored.config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{directory / files.CONFIG}: {error}") from error
    network = files.build(lambda: MillNetwork(config), stored.weights, directory)
    return MillCodec(network.to(device), stored.name, stored.edition, stored.sha256)


def _config(values: Mapping[str, Any]) -> MillConfig:
    head = values.get("head")
    return MillConfig(**{**values, "head": HeadConfig(**head) if head is not None else None})
