"""The training loop: updates, validation, checkpoints and a clean stop. Knows neither ray nor mlflow.

Every random draw is seeded by (seed, position in the data, phase), so a run that stopped continues bit-exactly, and a
run on w ranks draws what a run in one process draws. An update consumes `batches_per_step` batches whatever the number
of ranks, and divides their summed gradients by their summed counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from models.checkpoints import Record, Values
from trainers.activation_checkpointing import checkpoint_activations
from trainers.checkpoint import PARTS, Checkpoints, check_identity, load
from trainers.clock import Clock, epochs_done
from trainers.data import Batch, Batches, Prefetch
from trainers.draws import generator_at
from trainers.ema import Ema
from trainers.interrupt import stop_on_signal
from trainers.loop_config import Hooks, LoopConfig, Outcome, Stopped, Wishes
from trainers.meters import Log, Totals
from trainers.objectives import Objective
from trainers.optim import PhaseOptimizer, lr_factor, scale_gradients, stack_matrices
from trainers.parallel import Parallel
from trainers.plan import Position
from trainers.sharding import load_module, shard, whole
from trainers.validation import Validator, autocast

B = TypeVar("B", bound=Batch)


def train(
    objective: Objective[B],
    batches: Batches[B],
    config: LoopConfig,
    *,
    directory: Path,
    validation: Batches[B] | None = None,
    hooks: Hooks | None = None,
    identity: Values | None = None,
    extra: Values | None = None,
    device: str | torch.device = "cpu",
    stop_requested: Callable[[], bool] = lambda: False,
    commands: Callable[[], Wishes] = Wishes,
) -> Outcome:
    """Train `objective` on `batches` until a stop rule or a signal; continue from a checkpoint in `directory`.

    `identity`: settings that a continued run must share, besides the loop's own; `extra`: plain values to keep in the
    checkpoint (a tracking run's id); `stop_requested` is called after every update, and counts like a signal; so is
    `commands`, on rank 0. In a process group of torch.distributed every rank calls this alike. Raises ValueError for a
    checkpoint of other settings, FloatingPointError for a loss or gradient that is not finite, before the update and
    naming the step and the rows.
    """
    parallel = Parallel.current()
    if config.batches_per_step % parallel.world:
        raise ValueError(
            f"batches_per_step is {config.batches_per_step}: must be a multiple of the {parallel.world} workers"
        )
    if config.sharding == "fsdp" and parallel.world == 1:
        raise ValueError("sharding is 'fsdp': needs at least 2 workers")
    loop = _Loop(
        objective, batches, config, Checkpoints(directory, config.keep_last), parallel, torch.device(device)
    )
    loop.identity = {"loop": config.identity(), **(identity or {})}
    loop.extra, loop.hooks = dict(extra or {}), hooks or Hooks()
    if validation is not None and config.validation_batches:
        loop.validator = Validator(validation, config, parallel, loop.device)
    loop.commands = commands
    with stop_on_signal() as interrupted:
        return loop.run(lambda: interrupted.is_set() or stop_requested())


class _Loop(Generic[B]):
    identity: Record
    extra: Record
    hooks: Hooks
    validator: Validator[B] | None = None
    ema: Ema | None = None
    best: float | None = None
    last_loss: float | None = None
    commands: Callable[[], Wishes] = Wishes
    lr: float = 0.0
    """The peak learning rate that was commanded; 0: the configuration's."""

    def __init__(
        self,
        objective: Objective[B],
        batches: Batches[B],
        config: LoopConfig,
        checkpoints: Checkpoints,
        parallel: Parallel,
        device: torch.device,
    ) -> None:
        self.objective, self.batches, self.config = objective.to(device), batches, config
        self.checkpoints, self.parallel, self.device = checkpoints, parallel, device
        self.step, self.position = 0, Position(0, 0)
        self.optim = {phase: config.phase_optim.get(phase, config.optim) for phase in objective.phases}
        self.log = Log()

    def run(self, interrupted: Callable[[], bool]) -> Outcome:
        self._start()
        stopped = self.clock.stopped(self.step, self.position, interrupted=interrupted())
        place = (self.config.batches_per_step, self.parallel.rank, self.parallel.world)
        updates = Prefetch(self.batches.stream(self.position, *place))
        saved = self.checkpoints.latest() is not None
        try:
            while stopped is None:
                micro_batches, following = next(updates)
                self._update([batch.to(self.device) for batch in micro_batches])
                self.position = following
                wishes = self._commanded()
                interrupts = wishes.quit or interrupted()
                stopped = self.clock.stopped(self.step, self.position, interrupted=interrupts)
                saved = self._report(stopped, wishes)
        finally:
            updates.close()
        if not saved:
            self._save(best=False)
        best = self.checkpoints.best()
        assert stopped is not None
        assert best is not None
        return Outcome(self.step, self.position.epoch, stopped, best, self.last_loss, self.best)

    def _commanded(self) -> Wishes:
        """Commands given to rank 0, on all ranks."""
        given = Wishes() if self.parallel.rank else self.commands()
        values = torch.tensor([given.quit, given.save, given.evaluate, given.lr], dtype=torch.float64)
        quits, saves, evaluates, lr = self.parallel.sum(values.to(self.device)).tolist()
        self.lr = lr or self.lr
        return Wishes(bool(quits), bool(saves), bool(evaluates), lr)

    def _start(self) -> None:
        """Weights, optimisers and position: new, or those of the newest checkpoint."""
        objective, latest = self.objective, self.checkpoints.latest()
        state = load(latest, self.device, PARTS) if latest is not None else None
        if latest is not None and state is not None:
            check_identity(latest, state["identity"], self.identity, objective.legacy)
        if self.validator is not None and self.validator.makes_samples and not self.parallel.rank:
            objective.prepare_samples()
        if state is None:
            with torch.no_grad():
                batches = (batch.to(self.device) for batch in self.batches.once())
                objective.train().initialise(batches, generator_at(self.config.seed, "initialise"))
            self.parallel.broadcast(objective)
        if self.config.activation_checkpointing:
            checkpoint_activations(objective.networks())
        if self.config.sharding == "fsdp":
            shard(objective.networks())
        groups = {phase: objective.parameter_groups(phase) for phase in objective.phases}
        matrices = stack_matrices(objective.networks())
        self.optimizers = {
            phase: PhaseOptimizer(groups[phase], self.optim[phase], matrices) for phase in groups
        }
        self.parameters = {phase: [p for group in groups[phase] for p in group["params"]] for phase in groups}
        if self.config.ema_decay is not None:
            self.ema = Ema(objective, self.config.ema_decay)
        self.clock = Clock(self.config, self.parallel, self.device)
        if state is not None:
            self._restore(state)
        if self.config.compile:
            for network in objective.networks():
                network.compile(dynamic=True)

    def _update(self, micro_batches: list[B]) -> None:
        self.objective.train()
        for phase in self.objective.phases:
            if self.objective.active(phase, self.step):
                self._phase(phase, micro_batches)
        self.step += 1
        self.objective.after_step(self.step)
        if self.ema is not None:
            self.ema.update(self.objective)

    def _phase(self, phase: str, micro_batches: list[B]) -> None:
        optimizer, optim, parameters = self.optimizers[phase], self.optim[phase], self.parameters[phase]
        self._freeze_others(phase)
        optimizer.zero_grad()
        totals = Totals(self.device)
        for batch in micro_batches:
            generator = generator_at(self.config.seed, *batch.position, phase)
            with autocast(self.config, self.device):
                loss = self.objective(batch, phase, generator)
            loss.sum.backward()
            totals.add(loss, batch)
        totals.reduce(self.parallel)
        self.parallel.sum_gradients(parameters)
        norm = scale_gradients(parameters, 1 / totals.count.clamp(min=1), optim.clip_norm)
        self._refuse_non_finite(phase, totals, norm, micro_batches)
        progress = self.clock.progress(self.step, epochs_done(self.batches, self.position))
        lr = (self.lr or optim.lr) * lr_factor(optim, self.step, progress)
        optimizer.step(lr)
        self.log.add("" if phase == self.objective.phases[0] else phase, totals, norm, lr)

    def _freeze_others(self, phase: str) -> None:
        """Freeze the parameters of other phases, through which gradients still pass."""
        if len(self.objective.phases) > 1:
            own = {id(p) for p in self.parameters[phase]}
            for parameters in self.parameters.values():
                for parameter in parameters:
                    parameter.requires_grad_(id(parameter) in own)

    def _refuse_non_finite(self, phase: str, totals: Totals, norm: Tensor, micro_batches: list[B]) -> None:
        loss, size = float(totals.sum), float(norm)
        if math.isfinite(loss) and math.isfinite(size):
            return
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {size}"
        ids = [row for batch in micro_batches for row in batch.ids]
        shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        raise FloatingPointError(
            f"{what} in phase {phase!r} of step {self.step} (rows {shown}); stopped before the update"
        )

    def _report(self, stopped: Stopped | None, wishes: Wishes) -> bool:
        """Log, validate and save what this step asks for; whether it was saved."""
        config, ends = self.config, stopped is not None
        if self.step % config.log_every == 0 or ends:
            epoch = epochs_done(self.batches, self.position)
            done = min(1.0, self.clock.progress(self.step, epoch))
            metrics = {**self.log.take(), "epoch": epoch, "progress": done}
            self.last_loss = metrics.get("loss", self.last_loss)
            if not self.parallel.rank:
                self.hooks.on_log(self.step, metrics)
        due = wishes.evaluate or self.step % config.validate_every == 0
        if due or (ends and stopped != "interrupted"):
            self._save(best=self._validate())
            return True
        due = config.checkpoint_every is not None and self.step % config.checkpoint_every == 0
        if due or wishes.save:
            self._save(best=False)
            return True
        return False

    def _validate(self) -> bool:
        """Validate and report; whether this is the lowest loss so far."""
        if self.validator is None:
            return False
        metrics, samples = self.validator.run(self.objective, self.ema)
        loss = metrics["validation_loss"]
        better = self.best is None or loss < self.best
        self.best = loss if better else self.best
        if not self.parallel.rank:
            self.hooks.on_validate(self.step, metrics, samples)
        return better

    def _save(self, *, best: bool) -> None:
        state = whole(
            {
                "objective": self.objective.state_dict(),
                "optimizers": {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()},
                "ema": self.ema.weights if self.ema is not None else None,
            }
        )
        if not self.parallel.rank:
            state |= {
                "step": self.step,
                "position": list(self.position),
                "elapsed_s": self.clock.elapsed_s,
                "best": self.best,
                "identity": self.identity,
                "extra": self.extra,
                "lr": self.lr,
            }
            self.hooks.on_checkpoint(self.step, self.checkpoints.save(state, self.step, best=best), best)
        self.parallel.barrier()

    def _restore(self, state: Values) -> None:
        load_module(self.objective, state["objective"])
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][phase])
        if self.ema is not None:
            self.ema.restore(state["ema"])
        self.step, self.position = state["step"], Position(*state["position"])
        self.clock.elapsed_s, self.best = state["elapsed_s"], state["best"]
        self.lr = state.get("lr", 0.0)
