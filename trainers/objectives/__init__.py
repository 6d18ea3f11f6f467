"""The objective of a family: a batch becomes a loss; everything else about training is the loop's.

`trainers/objectives/<family>.py` maps the family's trainables to their objectives in `OBJECTIVES`.

An objective owns its networks and may import torch and `models`, but neither ray, mlflow nor `catalog`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from models.checkpoints import Json, Record, Values
from models.families import family_of
from models.identity import TokenIdentity
from trainers.data import Batch, Collator
from trainers.plan import Needs
from trainers.store import Store

B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Loss:
    """A loss as a sum and what it is a mean over, so that uneven batches and ranks add up exactly.

    `sum` is a differentiable scalar, `count` a scalar (positions, frames or samples). Each metric is a
    tensor of shape (2,): its sum and its count, reduced like the loss; `mean_metric` makes one.
    """

    sum: Tensor
    count: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


def mean_metric(total: Tensor, count: Tensor | float) -> Tensor:
    """A metric for `Loss.metrics`: (sum, count) as float32 of shape (2,), detached."""
    total = total.detach().float()
    return torch.stack([total, torch.as_tensor(count, dtype=torch.float32, device=total.device)])


@dataclass(frozen=True)
class Sample:
    """Something to listen to at a validation: `wave_T` float32 in [-1, 1] at `sample_rate` Hz."""

    name: str
    wave_T: Tensor
    sample_rate: int


@dataclass(frozen=True)
class DataInfo:
    """Facts about the dataset for its objective: the codec its codes came from, and its text-to-length
    ratio.
    """

    codec: str
    """Source for `models.codecs.load_codec`, e.g. `mill-16khz@1`."""
    sample_rate: int
    hop_length: int
    n_codebooks: int
    codebook_size: int
    frames_per_byte: float
    """Frames of all training rows over their UTF-8 bytes of text (at least one byte a row)."""
    codec_sha256: str = ""
    """Digest of the codec's weights: codes mean nothing to other ones."""
    text: Mapping[str, Json] | None = None
    """The `text` settings that a dataset was prepared with; None for rows of unknown origin."""
    columns: Mapping[str, TokenIdentity] = field(default_factory=dict)
    """Makers of further token and latent columns, as far as the data name them."""
    chunk_frames: int = 0
    chunk_stride: int = 0
    """Of a codec that codes overlapping chunks, as in `TokenIdentity`."""

    @staticmethod
    def from_record(record: Values) -> DataInfo:
        """Read what `dataclasses.asdict` made of one, as `training.json` holds it."""
        columns = {name: TokenIdentity(**values) for name, values in record.get("columns", {}).items()}
        return DataInfo(**{**record, "columns": columns})


class Objective(nn.Module, Generic[B]):
    """Base of all objectives. Built as `cls(model, settings, data)`; parameters live in sub-modules. B is what its
    collator makes.
    """

    model_config: ClassVar[type]
    """Frozen dataclass of the `model` section of a fit configuration."""
    settings: ClassVar[type]
    """Frozen dataclass of the `objective` section."""
    legacy: ClassVar[Mapping[str, Json]] = {}
    """Objective settings that were added later, by dotted key, with what runs had before."""
    phases: tuple[str, ...] = ("generator",)
    """Updates made from the same batches in this order at every step, each with its own optimiser."""

    def __init__(self, data: DataInfo) -> None:
        super().__init__()
        self.data = data

    @classmethod
    def derive(cls, settings: Any, data: DataInfo) -> Record:  # noqa: ARG003
        """Model settings that follow from the data; a configuration that contradicts one is refused."""
        return {}

    @classmethod
    def resolve(cls, settings: Any, data: DataInfo) -> Any:  # noqa: ARG003
        """The objective's settings completed from the data. `data.frames_per_byte` is not known yet, nor in `needs`."""
        return settings

    @classmethod
    def needs(cls, settings: Any, data: DataInfo) -> Needs:  # noqa: ARG003
        """The columns and companions that batches are made from, besides ids and codes."""
        return Needs()

    @classmethod
    def collator(cls, settings: Any, data: DataInfo) -> Collator[B]:  # noqa: ARG003
        """The function that makes batches, in a thread of its own; draws come from the items' seeds."""
        raise TypeError(f"{cls.__name__} does not define collator()")

    def networks(self) -> Sequence[nn.Module]:
        """Modules worth compiling or sharding as a unit (called through their `forward`)."""
        return list(self.children())

    def initialise(self, batches: Iterable[B], generator: torch.Generator) -> None:
        """Called once before the first step (not on resume): data-dependent starts such as k-means."""

    def active(self, phase: str, step: int) -> bool:  # noqa: ARG002
        """True if `phase` updates at `step`; a discriminator may start late."""
        return True

    def parameter_groups(self, phase: str) -> list[Record]:
        """Groups for the optimiser of `phase`: `params`, optional `lr_scale` and `weight_decay`."""
        if len(self.phases) > 1:
            raise TypeError(
                f"{type(self).__name__} has phases {self.phases} and must name the parameters of {phase!r}"
            )
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def loss(self, batch: B, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Loss of one batch; every random draw comes from `generator` (on the CPU)."""
        raise TypeError(f"{type(self).__name__} does not define loss()")

    def validate(self, batch: B, generator: torch.Generator) -> Loss:
        """Loss of one validation batch, without gradients and in evaluation mode."""
        return self.loss(batch, self.phases[0], generator)

    def after_step(self, step: int) -> None:
        """Called after the update of `step` (counted from 1): codebook revival and the like."""

    def prepare_samples(self) -> None:
        """Load what `samples` needs. Called before the training, so that what is missing is missed at once."""

    def samples(self, batch: B, generator: torch.Generator) -> list[Sample]:  # noqa: ARG002
        """Audio for listening, made from one validation batch."""
        return []

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The tokenizers whose output the network reads or writes, by their role in a system, where that is not just
        the codec of the data.
        """
        return {}

    def statistics(self, rows: Store) -> dict[str, float]:  # noqa: ARG002
        """Figures of the training rows that belong to what `export` writes."""
        return {}

    def warm_start(self, directory: Path) -> None:
        """Start from the weights in `directory`, which `export` wrote."""
        raise ValueError(f"{type(self).__name__} cannot start from the weights in {directory}")

    def export(self, directory: Path) -> None:  # noqa: ARG002
        """Write what is registered (a generator directory, a codec directory) into `directory`."""
        raise TypeError(f"{type(self).__name__} does not define export()")

    def forward(self, batch: B, phase: str, generator: torch.Generator) -> Loss:
        """`loss`, through the hooks of `nn.Module`."""
        return self.loss(batch, phase, generator)


def objective_class(name: str) -> type[Objective[Any]]:
    """The objective of a trainable; only its own family's module is imported. ValueError names the known ones."""
    module = importlib.import_module(f"trainers.objectives.{family_of(name).name}")
    found: type[Objective[Any]] = module.OBJECTIVES[name]
    return found
