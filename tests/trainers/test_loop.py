"""Stopped and continued equals straight; failures stop before they do harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch
from trainers.draws import seed_of
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import Objective
from trainers.optim import OptimConfig

CONFIG = LoopConfig(
    max_epochs=4,
    batches_per_step=2,
    log_every=1,
    validate_every=3,
    ema_decay=0.9,
    optim=OptimConfig(lr=0.05, warmup_steps=3, schedule="cosine", weight_decay=0.01),
)
Build = Callable[[], Objective[CodesBatch]]


class Recorder:
    """Hooks that keep the losses, and may ask for a stop at a step as Ctrl-C does."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self.validation: dict[int, float] = {}
        self.stop_at = stop_at

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.losses[step] = metrics["loss"]
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def validate(self, step: int, metrics: Mapping[str, float], samples: Any) -> None:
        self.validation[step] = metrics["validation_loss"]

    def hooks(self) -> Hooks:
        return Hooks(on_log=self.log, on_validate=self.validate)


def final_state(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    state = load(latest)
    del state["elapsed_s"]
    return state


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


def steps_of(batches: Batches[CodesBatch], epochs: int) -> int:
    return -(-sum(len(batches.epoch(epoch)) for epoch in range(epochs)) // CONFIG.batches_per_step)


class Stack(nn.Module):
    """Two layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def stacked(build: Build) -> Build:
    """The same with layers for Muon."""

    def deeper() -> Objective[CodesBatch]:
        objective: Any = build()
        objective.head = nn.Sequential(Stack(), objective.head)
        return objective

    return deeper


@pytest.mark.parametrize(("epochs_first", "kind"), [(2.0, "adamw"), (1.4, "adamw"), (1.4, "muon")])
def test_interrupted_and_continued_equals_straight(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path, epochs_first: float, kind: Any
) -> None:
    straight, bigram = Recorder(), stacked(bigram)
    config = replace(CONFIG, optim=replace(CONFIG.optim, kind=kind))
    train(bigram(), batches, config, directory=tmp_path / "a", validation=batches, hooks=straight.hooks())
    muon = final_state(tmp_path / "a")["optimizers"]["generator"].get("muon", {"state": {}})
    assert len(muon["state"]) == (2 if kind == "muon" else 0)

    stop_at = int(steps_of(batches, 1) * epochs_first)
    # The signal comes while the step before is logged, so that one more update is finished.
    first, second = Recorder(stop_at - 1), Recorder()
    outcome = train(
        bigram(), batches, config, directory=tmp_path / "b", validation=batches, hooks=first.hooks()
    )
    assert (outcome.stopped, outcome.step) == ("interrupted", stop_at)
    outcome = train(
        bigram(), batches, config, directory=tmp_path / "b", validation=batches, hooks=second.hooks()
    )
    assert (outcome.stopped, outcome.step) == ("max_epochs", steps_of(batches, 4))

    assert first.losses | second.losses == straight.losses
    assert min(second.losses) == stop_at + 1
    assert (first.validation | second.validation) == straight.validation
    assert_equal(final_state(tmp_path / "b"), final_state(tmp_path / "a"))


def test_a_run_cannot_change_its_optimiser(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    config = replace(CONFIG, max_epochs=1)
    train(bigram(), batches, config, directory=tmp_path)
    changed = replace(config, max_epochs=2, optim=replace(CONFIG.optim, kind="muon"))
    with pytest.raises(ValueError, match=r'loop\.optim\.kind was null, is "muon"'):
        train(stacked(bigram)(), batches, changed, directory=tmp_path)


def interrupt(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_before_the_first_step(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = bigram()
    monkeypatch.setattr(objective, "initialise", interrupt)
    outcome = train(objective, batches, CONFIG, directory=tmp_path / "b", validation=batches)
    assert (outcome.stopped, outcome.step, outcome.loss) == ("interrupted", 0, None)
    train(bigram(), batches, CONFIG, directory=tmp_path / "b", validation=batches)
    train(bigram(), batches, CONFIG, directory=tmp_path / "a", validation=batches)
    assert_equal(final_state(tmp_path / "b"), final_state(tmp_path / "a"))


def test_interrupted_during_a_validation(bigram: Build, batches: Batches[CodesBatch], tmp_path: Path) -> None:
    hooks = Hooks(on_validate=interrupt)
    outcome = train(bigram(), batches, CONFIG, directory=tmp_path / "b", validation=batches, hooks=hooks)
    # The validation is finished and its checkpoint written; one more update ends the run.
    assert (outcome.stopped, outcome.step) == ("interrupted", CONFIG.validate_every + 1)
    train(bigram(), batches, CONFIG, directory=tmp_path / "b", validation=batches)
    train(bigram(), batches, CONFIG, directory=tmp_path / "a", validation=batches)
    assert_equal(final_state(tmp_path / "b"), final_state(tmp_path / "a"))


def test_a_finished_run_can_be_extended(bigram: Build, batches: Batches[CodesBatch], tmp_path: Path) -> None:
    constant = replace(CONFIG, optim=OptimConfig(lr=0.05))
    train(bigram(), batches, constant, directory=tmp_path / "a")
    train(bigram(), batches, replace(constant, max_epochs=2), directory=tmp_path / "b")
    train(bigram(), batches, constant, directory=tmp_path / "b")
    assert_equal(final_state(tmp_path / "b"), final_state(tmp_path / "a"))


def test_the_loss_falls_and_the_best_checkpoint_is_kept(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    record = Recorder()
    config = replace(CONFIG, max_epochs=20, keep_last=1)
    outcome = train(bigram(), batches, config, directory=tmp_path, validation=batches, hooks=record.hooks())
    assert record.losses[outcome.step] < 0.5 * record.losses[1]
    assert outcome.checkpoint.name == "best.pt"
    assert outcome.validation_loss == min(record.validation.values())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix == ".pt") == [
        "best.pt",
        f"step-{outcome.step:08d}.pt",
    ]


def test_without_a_validation_no_checkpoint_is_the_best(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    outcome = train(bigram(), batches, replace(CONFIG, max_epochs=1), directory=tmp_path)
    assert outcome.checkpoint.name == f"step-{outcome.step:08d}.pt"
    assert not (tmp_path / "best.pt").exists()


def test_hooks_learn_of_everything(bigram: Build, batches: Batches[CodesBatch], tmp_path: Path) -> None:
    """Checkpoints with their step, whether one is the best, the place in the data; the end is validated and saved."""
    saved: list[tuple[int, str, bool]] = []
    places: list[tuple[float, float]] = []
    samples: dict[int, list[str]] = {}
    hooks = Hooks(
        on_log=lambda _, metrics: places.append((metrics["epoch"], metrics["progress"])),
        on_validate=lambda step, _, made: samples.update({step: [sample.name for sample in made]}),
        on_checkpoint=lambda step, path, best: saved.append((step, path.name, best)),
    )
    config = replace(CONFIG, max_epochs=None, max_steps=5, checkpoint_every=2, batches_per_step=1, samples=1)
    outcome = train(bigram(), batches, config, directory=tmp_path, validation=batches, hooks=hooks)
    bests = {2: False, 3: True, 4: False, 5: True}
    assert saved == [(step, f"step-{step:08d}.pt", best) for step, best in bests.items()]
    assert load(outcome.checkpoint)["step"] == 5
    assert samples.keys() == {3, 5}
    assert all(name.startswith("a tone/") for made in samples.values() for name in made)
    assert all(samples.values())
    whole = len(batches.epoch(0))
    assert places == [pytest.approx((step / whole, step / 5)) for step in range(1, 6)]


def test_initialisation_reads_the_first_epoch(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, seen = bigram(), []
    monkeypatch.setattr(objective, "initialise", lambda given, _: seen.extend(batch.ids for batch in given))
    train(objective, batches, replace(CONFIG, max_steps=0), directory=tmp_path)
    assert seen == [batch.ids for batch in batches.once(0)]


def test_each_phase_moves_its_own_parameters_when_it_is_active(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective: Any = bigram()
    own = {"generator": objective.embedding, "discriminator": objective.head}
    monkeypatch.setattr(objective, "phases", ("generator", "discriminator"))
    monkeypatch.setattr(objective, "parameter_groups", lambda phase: [{"params": [*own[phase].parameters()]}])
    monkeypatch.setattr(objective, "active", lambda phase, step: phase == "generator" or step > 0)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    moved: list[set[str]] = []
    told: list[str] = []
    shown: list[set[str]] = []
    objective.register_forward_pre_hook(lambda _, given: told.append(given[1]))

    def log(_: int, metrics: Mapping[str, float]) -> None:
        shown.append({name for name in metrics if name.startswith(("loss", "gradient_norm"))})
        now = objective.state_dict()
        moved.append({name.partition(".")[0] for name in before if not torch.equal(now[name], before[name])})

    config = replace(CONFIG, max_epochs=None, max_steps=2)
    train(objective, batches, config, directory=tmp_path, hooks=Hooks(on_log=log))
    assert moved == [{"embedding", "seen"}, {"embedding", "head", "seen"}]
    first, second = ([phase] * config.batches_per_step for phase in own)
    assert told == first + first + second
    own_figures = {"loss", "gradient_norm"}
    assert shown == [own_figures, own_figures | {f"{name}_discriminator" for name in own_figures}]


def test_gradient_accumulation_divides_by_all_positions(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    """The update of two uneven batches is that of the mean over all their positions, not of the mean of means."""
    objective = bigram()
    seen: list[float] = []
    config = replace(CONFIG, max_steps=1, max_epochs=None, ema_decay=None)
    hooks = Hooks(on_log=lambda step, metrics: seen.append(metrics["loss"]))
    train(objective, batches, config, directory=tmp_path, hooks=hooks)

    again = bigram().train()
    totals = []
    for batch, _ in zip(batches.once(), range(2), strict=False):
        seed = seed_of(0, *batch.position, "generator")
        torch.manual_seed(seed)
        loss = again(batch, "generator", torch.Generator().manual_seed(seed))
        totals.append((float(loss.sum.detach()), float(loss.count)))
    assert totals[0][1] != totals[1][1]
    assert seen == [pytest.approx(sum(t[0] for t in totals) / sum(t[1] for t in totals), rel=1e-6)]


class Poisoned:
    """Turns one parameter into NaN after a given step."""

    def __init__(self, objective: Objective[CodesBatch], step: int) -> None:
        self.objective, self.step = objective, step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.step:
            next(self.objective.parameters()).data[0] = float("nan")


def test_a_loss_that_is_not_a_number_stops_before_the_update(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    objective = bigram()
    hooks = Hooks(on_log=Poisoned(objective, 2).log)
    with pytest.raises(
        FloatingPointError, match=r"loss is nan in phase 'generator' of step 2 \(rows row-\d+"
    ):
        train(objective, batches, replace(CONFIG, checkpoint_every=1), directory=tmp_path, hooks=hooks)
    head = dict(objective.named_parameters())["head.1.weight"]
    saved = final_state(tmp_path)
    assert saved["step"] == 2
    assert torch.equal(head, saved["objective"]["head.1.weight"])


def test_other_settings_are_refused_by_name(
    bigram: Build, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    short = replace(CONFIG, max_epochs=1)
    train(bigram(), batches, short, directory=tmp_path, identity={"model": {"hidden_size": 8}})
    other = replace(short, optim=replace(short.optim, lr=0.1))
    with pytest.raises(ValueError, match=r"other settings: loop\.optim\.lr was 0\.05, is 0\.1; model\.h"):
        train(bigram(), batches, other, directory=tmp_path, identity={"model": {"hidden_size": 16}})


def test_there_must_be_an_end() -> None:
    with pytest.raises(ValueError, match="one of max_steps, max_epochs and max_minutes must be given"):
        LoopConfig()
