"""Checkpoints appear whole, the newest and the best stay, and only plain values are read."""

from __future__ import annotations

import resource
import signal
import sys
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


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would be cut, too
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


def test_a_folder_that_is_gone_is_the_reason(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write checkpoint .*: Not a directory$"):
        checkpoints.save({"step": 1}, 1, best=False)


def test_the_best_is_copied_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr("os.link", refuse)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1}, 1, best=True)
    checkpoints.save({"step": 2}, 2, best=False)
    assert load(tmp_path / "best.pt") == {"step": 1}
    (tmp_path / "best.pt").unlink()
    assert checkpoints.best() == checkpoints.latest() == tmp_path / "step-00000002.pt"


def test_a_damaged_best_is_set_aside(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1}, 1, best=False)
    (tmp_path / "best.pt").write_bytes(b"")
    (line,) = checkpoints.clean()
    assert line.endswith("it is kept as best.pt.damaged, and the one before it is used")
    assert "best.pt is not a readable checkpoint: File is not a zip file" in line


def test_every_part_that_is_missing_is_named(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save({"step": 1}, 1, best=False)
    with pytest.raises(ValueError, match=r"it lacks weights, optimizer$"):
        load(path, required=("weights", "step", "optimizer"))


def test_settings_of_several_sections_are_compared(tmp_path: Path) -> None:
    saved = {"a": 1, "loop": {"x": 1, "y": (2, 3)}, "data": {"z": 3}}
    check_identity(tmp_path, saved, saved)
    wanted = saved | {"a": 2, "data": {"z": 4}}
    with pytest.raises(
        ValueError, match=r"settings: a was 1, is 2; data\.z was 3, is 4\. Continue with the same"
    ):
        check_identity(tmp_path, saved, wanted)


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


def three(directory: Path) -> Checkpoints:
    checkpoints = Checkpoints(directory, keep_last=3)
    for step in (1, 2, 3):
        checkpoints.save({"step": step, "weights": torch.full((64,), float(step))}, step, best=step == 1)
    return checkpoints


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped bit":
        data[data.index(torch.tensor(3.0).numpy().tobytes() * 4) + 5] ^= 4
    path.unlink()
    path.write_bytes({"empty": b"", "truncated": data[: len(data) // 2], "flipped bit": data}[how])


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped bit"])
def test_a_damaged_newest_one_is_set_aside_and_the_one_before_it_used(tmp_path: Path, how: str) -> None:
    checkpoints = three(tmp_path)
    newest = checkpoints.all()[-1]
    damage(newest, how)
    with pytest.raises(ValueError, match=rf"{newest.name} is not a readable checkpoint: "):
        load(newest)
    found = checkpoints.newest_good()
    assert found is not None
    assert (found[0].name, found[1]["step"]) == ("step-00000002.pt", 2)
    (line,) = checkpoints.clean()
    assert "step-00000003.pt.damaged" in line
    assert "\n" not in line
    assert [path.name for path in checkpoints.all()] == ["step-00000001.pt", "step-00000002.pt"]
    assert checkpoints.clean() == []


def test_when_none_can_be_read_it_says_what_to_do(tmp_path: Path) -> None:
    checkpoints = three(tmp_path)
    for path in checkpoints.all():
        damage(path, "empty")
    with pytest.raises(
        ValueError, match=r"step-00000003\.pt is not a readable .* delete .* to start the run over"
    ):
        checkpoints.newest_good()


def test_what_unfinished_writes_left_goes(tmp_path: Path) -> None:
    checkpoints = three(tmp_path)
    (tmp_path / ".step-00000004.pt.0123.tmp").write_bytes(b"half")
    assert checkpoints.clean() == []
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt is not a checkpoint: it holds list"):
        load(tmp_path / "list.pt")
    torch.save({"step": 1}, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"part\.pt is not a checkpoint of a training: it lacks optimizers"):
        load(tmp_path / "part.pt", required=("step", "optimizers"))


def test_a_key_that_was_added_later_must_have_the_value_from_before() -> None:
    saved = {"objective": {"text": {"kind": "bytes"}}}
    legacy = {"text.normalize": "none", "text.unused": 1}
    before = {"objective": {"text": {"kind": "bytes", "normalize": "none"}}}
    check_identity(Path("p"), saved, before, legacy)
    check_identity(Path("p"), saved, saved, legacy)
    other = {"objective": {"text": {"kind": "bytes", "normalize": "spoken"}}}
    with pytest.raises(ValueError, match=r'objective\.text\.normalize was "none", is "spoken"'):
        check_identity(Path("p"), saved, other, legacy)
    with pytest.raises(ValueError, match=r'objective\.text\.normalize was "spoken", is "none"'):
        check_identity(Path("p"), other, before, legacy)


def test_a_run_whose_dataset_moved_is_told_both_places_and_what_to_do(tmp_path: Path) -> None:
    saved, wanted = ({"data": {"dataset": place}} for place in ("/old/place", "/new/place"))
    with pytest.raises(
        ValueError, match=r'data\.dataset was "/old/place", is "/new/place"\. .* make its old path a link'
    ):
        check_identity(tmp_path / "step.pt", saved, wanted)


def test_a_run_whose_dataset_stayed_is_told_nothing_of_it(tmp_path: Path) -> None:
    saved = {"data": {"dataset": "/place", "seed": 1}}
    wanted = {"data": {"dataset": "/place", "seed": 2}}
    with pytest.raises(
        ValueError, match=r"data\.seed was 1, is 2\. Continue .*, or start in another output directory$"
    ):
        check_identity(tmp_path / "step.pt", saved, wanted)
