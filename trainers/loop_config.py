"""Settings of the training loop, what it reports, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.checkpoints import Record
from trainers.objectives import Sample
from trainers.optim import OptimConfig

Stopped = Literal["max_steps", "max_epochs", "max_minutes", "interrupted"]


@dataclass(frozen=True)
class LoopConfig:
    """Duration, intervals and precision of a training. At least one stop rule must be given; the first one reached ends
    the run.
    """

    max_steps: int | None = None
    max_epochs: int | None = None
    max_minutes: float | None = None
    """Of training, summed over restarts; validation included."""
    minutes_of: Literal["wall", "processor"] = "wall"
    """processor: `max_minutes` is processor time of rank 0, all threads, which other work on the machine changes
    little: for comparisons on the CPU."""
    batches_per_step: int = 1
    """Batches per update over all ranks (gradient accumulation); a multiple of the number of workers."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks under autocast; weights and optimiser stay float32."""
    compile: bool = False
    """torch.compile the objective's networks."""
    activation_checkpointing: bool = False
    """Compute the layers again in the backward pass instead of keeping what they made: far less memory, so longer
    batches, for about a quarter more work. It changes no result."""
    ema_decay: float | None = None
    """Validate and export an exponential moving average of the weights."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    phase_optim: Mapping[str, OptimConfig] = field(default_factory=dict)
    """Optimiser of a named phase where it differs from `optim`."""
    log_every: int = 10
    """Steps between two log entries; each is the mean over the steps since the last."""
    validate_every: int = 500
    """Steps between two validations; each is followed by a checkpoint."""
    checkpoint_every: int | None = None
    """Steps between further checkpoints."""
    keep_last: int = 2
    """Checkpoints kept besides the best."""
    validation_batches: int = 16
    """Batches of one validation at most, always the same ones."""
    samples: int = 2
    """Rows made audible at each validation."""
    sharding: Literal["none", "fsdp"] = "none"
    """fsdp splits weights, gradients and optimiser state over the workers (FSDP2)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None:
            raise ValueError("one of max_steps, max_epochs and max_minutes must be given")
        least = {"batches_per_step": 1, "log_every": 1, "validate_every": 1, "keep_last": 1, "samples": 0}
        least |= {
            "max_steps": 0,
            "max_epochs": 0,
            "max_minutes": 0,
            "checkpoint_every": 1,
            "validation_batches": 0,
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} is {value}: must be at least {lowest}")
        if self.minutes_of not in ("wall", "processor"):
            raise ValueError(f"minutes_of is {self.minutes_of!r}: must be 'wall' or 'processor'")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: must be in (0, 1)")
        optims = (self.optim, *self.phase_optim.values())
        if self.sharding == "fsdp" and any(optim.kind == "muon" for optim in optims):
            raise ValueError("optim.kind is 'muon' and sharding 'fsdp': Muon needs whole matrices; use adamw")

    def identity(self) -> Record:
        """The settings that a continued run must share; how long and how often may change."""
        keep = ("batches_per_step", "precision", "ema_decay", "seed")
        return {
            **{name: getattr(self, name) for name in keep},
            "optim": self.optim.identity(),
            "phase_optim": {phase: optim.identity() for phase, optim in self.phase_optim.items()},
        }


def _ignore(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the loop; called on rank 0 only."""

    on_log: Callable[[int, Mapping[str, float]], None] = _ignore
    """(step, metrics)"""
    on_validate: Callable[[int, Mapping[str, float], Sequence[Sample]], None] = _ignore
    """(step, metrics, samples)"""
    on_checkpoint: Callable[[int, Path, bool], None] = _ignore
    """(step, path, whether it is the best so far)"""


def chain(*hooks: Hooks) -> Hooks:
    """Call several hooks, one after the other."""

    def all_of(name: str) -> Callable[..., None]:
        def call(*values: Any) -> None:
            for each in hooks:
                getattr(each, name)(*values)

        return call

    return Hooks(all_of("on_log"), all_of("on_validate"), all_of("on_checkpoint"))


@dataclass(frozen=True)
class Wishes:
    """Commands given to a running training since its last update."""

    quit: bool = False
    save: bool = False
    evaluate: bool = False
    lr: float = 0.0
    """The new peak learning rate; 0: as it was."""


@dataclass(frozen=True)
class Outcome:
    """Result of a training."""

    step: int
    epoch: int
    stopped: Stopped
    checkpoint: Path
    loss: float | None
    """Training loss at the last log entry of this process."""
    validation_loss: float | None
    """Of the best checkpoint."""
