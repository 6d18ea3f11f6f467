"""The manifest of a folder of answers: what a rerun makes again, and what it keeps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog.command import UsageError
from pipelines.execution.answers import Answers

Row = dict[str, Any]
MADE_WITH = {"seed": 0, "options": {"steps": 8}, "system": "abc"}


def rows(folder: Path, **texts: str) -> list[Row]:
    return [{"id": name, "text": text, "output": str(folder / f"{name}.wav")} for name, text in texts.items()]


def answers(
    folder: Path,
    requests: Sequence[Row],
    files: tuple[str, ...] = (),
    made_with: Mapping[str, object] = MADE_WITH,
    noted: tuple[str, ...] = (),
) -> Answers:
    return Answers(folder / "manifest.jsonl", requests, files, made_with, noted)


def done(about: Answers, notes: Mapping[str, Row] | None = None) -> None:
    """Answer what is left to do."""
    todo, changed = about.outdated()
    about.begin(changed)
    for row in todo:
        Path(row["output"]).write_text(row["text"])
    about.write({row["id"]: None for row in todo}, notes)


def left(about: Answers) -> tuple[list[str], list[str]]:
    """Ids of what is left to do, and of what has changed."""
    todo, changed = about.outdated()
    return [row["id"] for row in todo], [row["id"] for row in changed]


def lines(folder: Path) -> dict[str, Row]:
    text = (folder / "manifest.jsonl").read_text(encoding="utf-8")
    return {row["id"]: row for row in map(json.loads, text.splitlines())}


def test_a_rerun_makes_what_is_missing_and_what_has_changed(tmp_path: Path) -> None:
    requests = rows(tmp_path, a="one", b="zwei ü", c="three")
    assert left(answers(tmp_path, requests)) == (["a", "b", "c"], [])
    done(answers(tmp_path, requests))
    assert left(answers(tmp_path, requests)) == ([], [])
    assert lines(tmp_path)["b"] | {"request": ""} == {**requests[1], "reason": None, "request": ""}
    assert "zwei ü" in (tmp_path / "manifest.jsonl").read_text(encoding="utf-8")
    (tmp_path / "a.wav").unlink()
    changed = rows(tmp_path, a="one", b="zwei ü", c="drei", d="four")
    assert left(answers(tmp_path, changed)) == (["a", "c", "d"], ["c"])
    about = answers(tmp_path, changed)
    about.begin(about.outdated()[1])
    assert not (tmp_path / "c.wav").exists()
    assert {name: line["reason"] for name, line in lines(tmp_path).items()} == {
        "a": "not made yet",
        "b": None,
        "c": "not made yet",
        "d": "not made yet",
    }
    assert left(about) == (["a", "c", "d"], []), "interrupted here, the same is left to do"


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"options": {"steps": 9}}, {"system": "xyz"}], ids=["seed", "options", "system"]
)
def test_answers_of_another_system_or_seed_are_made_again(tmp_path: Path, other: Row) -> None:
    requests = rows(tmp_path, a="one")
    done(answers(tmp_path, requests))
    assert left(answers(tmp_path, requests, made_with=MADE_WITH | other)) == (["a"], ["a"])


def test_a_file_counts_by_name_size_and_time_wherever_its_folder_is(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        (folder / "voice.wav").write_bytes(b"1234")
        os.utime(folder / "voice.wav", (1000, 1000))
    out = tmp_path / "out"
    out.mkdir()

    def about(folder: Path) -> Answers:
        request = rows(out, a="one")[0] | {"prompt": str(folder / "voice.wav")}
        return answers(out, [request], files=("prompt",))

    done(about(folders[0]))
    assert left(about(folders[0])) == ([], [])
    assert left(about(folders[1])) == ([], []), "the same file in a folder that was moved"
    os.utime(folders[0] / "voice.wav", (2000, 2000))
    assert left(about(folders[0])) == (["a"], ["a"])
    os.utime(folders[0] / "voice.wav", (1000, 1000))
    (folders[1] / "voice.wav").write_bytes(b"12345")
    os.utime(folders[1] / "voice.wav", (1000, 1000))
    assert left(about(folders[1])) == (["a"], ["a"])
    (folders[1] / "voice.wav").unlink()
    assert left(about(folders[1])) == (["a"], ["a"])


def test_manifests_that_are_there_keep_their_digests(tmp_path: Path) -> None:
    request = rows(tmp_path, a="one ü")[0] | {"prompt": None, "language": None}
    done(answers(tmp_path, [request], files=("prompt",)))
    about = {"asked": MADE_WITH, "id": "a", "prompt": None, "text": "one ü"}
    expected = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    assert lines(tmp_path)["a"]["request"] == expected
    reordered = dict(reversed(request.items()))
    other = dict(reversed(MADE_WITH.items()))
    assert left(answers(tmp_path, [reordered], ("prompt",), other)) == ([], [])


def test_a_file_that_nobody_knows_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("mine")
    with pytest.raises(
        UsageError, match=rf"^{tmp_path}/a.wav is there, and .*manifest.jsonl does not say what it is"
    ):
        answers(tmp_path, rows(tmp_path, a="one")).outdated()


def test_lines_of_other_requests_stay_as_long_as_their_files(tmp_path: Path) -> None:
    done(answers(tmp_path, rows(tmp_path, a="one", b="two", c="three")))
    (tmp_path / "b.wav").unlink()
    done(answers(tmp_path, rows(tmp_path, c="three", d="four")))
    assert list(lines(tmp_path)) == ["c", "d", "a"]
    assert left(answers(tmp_path, rows(tmp_path, a="one"))) == ([], [])


def test_what_was_refused_says_why_and_is_tried_again(tmp_path: Path) -> None:
    requests = rows(tmp_path, a="one")
    requests[0]["problem"] = "line 1: text is empty"
    about = answers(tmp_path, requests)
    about.begin([])
    about.write({"a": "line 1: text is empty"})
    assert lines(tmp_path)["a"]["reason"] == "line 1: text is empty"
    assert "problem" not in lines(tmp_path)["a"]
    assert left(about) == (["a"], [])
    about.write({})
    assert lines(tmp_path)["a"]["reason"] == "not made yet"


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    requests = rows(tmp_path, a="one", b="two")
    done(answers(tmp_path, requests))
    manifest = tmp_path / "manifest.jsonl"
    first, second = manifest.read_bytes().splitlines()
    manifest.write_bytes(b"\n".join([b"{half", b"[]", b'{"id": 3}', b"[" * 100_000, b"\xff", second, first]))
    assert left(answers(tmp_path, requests)) == ([], [])
    manifest.write_bytes(b"\n".join([first[: len(first) // 2], second]))
    with pytest.raises(UsageError, match="does not say what it is"):
        answers(tmp_path, requests).outdated()


def test_a_manifest_from_before_there_were_digests_is_compared_by_its_fields(tmp_path: Path) -> None:
    requests = rows(tmp_path, a="one", b="two")
    for row in requests:
        Path(row["output"]).write_text("x")
    old = [row | {"reason": None, "language": None} for row in requests]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    assert left(answers(tmp_path, requests)) == ([], [])
    assert left(answers(tmp_path, rows(tmp_path, a="one", b="zwei"))) == (["b"], ["b"])


def test_an_answer_without_its_notes_is_made_again(tmp_path: Path) -> None:
    requests = rows(tmp_path, a="one", b="two")
    noted = answers(tmp_path, requests, noted=("candidate", "score"))
    done(noted, {"a": {"candidate": 2, "score": 0.5, "duration_s": 1.0}})
    assert (lines(tmp_path)["a"]["candidate"], lines(tmp_path)["a"]["score"]) == (2, 0.5)
    assert "duration_s" not in lines(tmp_path)["a"]
    assert left(noted) == (["b"], ["b"]), "interrupted before its notes were written"
    noted.write({})
    assert lines(tmp_path)["a"]["candidate"] == 2, "notes of an answer that is there stay"
    other = answers(tmp_path, rows(tmp_path, a="ein", b="two"), noted=("candidate", "score"))
    other.write({})
    assert "candidate" not in lines(tmp_path)["a"], "they belong to another answer"
    noted.write({}, {"a": {"candidate": 1, "score": 0.1}})
    for row in requests:
        Path(row["output"]).unlink()
    noted.begin(requests)
    assert "candidate" not in lines(tmp_path)["a"], "their answer is gone"
