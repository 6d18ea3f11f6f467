"""Files and folders appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.files import alone, clear_asides, write_bytes, write_text, written_aside
from catalog.shards import run_id_of

REPOSITORY = Path(__file__).resolve().parents[2]


def tree(folder: Path) -> dict[str, str]:
    """Files below a folder by path, with their text."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in found}


def test_a_file_is_made_or_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "ä")
    write_bytes(tmp_path / "new" / "a.txt", memoryview(b"two"))
    assert tree(tmp_path) == {"new/a.txt": "two"}


def test_a_name_may_have_the_full_length(tmp_path: Path) -> None:
    name = "ü" * 120 + ".wav"
    write_text(tmp_path / name, "x")
    assert tree(tmp_path) == {name: "x"}


def test_half_a_file_can_be_told_by_its_name(tmp_path: Path) -> None:
    """Whoever is killed leaves it behind: jobs find those of dead runs by the name that they were to get."""
    path = f"split=train/part-run1-{'0' * 32}.parquet"
    with written_aside(tmp_path / path) as aside:
        aside.write_text("half")
        assert run_id_of(aside.relative_to(tmp_path).as_posix()) == "run1"


def test_a_folder_takes_an_empty_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for target in ("out", "new"):
        with written_aside(tmp_path / target) as aside:
            aside.mkdir()
            write_text(aside / "part" / "a", target)
    assert tree(tmp_path) == {"out/part/a": "out", "new/part/a": "new"}


def test_a_file_takes_the_place_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_text(tmp_path / "out", "x")
    assert tree(tmp_path) == {"out": "x"}


def test_a_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    write_text(tmp_path / "out" / "old", "old")
    with pytest.raises(OSError, match="not empty"), written_aside(tmp_path / "out") as aside:
        write_text(aside / "new", "new")
    assert tree(tmp_path) == {"out/old": "old"}
    with written_aside(tmp_path / "out", overwrite=True) as aside:
        write_text(aside / "new", "new")
    assert tree(tmp_path) == {"out/new": "new"}


def test_a_folder_that_is_replaced_and_cannot_be_deleted_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "busy")

    write_text(tmp_path / "out" / "old", "old")
    monkeypatch.setattr(os, "rmdir", busy)
    with written_aside(tmp_path / "out", overwrite=True) as aside:
        write_text(aside / "new", "new")
    assert tree(tmp_path / "out") == {"new": "new"}


@pytest.mark.parametrize("is_folder", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, is_folder: bool) -> None:
    write_text(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), written_aside(tmp_path / "out") as aside:  # noqa: PT012 - it fails inside
        write_text(aside / "half" if is_folder else aside, "half")
        raise RuntimeError
    assert tree(tmp_path) == {"out": "old"}


def test_a_killed_process_leaves_no_output(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom catalog.files import written_aside\n"
        "with written_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.mkdir(); (aside / 'half').write_text('x'); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], cwd=REPOSITORY, check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "out").exists()
    write_text(tmp_path / "out", "whole")
    assert (tmp_path / "out").read_text() == "whole"


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    place = tmp_path / "new" / "out"
    with alone(place):
        with pytest.raises(BlockingIOError, match="another job writes there"), alone(place):
            pass
        assert place.is_dir()
        write_text(place / "a", "x")
    with alone(place):
        assert tree(place) == {"a": "x"}


def test_a_refused_job_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), alone(tmp_path / "out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        RuntimeError("file write failed: errno = 28, error message = 'No space left on device', buf = 0x1"),
    ],
)
def test_a_place_without_room_is_named(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OSError, match="No space left on device") as raised, written_aside(tmp_path / "out"):
        raise error
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "out"))


def test_another_error_stays_as_it_is(tmp_path: Path) -> None:
    for error in (OSError(errno.EIO, "Input/output error", "/source"), RuntimeError("no"), ValueError("no")):
        with pytest.raises(type(error)) as raised, written_aside(tmp_path / "out"):
            raise error
        assert raised.value is error


def test_what_dead_processes_left_aside_goes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from catalog.files import written_aside\n"
        "for name in ('out', 'other'):\n"
        "    aside = written_aside(Path(sys.argv[1]) / name).__enter__(); aside.mkdir(); (aside / 'half').touch()\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, check=False)
    (tmp_path / ".mine.tmp").touch()
    assert len(list(tmp_path.iterdir())) == 3
    with written_aside(tmp_path / "out") as alive:
        alive.touch()
        clear_asides(tmp_path, "out")
        assert alive.exists()
        assert len(list(tmp_path.iterdir())) == 3
    clear_asides(tmp_path)
    assert tree(tmp_path) == {"out": "", ".mine.tmp": ""}
