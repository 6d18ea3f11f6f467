"""Objectives of one network over the tokens or features of a dataset: weights in and out, losses, audible samples.

Shapes: B rows, T frames, M hidden frames, Q levels, V codes, D channels of the codec's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.codec_sources import load_levels
from models.codecs.interface import Codec, Codes, Wave
from models.codecs.latents import codebooks
from models.generators import load_generator, save_generator
from models.layers.masks import length_mask
from trainers.data import Batch, CodesBatch
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric

B = TypeVar("B", bound=Batch)


class NetworkObjective(Objective[B]):
    """Base of objectives with one network, which becomes a generator directory."""

    family: ClassVar[str]
    """The trainable's name."""
    network: nn.Module

    def __init__(self, network: nn.Module, data: DataInfo) -> None:
        super().__init__(data)
        self.network = network
        self._codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        """The codec of the data, after `prepare_samples`."""
        assert self._codec is not None
        return self._codec

    def prepare_samples(self) -> None:
        """Load the codec. ValueError or FileNotFoundError if it is not there, or is another one by now."""
        self._codec = codec_of(self.data, next(self.network.parameters()).device)

    def heard(self, ids: Sequence[str], what: str, codes: Codes) -> list[Sample]:
        """Samples `ID-what` of codes, after `prepare_samples`."""
        return audible(ids, what, self.codec.decode(codes))

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a generator directory of the same family and sizes."""
        family, module = load_generator(directory)
        if family != self.family or module.config != self.network.config:
            raise ValueError(
                f"{directory} holds a {family} of {module.config}, not a {self.family} of {self.network.config}"
            )
        self.network.load_state_dict(module.state_dict())

    def export(self, directory: Path) -> None:
        """A generator directory."""
        save_generator(self.network, self.family, directory)


def codec_of(data: DataInfo, device: torch.device | str) -> Codec:
    """The codec of the data's codes. ValueError or FileNotFoundError if it is not there, or has other weights."""
    # Whatever device is being built on: weights are read, not made up.
    with torch.device("cpu"):
        codec = load_levels(data.codec, data.n_codebooks, device)
    if codec.weights_sha256 != data.codec_sha256:
        raise ValueError(
            f"the data was made by {data.codec} with the weights {data.codec_sha256[:12]}, "
            f"which are now {codec.weights_sha256[:12]}: prepare the data again"
        )
    return codec


def codebooks_of(data: DataInfo) -> Tensor:
    """The vectors (Q, V, D) of the data's codes, on the CPU. Errors as `codec_of`."""
    return _codebooks(data.codec, data.codec_sha256, data.n_codebooks)


@lru_cache(maxsize=1)
def _codebooks(codec: str, sha256: str, levels: int) -> Tensor:
    data = DataInfo(codec, 1, 1, levels, 1, 0.0, sha256)
    with torch.device("cpu"):
        return codebooks(codec_of(data, "cpu"))


def frame_mask(batch: CodesBatch) -> Tensor:
    """Bool (B, T), true at valid frames."""
    return length_mask(batch.lengths_B, batch.codes_BQT.shape[2])


def cross_entropy(logits_MV: Tensor, codes_M: Tensor) -> Loss:
    """Sum over the hidden codes, their number, and how many were guessed right."""
    right = (logits_MV.detach().argmax(-1) == codes_M).sum()
    loss = F.cross_entropy(logits_MV.float(), codes_M, reduction="sum")
    count = torch.tensor(len(codes_M), device=codes_M.device)
    return Loss(loss, count, {"accuracy": mean_metric(right, count)})


def audible(ids: Sequence[str], what: str, wave: Wave) -> list[Sample]:
    """The rows of a batch of waves as samples `ID-what`."""
    rows = zip(ids, wave.wave_BT, wave.lengths_B.tolist(), strict=True)
    return [Sample(f"{row}-{what}", wave_T[:n], wave.sample_rate) for row, wave_T, n in rows]
