"""SpeechTokenizer behind the codec interface. Its first level alone is a semantic tokenizer: `speechtokenizer:1`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from models.codecs import files
from models.codecs.chunking import in_pieces
from models.codecs.interface import Context
from models.codecs.rows import RowCodec
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork
from models.identity import TokenIdentity
from models.settings import dataclass_from

KIND = "speechtokenizer"
_LONGEST_S = 20 * 60


class SpeechTokenizerCodec(RowCodec):
    """Each frame depends on the whole row through the LSTMs, which read all of its frames at once; only the layers at
    sample rate run in pieces.
    """

    context = Context(None, None)

    def __init__(self, network: SpeechTokenizerNetwork, name: str, edition: str, weights_sha256: str) -> None:
        config = network.config
        rates = (config.sample_rate, config.hop_length)
        self.identity = TokenIdentity(
            name, edition, weights_sha256, *rates, config.n_codebooks, config.codebook_size
        )
        self.latents = TokenIdentity(name, edition, weights_sha256, *rates, 0, 0, config.latent_channels)
        self.max_samples = _LONGEST_S * config.sample_rate
        self.network: SpeechTokenizerNetwork = network.float().eval().requires_grad_(False)
        self.device = network.quantizer.codebooks_QVD.device
        self.piece_frames = self._usual_piece()

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        encoder = self.network.encoder
        pieces = in_pieces(
            lambda piece_T: encoder.front(piece_T[None, None])[0],
            wave_T,
            piece=self.piece_frames,
            context=encoder.front_context,
            values_per_frame=self.hop_length,
        )
        if len(wave_T):
            yield encoder.back(torch.cat(list(pieces), dim=1)[None])[0]

    def _decoded(self, values: Tensor, vectors: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        if not values.shape[1]:
            return iter(())
        decoder = self.network.decoder
        return in_pieces(
            lambda piece_DT: decoder.back(piece_DT[None])[0, 0],
            decoder.front(vectors(values)[None])[0],
            piece=self.piece_frames,
            context=decoder.back_context,
            outputs_per_frame=self.hop_length,
        )

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        return self.network.quantize(latents_DT[None].float(), slice(self.n_codebooks))[0]

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        return self.network.lookup(codes_QT[None], first_level)[0]


def save_directory(
    network: nn.Module, directory: Path, name: str = "speechtokenizer", edition: str = "1"
) -> None:
    """Write config.json and model.safetensors, float32."""
    assert isinstance(network, SpeechTokenizerNetwork)
    files.write(
        directory,
        kind=KIND,
        name=name,
        edition=edition,
        config=asdict(network.config),
        weights=network.state_dict(),
        dtype=torch.float32,
    )


def load_directory(directory: Path, device: str | torch.device = "cpu") -> SpeechTokenizerCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    stored = files.read(directory)
    config = dataclass_from(SpeechTokenizerConfig, stored.config, str(directory / files.CONFIG))
    network = SpeechTokenizerNetwork(config)
    files.fill(network, stored.weights, directory)
    return SpeechTokenizerCodec(network.to(device), stored.name, stored.edition, stored.sha256)
