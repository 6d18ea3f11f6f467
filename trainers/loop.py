"""The training loop: updates, validation, checkpoints and a clean stop. Knows neither ray nor mlflow.

Every random draw is seeded by (seed, position in the data, phase), so a run that stopped continues bit-
exactly, and a run on w ranks draws what a run in one process draws. An update consumes `batches_per_step`
batches whatever the number of ranks, and divides their summed gradients by their summed counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainers.checkpoint import Checkpoints, check_identity, load
from trainers.data import Batch, Batches, Position, Prefetch, seed_of
from trainers.ema import Ema
from trainers.interrupt import stop_on_signal
from trainers.meters import Log, Totals
from trainers.objectives import Objective, Sample
from trainers.optim import OptimConfig, build_optimizer, lr_factor, scale_gradients, set_lr
from trainers.parallel import Parallel

Stopped = Literal["max_steps", "max_epochs", "max_minutes", "interrupted"]


@dataclass(frozen=True)
class LoopConfig:
    """How long, how often, how precise. At least one stop rule must be given; the first one reached ends
    the run."""

    max_steps: int | None = None
    max_epochs: int | None = None
    max_minutes: float | None = None
    """Of training, summed over restarts; validation included."""
    batches_per_step: int = 1
    """Batches per update over all ranks (gradient accumulation); a multiple of the number of workers."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks under autocast; weights and optimiser stay float32."""
    compile: bool = False
    """torch.compile the objective's networks."""
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
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: must be in (0, 1)")

    def identity(self) -> dict[str, Any]:
        """The settings that a continued run must share; how long and how often may change."""
        keep = ("batches_per_step", "precision", "ema_decay", "optim", "phase_optim", "seed")
        return {name: value for name, value in asdict(self).items() if name in keep}


def _ignore(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Hooks:
    """What the loop tells the world; called on rank 0 only."""

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
class Outcome:
    """How a training ended."""

    step: int
    epoch: int
    stopped: Stopped
    checkpoint: Path
    loss: float | None
    """Training loss at the last log entry of this process."""
    validation_loss: float | None
    """Of the best checkpoint."""


def train(
    objective: Objective,
    batches: Batches,
    config: LoopConfig,
    *,
    directory: Path,
    validation: Batches | None = None,
    hooks: Hooks = Hooks(),
    identity: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train `objective` on `batches` until a stop rule or a signal; continue from `directory` if it has a
    checkpoint.

    `identity`: settings that a continued run must share, besides the loop's own; `extra`: plain values to
    keep in the checkpoint (a tracking run's id); `asked_to_stop` is asked after every update, and counts like a signal.
    Raises ValueError for a checkpoint of other settings, FloatingPointError for a loss or gradient that is not finite,
    before the update and naming the step and the rows.
    """
    loop = _Loop(objective, batches, config, directory, validation, hooks, torch.device(device))
    loop.identity |= dict(identity or {})
    loop.extra = dict(extra or {})
    with stop_on_signal() as interrupted:
        return loop.run(lambda: interrupted.is_set() or asked_to_stop())


class _Loop:
    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        config: LoopConfig,
        directory: Path,
        validation: Batches | None,
        hooks: Hooks,
        device: torch.device,
    ) -> None:
        self.parallel = Parallel.current()
        if config.batches_per_step % self.parallel.world:
            raise ValueError(
                f"batches_per_step is {config.batches_per_step}: "
                f"must be a multiple of the {self.parallel.world} workers"
            )
        self.objective, self.batches, self.config, self.device = objective.to(device), batches, config, device
        self.validation, self.hooks = validation, hooks
        self.checkpoints = Checkpoints(directory, config.keep_last)
        self.identity: dict[str, Any] = {"loop": config.identity()}
        self.extra: dict[str, Any] = {}
        self.parameters = {phase: _parameters(objective, phase) for phase in objective.phases}
        self.optim = {phase: config.phase_optim.get(phase, config.optim) for phase in objective.phases}
        self.optimizers = {
            phase: build_optimizer(objective.parameter_groups(phase), self.optim[phase])
            for phase in objective.phases
        }
        self.ema = Ema(objective, config.ema_decay) if config.ema_decay is not None else None
        self.step, self.position = 0, Position(0, 0)
        self.elapsed_s, self._resumed_s = 0.0, time.monotonic()
        self.best: float | None = None
        self.last_loss: float | None = None
        self.log = Log()

    def run(self, interrupted: Callable[[], bool]) -> Outcome:
        self._start()
        stopped = self._stopped(interrupted)
        updates = Prefetch(
            self.batches.stream(
                self.position, self.config.batches_per_step, self.parallel.rank, self.parallel.world
            )
        )
        saved = 0 if self.checkpoints.latest() is None else self.step
        try:
            while stopped is None:
                micro_batches, following = next(updates)
                self._update(micro_batches)
                self.position = following
                stopped = self._stopped(interrupted)
                if self._due(stopped):
                    saved = self.step
        finally:
            updates.close()
        if saved != self.step or self.checkpoints.latest() is None:
            self._save(best=False)
        return self._outcome(stopped)

    def _start(self) -> None:
        if self._makes_samples():
            self.objective.prepare_samples()
        latest = self.checkpoints.latest()
        if latest is not None:
            self._restore(latest)
        else:
            torch.manual_seed(seed_of(self.config.seed, "initialise"))
            self.objective.train()
            with torch.no_grad():
                self.objective.initialise(
                    (batch.to(self.device) for batch in self.batches.once()), self._generator("initialise")
                )
            self.parallel.broadcast(self.objective)
            if self.ema is not None:
                self.ema.reset(self.objective)
        if self.config.compile:
            for network in self.objective.networks():
                network.compile(dynamic=True)
        self._resumed_s = time.monotonic()

    def _due(self, stopped: Stopped | None) -> bool:
        """Log, validate and save what this step asks for; whether a checkpoint was written."""
        config, ends = self.config, stopped is not None
        if self.step % config.log_every == 0 or ends:
            self._log()
        if self.step % config.validate_every == 0 or (ends and stopped != "interrupted"):
            self._save(best=self._validate())
            return True
        if config.checkpoint_every is not None and self.step % config.checkpoint_every == 0:
            self._save(best=False)
            return True
        return False

    def _update(self, micro_batches: list[Batch]) -> None:
        self.objective.train()
        moved = [batch.to(self.device) for batch in micro_batches]
        for phase in self.objective.phases:
            if self.objective.active(phase, self.step):
                self._phase(phase, moved)
        self.step += 1
        self.objective.after_step(self.step)
        if self.ema is not None:
            self.ema.update(self.objective)

    def _phase(self, phase: str, micro_batches: list[Batch]) -> None:
        optimizer, optim = self.optimizers[phase], self.optim[phase]
        self._freeze_others(phase)
        optimizer.zero_grad(set_to_none=True)
        totals = Totals(self.device)
        for batch in micro_batches:
            generator = self._generator(*batch.position, phase)
            with self._autocast():
                loss = self.objective(batch, phase, generator)
            loss.sum.backward()
            totals.add(loss, batch)
        totals.reduce(self.parallel)
        self.parallel.sum_gradients(self.parameters[phase])
        count = totals.count.clamp(min=1)
        norm = scale_gradients(self.parameters[phase], 1 / count, optim.clip_norm)
        self._refuse_non_finite(phase, totals, norm, micro_batches)
        lr = optim.lr * lr_factor(optim, self.step, self._progress())
        set_lr(optimizer, lr)
        optimizer.step()
        self.log.add(phase if len(self.objective.phases) > 1 else "", totals, norm, lr)

    def _freeze_others(self, phase: str) -> None:
        if len(self.objective.phases) > 1:
            own = {id(p) for p in self.parameters[phase]}
            for parameters in self.parameters.values():
                for parameter in parameters:
                    parameter.requires_grad_(id(parameter) in own)

    def _refuse_non_finite(
        self, phase: str, totals: Totals, norm: Tensor, micro_batches: list[Batch]
    ) -> None:
        loss, size = float(totals.sum), float(norm)
        if math.isfinite(loss) and math.isfinite(size):
            return
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {size}"
        ids = [row for batch in micro_batches for row in batch.ids]
        shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        raise FloatingPointError(
            f"{what} in phase {phase!r} of step {self.step} (rows {shown}); stopped before the update"
        )

    def _progress(self) -> float:
        """Share of the whole training that is done, by the stop rule that is closest."""
        config, done = self.config, [0.0]
        if config.max_steps:
            done.append(self.step / config.max_steps)
        if config.max_epochs:
            length = len(self.batches.epoch(self.position.epoch))
            done.append((self.position.epoch + self.position.batch / length) / config.max_epochs)
        if config.max_minutes:
            done.append(self.elapsed_s / 60 / config.max_minutes)
        return max(done)

    def _stopped(self, interrupted: Callable[[], bool]) -> Stopped | None:
        """Decided together: rank 0's clock, and any rank's signal."""
        config = self.config
        now_s = time.monotonic()
        clock = torch.zeros(2, dtype=torch.float64, device=self.device)
        if self.parallel.rank == 0:
            clock[0] = self.elapsed_s + now_s - self._resumed_s
        self._resumed_s = now_s
        clock[1] = float(interrupted())
        self.elapsed_s, signals = self.parallel.sum(clock).tolist()
        if signals:
            return "interrupted"
        if config.max_steps is not None and self.step >= config.max_steps:
            return "max_steps"
        if config.max_epochs is not None and self.position.epoch >= config.max_epochs:
            return "max_epochs"
        if config.max_minutes is not None and self.elapsed_s >= config.max_minutes * 60:
            return "max_minutes"
        return None

    def _log(self) -> None:
        metrics = self.log.take()
        metrics["epoch"] = self.position.epoch + self.position.batch / len(
            self.batches.epoch(self.position.epoch)
        )
        self.last_loss = metrics.get("loss", self.last_loss)
        if self.parallel.rank == 0:
            self.hooks.on_log(self.step, metrics)

    def _validate(self) -> bool:
        """Validate and report; whether this is the lowest loss so far."""
        if self.validation is None or not self.config.validation_batches:
            return False
        self.objective.eval()
        with torch.no_grad(), self._averaged():
            totals = Totals(self.device)
            count = min(self.config.validation_batches, len(self.validation.epoch(0)))
            for index in range(self.parallel.rank, count, self.parallel.world):
                batch = self.validation.load(Position(0, index)).to(self.device)
                with self._autocast():
                    totals.add(self.objective.validate(batch, self._generator("validation", index)), batch)
            totals.reduce(self.parallel)
            samples = self._samples()
        metrics = {f"validation_{name}": value for name, value in totals.means().items()}
        loss = metrics["validation_loss"]
        better = self.best is None or loss < self.best
        self.best = loss if better else self.best
        if self.parallel.rank == 0:
            self.hooks.on_validate(self.step, metrics, samples)
        return better

    def _makes_samples(self) -> bool:
        wanted = self.config.samples > 0 and self.config.validation_batches > 0
        return wanted and self.validation is not None and self.parallel.rank == 0

    def _samples(self) -> list[Sample]:
        if not self._makes_samples():
            return []
        assert self.validation is not None
        batch = self.validation.load(Position(0, 0)).rows(self.config.samples).to(self.device)
        return self.objective.samples(batch, self._generator("samples"))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.ema is None:
            yield
        else:
            with self.ema.applied(self.objective):
                yield

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _generator(self, *place: object) -> torch.Generator:
        seed = seed_of(self.config.seed, *place)
        # Layers such as dropout draw from the global generators.
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed)

    def _save(self, *, best: bool) -> None:
        if self.parallel.rank:
            return
        state = {
            "objective": self.objective.state_dict(),
            "optimizers": {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()},
            "ema": self.ema.weights if self.ema is not None else None,
            "step": self.step,
            "position": list(self.position),
            "elapsed_s": self.elapsed_s,
            "best": self.best,
            "identity": self.identity,
            "extra": self.extra,
        }
        path = self.checkpoints.save(state, self.step, best=best)
        self.hooks.on_checkpoint(self.step, path, best)

    def _restore(self, path: Path) -> None:
        state = load(path, self.device)
        check_identity(path, state["identity"], self.identity)
        self.objective.load_state_dict(state["objective"])
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][phase])
        if self.ema is not None:
            self.ema.weights = state["ema"]
        self.step, self.position = state["step"], Position(*state["position"])
        self.elapsed_s, self.best = state["elapsed_s"], state["best"]

    def _outcome(self, stopped: Stopped | None) -> Outcome:
        best = self.checkpoints.best()
        assert stopped is not None
        assert best is not None
        return Outcome(self.step, self.position.epoch, stopped, best, self.last_loss, self.best)


def _parameters(objective: Objective, phase: str) -> list[Tensor]:
    return [p for group in objective.parameter_groups(phase) for p in group["params"]]
