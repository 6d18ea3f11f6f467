"""Commands to a running training: what they do, from a terminal and from elsewhere, and what is refused."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Callable, Iterator
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
