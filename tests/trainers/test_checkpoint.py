"""Checkpoints appear whole, the newest and the best stay, and only plain values are read."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch

from trainers.checkpoint import Checkpoints, check_identity, load


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step in range(1, 6):
        checkpoints.save({"step": step}, step, best=step == 2)
    assert [load(path)["step"] for path in checkpoints.all()] == [4, 5]
    best, latest = checkpoints.best(), checkpoints.latest()
    assert best is not None
    assert latest is not None
    assert (load(best)["step"], load(latest)["step"]) == (2, 5)
    assert {path.suffix for path in tmp_path.iterdir()} == {".pt"}


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1}, 1, best=True)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        checkpoints.save({"step": lambda: 2}, 2, best=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-00000001.pt"]


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1}, 1, best=True)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write checkpoint .*step-00000002\.pt: "):
            checkpoints.save({"weights": torch.zeros(1_000_000)}, 2, best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-00000001.pt"]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save({"weights": torch.zeros(1000)}, 1, best=False)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"step-00000001\.pt is not a readable checkpoint"):
        load(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"step": Evil()}, tmp_path / "step-00000001.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "ran").exists()


def test_differing_settings_are_all_named() -> None:
    with pytest.raises(ValueError, match=r"a\.x was 1, is 2; b was null, is \"new\"; c was \[1\], is null"):
        check_identity(Path("p"), {"a": {"x": 1, "y": 0}, "c": (1,)}, {"a": {"x": 2, "y": 0}, "b": "new"})
    check_identity(Path("p"), {"betas": [0.9, 0.99]}, {"betas": (0.9, 0.99)})
