"""Commands to a running training: what they do, from a terminal and from elsewhere, and what is refused."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trainers.__main__ import main
from trainers.checkpoint import Checkpoints, load
from trainers.commands import Commands, forget, understood
from trainers.data import Batches, CodesBatch
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig, Wishes
from trainers.objectives import Objective
from trainers.optim import OptimConfig

Build = Callable[[], Objective[CodesBatch]]
CONFIG = LoopConfig(max_steps=12, log_every=1, validate_every=100, optim=OptimConfig(lr=0.05))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose lock is held, as a training holds it."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_a_run_is_quit_from_elsewhere_saved_and_continued(
    bigram: Build, batches: Batches[CodesBatch], running: Path
) -> None:
    def quit_at_3(step: int, _: object) -> None:
        if step == 3:
            assert main(["runs", "quit", str(running)]) == 0

    told: list[str] = []
    commands, folder = Commands(running, told.append), running / "checkpoints"
    hooks = Hooks(on_log=quit_at_3)
    outcome = train(bigram(), batches, CONFIG, directory=folder, hooks=hooks, commands=commands)
    assert (outcome.stopped, outcome.step, told) == ("interrupted", 4, ["command: quit"])
    latest = Checkpoints(folder).latest()
    assert latest is not None
    assert load(latest)["step"] == 4
    outcome = train(bigram(), batches, CONFIG, directory=folder, commands=commands)
    assert (outcome.stopped, outcome.step) == ("max_steps", 12)


def test_save_eval_and_the_learning_rate(bigram: Build, batches: Batches[CodesBatch], tmp_path: Path) -> None:
    """A commanded learning rate holds until another one, beyond a continuation, too."""
    wishes = {2: Wishes(save=True), 4: Wishes(evaluate=True), 6: Wishes(lr=0.5), 9: Wishes(quit=True)}
    saved: list[int] = []
    validated: list[int] = []
    rates: dict[int, float] = {}
    hooks = Hooks(
        on_log=lambda step, metrics: rates.update({step: metrics["learning_rate"]}),
        on_checkpoint=lambda step, *_: saved.append(step),
        on_validate=lambda step, *_: validated.append(step),
    )
    steps = iter(range(1, 100))

    def run() -> None:
        train(
            bigram(),
            batches,
            CONFIG,
            directory=tmp_path,
            validation=batches,
            hooks=hooks,
            commands=lambda: wishes.get(next(steps), Wishes()),
        )

    run()
    assert (saved, validated) == ([2, 4, 9], [4])
    run()
    assert max(rates) == 12
    assert all(rate == (0.05 if step <= 6 else 0.5) for step, rate in rates.items())


RANK = """
import fcntl, importlib.util, json, sys
from pathlib import Path
import torch
import torch.distributed as dist

here, folder, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

families = loaded("families", here / "conftest.py")
from dataclasses import replace
from trainers.commands import Commands, send
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.optim import OptimConfig

dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
batches = families.open_toy(folder / "train.parquet")
told, saved, validated, rates = [], [], [], {}
words = {2: "save", 4: "eval", 6: "lr 0.5", 9: "quit"}

def logged(step, metrics):
    rates[step] = metrics["learning_rate"]
    if step in words:
        send(folder, words[step])

hooks = Hooks(logged, lambda step, *_: validated.append(step), lambda step, *_: saved.append(step))
config = LoopConfig(max_steps=20, batches_per_step=2, log_every=1, validate_every=100, optim=OptimConfig(lr=0.05))
objective = families.Bigram(families.BigramConfig(), families.BigramSettings(), families.INFO)
commands = Commands(folder, told.append)
lock = (folder / "lock").open("w") if not rank else None
if lock is not None:
    fcntl.flock(lock, fcntl.LOCK_EX)
dist.barrier()
arguments = dict(directory=folder / "run", validation=batches, hooks=hooks, commands=commands)
outcome = train(objective, batches, config, **arguments)
found = {"stopped": outcome.stopped, "step": outcome.step, "told": told, "saved": saved, "validated": validated}
weights = [float(p.detach().double().sum()) for p in objective.parameters()]
(folder / f"{rank}.json").write_text(json.dumps({**found, "rates": rates, "weights": weights}))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_all_ranks_do_what_one_was_told(batches: Batches[CodesBatch], bigram: Build, tmp_path: Path) -> None:
    """Rank 0 alone hears the commands; both save, validate, change their rate and end after the same update."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", RANK, str(Path(__file__).parent), str(tmp_path)]
    ranks = [subprocess.Popen([*words, str(rank)], cwd=tmp_path, env=environment) for rank in range(2)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["stopped"], first["step"]) == (second["stopped"], second["step"]) == ("interrupted", 10)
    assert first["told"] == ["command: save", "command: eval", "command: lr 0.5", "command: quit"]
    assert (first["saved"], first["validated"]) == ([3, 5, 10], [5])
    assert second["told"] == second["saved"] == second["validated"] == []
    assert all(rate == (0.05 if int(step) <= 7 else 0.5) for step, rate in first["rates"].items())
    assert first["weights"] == pytest.approx(second["weights"], rel=1e-6)
    # One process goes on, with the rate that was commanded.
    rates: dict[int, float] = {}
    hooks = Hooks(on_log=lambda step, metrics: rates.update({step: metrics["learning_rate"]}))
    config = replace(CONFIG, max_steps=12, batches_per_step=2)
    outcome = train(bigram(), batches, config, directory=tmp_path / "run", hooks=hooks)
    assert (outcome.step, rates) == (12, {11: 0.5, 12: 0.5})


def test_lines_of_a_terminal_are_read_without_waiting(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    told: list[str] = []
    with os.fdopen(theirs, encoding="utf-8") as terminal:
        commands = Commands(tmp_path, told.append, terminal)
        assert commands() == Wishes()
        os.write(ours, b"lr 3e-4\n\nsvae\n")
        found: list[Wishes] = []
        while len(told) < 2:
            select.select([terminal], [], [], 60)
            found.append(commands())
        assert Wishes(lr=3e-4) in found
        assert told == ["command: lr 3e-4", "unknown command 'svae'; known: quit, save, eval, lr X"]
    os.close(ours)


def test_a_pipe_is_left_alone(tmp_path: Path) -> None:
    """A training in a shell's `while read` loop must not eat the loop's lines."""
    read, write = os.pipe()
    os.write(write, b"quit\n")
    with os.fdopen(read, encoding="utf-8") as pipe:
        assert Commands(tmp_path, lambda _: None, pipe)() == Wishes()
        assert pipe.readline() == "quit\n"
    os.close(write)


def test_what_was_sent_to_an_ended_run_is_forgotten(running: Path) -> None:
    assert main(["runs", "lr", str(running), "0.1"]) == 0
    assert main(["runs", "save", str(running)]) == 0
    commands = Commands(running, lambda _: None)
    assert commands() == Wishes(save=True, lr=0.1)
    assert commands() == Wishes()
    assert main(["runs", "quit", str(running)]) == 0
    forget(running)
    assert commands() == Wishes()


@pytest.mark.parametrize("line", ["lr", "lr x", "lr 1 2", "lr -1", "lr nan", "quit now", "stop"])
def test_wrong_commands_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"lr needs one number|must be above 0|unknown command"):
        understood(line)


def test_a_run_that_does_not_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "quit", str(tmp_path)]) == 1
    assert "is no run directory: no training ever ran there" in capsys.readouterr().err
    (tmp_path / "lock").touch()
    assert main(["runs", "quit", str(tmp_path)]) == 1
    assert "no training is running there" in capsys.readouterr().err
    assert not (tmp_path / "commands").exists()
