"""Jobs that ask a system, with a worker that writes texts in place of speech."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.command import JobError, UsageError
from pipelines.execution.requests import (
    Requests,
    RequestSettings,
    checked,
    is_text,
    parse_line,
    read_lines,
    with_outputs,
)
from pipelines.execution.sentences import duration_rule, edit_rule, read_sentences
from pipelines.stages.speak import REQUESTS
from pipelines.stages.system import RESULTS

Row = dict[str, Any]


class Writer:
    """Answers with 1.23456 s a row; texts that begin with `bad` are refused, and `stop` ends the job."""

    batches: list[list[str]]
    arguments: Row

    def __init__(self, **arguments: object) -> None:
        Writer.batches, Writer.arguments = [], arguments

    def __call__(self, requests: pa.Table) -> pa.Table:
        rows = requests.to_pylist()
        Writer.batches.append([row["id"] for row in rows])
        return pa.Table.from_pylist([self.answer(row) for row in rows], schema=RESULTS)

    def answer(self, row: Row) -> Row:
        if row["text"].startswith("stop"):
            raise RuntimeError("stopped")
        if row["text"].startswith("bad"):
            return {"id": row["id"], "reason": f"cannot speak {row['text']}"}
        Path(row["output"]).parent.mkdir(parents=True, exist_ok=True)
        Path(row["output"]).write_text(row["text"])
        notes = {"candidate": 1, "candidates": 2, "score": json.dumps({"words": 0.5})}
        return {"id": row["id"], "output": row["output"], "duration_s": 1.23456, **notes}


@pytest.fixture
def system(tmp_path: Path) -> Path:
    folder = tmp_path / "system"
    folder.mkdir()
    (folder / "system.json").write_text("{}")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def rows(out: Path, **texts: str) -> list[Row]:
    return [{"id": name, "text": text, "output": str(out / f"{name}.wav")} for name, text in texts.items()]


def ask(
    given: list[Row], system: Path, out: Path, single: bool = False, batch_size: int = 2, **more: Any
) -> Row:
    settings = RequestSettings(batch_size=batch_size, device="cpu", sampling=more.pop("sampling", {}))
    requests = Requests(
        given, REQUESTS, ("prompt", "source"), "sentences", single, lambda row: len(row["text"]), **more
    )
    return requests.answer(Writer, {"model": str(system)}, settings, out)


def manifest(out: Path) -> dict[str, Row]:
    return {row["id"]: row for row in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())}


def test_the_line_of_a_job_counts_what_was_done(
    system: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = rows(out, a="one two three", b="bad", c="x", d="four")
    given.append(
        {"id": "e", "text": "five", "output": str(out / "e.wav"), "problem": "line 5: duration_s is -1"}
    )
    line = ask(given, system, out)
    assert line.pop("wall_s") >= 0
    assert line.pop("real_time_factor") >= 0
    assert line == {"output": str(out), "sentences": 5, "new_sentences": 3, "rejected": 2, "audio_s": 3.704}
    assert Writer.batches == [["c", "b"], ["d", "a"]], "neighbours of like length travel together"
    assert Writer.arguments == {"device": "cpu", "seed": 0, "options": {}, "model": str(system)}
    assert {name: row["reason"] for name, row in manifest(out).items()} == {
        "a": None,
        "b": "cannot speak bad",
        "c": None,
        "d": None,
        "e": "line 5: duration_s is -1",
    }
    line = ask(given, system, out)
    assert (line["sentences"], line["new_sentences"], line["rejected"], line["audio_s"]) == (5, 0, 2, 0.0)
    assert line["real_time_factor"] is None
    assert Writer.batches == [["b"]]
    assert "changed" not in capsys.readouterr().err


def test_what_changed_is_said_and_made_again(
    system: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(rows(out, a="one", b="two"), system, out)
    assert ask(rows(out, a="one", b="zwei"), system, out)["new_sentences"] == 1
    assert capsys.readouterr().err == "1 sentences have changed since they were made; made again\n"
    assert (out / "b.wav").read_text() == "zwei"
    assert ask(rows(out, a="one", b="zwei"), system, out, sampling={"steps": 9})["new_sentences"] == 2
    assert ask(rows(out, a="one", b="zwei"), system, out, sampling={"steps": 9})["new_sentences"] == 0
    (system / "system.json").write_text('{"another": 1}')
    assert ask(rows(out, a="one", b="zwei"), system, out, sampling={"steps": 9})["new_sentences"] == 2
    more = {"made_with": {"judge": "2"}}
    assert ask(rows(out, a="one", b="zwei"), system, out, sampling={"steps": 9}, **more)["new_sentences"] == 2


def test_an_interrupted_job_goes_on_where_it_stopped(system: Path, out: Path) -> None:
    given = rows(out, a="1", b="22", c="stop", d="stop!")
    with pytest.raises(RuntimeError, match="stopped"):
        ask(given, system, out)
    assert {name: row["reason"] for name, row in manifest(out).items()} == dict.fromkeys(
        "abcd", "not made yet"
    )
    assert [row["id"] for row in given if Path(row["output"]).exists()] == ["a", "b"]
    again = rows(out, a="1", b="22", c="333", d="4444")
    assert ask(again, system, out)["new_sentences"] == 2
    assert Writer.batches == [["c", "d"]]


def test_workers_elsewhere_get_absolute_paths(
    system: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of Ray's workers, which run in another directory."""

    def on_ray(
        tables: list[pa.Table], worker: type[Writer], arguments: Row, settings: RequestSettings
    ) -> Any:
        asked.extend(row for table in tables for row in table.to_pylist())
        assert settings.workers == 2
        return (row for table in tables for row in worker(**arguments)(table).to_pylist())

    asked: list[Row] = []
    monkeypatch.setattr("pipelines.execution.requests.on_ray", on_ray)
    monkeypatch.chdir(out)
    given = [{"id": "a", "text": "one", "output": "a.wav", "prompt": "voice.wav"}]
    settings = RequestSettings(workers=2, device="cpu")
    requests = Requests(given, REQUESTS, ("prompt", "source"), "sentences", False, len)
    assert requests.answer(Writer, {"model": str(system)}, settings, out)["new_sentences"] == 1
    assert [(row["output"], row["prompt"], row["source"]) for row in asked] == [
        (f"{out}/a.wav", f"{out}/voice.wav", None)
    ]
    assert manifest(out)["a"]["output"] == "a.wav", "as it was asked"


def test_notes_are_written_batch_by_batch(system: Path, out: Path) -> None:
    noted = {"noted": ("candidate", "candidates", "score")}
    given = rows(out, a="1", b="22", c="333", d="stop")
    with pytest.raises(RuntimeError, match="stopped"):
        ask(given, system, out, **noted)
    found = manifest(out)
    assert (found["a"]["candidate"], found["b"]["score"]) == (1, {"words": 0.5})
    assert "candidate" not in found["c"]
    given[3]["text"] = "4444"
    assert ask(given, system, out, **noted)["new_sentences"] == 2
    assert manifest(out)["d"]["candidates"] == 2


def test_a_single_request_replaces_its_output_or_fails_the_job(system: Path, out: Path) -> None:
    (out / "a.wav").write_text("before")
    line = ask(rows(out, a="one"), system, out, single=True, noted=("candidate", "score"))
    assert (out / "a.wav").read_text() == "one"
    assert (line["new_sentences"], line["candidate"], line["score"]) == (1, 1, {"words": 0.5})
    assert not (out / "manifest.jsonl").exists()
    with pytest.raises(JobError, match=r"^cannot speak bad$"):
        ask(rows(out, a="bad"), system, out, single=True)
    refused = [rows(out, a="one")[0] | {"problem": "text is odd"}]
    with pytest.raises(JobError, match=r"^text is odd$"):
        ask(refused, system, out, single=True)


@pytest.mark.parametrize("read", ["prompt", "source", "listing", "link"])
def test_no_file_that_is_read_is_overwritten(system: Path, out: Path, read: str) -> None:
    (out / "manifest.jsonl" if read == "listing" else out / "b.wav").write_text("mine")
    given = rows(out, a="one", b="two")
    if read in ("prompt", "source"):
        given[0][read] = str(out / "b.wav")
    if read == "link":
        (out / "also.wav").hardlink_to(out / "b.wav")
        given[0]["prompt"] = str(out / "also.wav")
    more = {"requests": out / "manifest.jsonl"} if read == "listing" else {}
    with pytest.raises(UsageError, match=r"is the input .*, which would be overwritten$"):
        ask(given, system, out, **more)
    assert "mine" in {path.read_text() for path in out.iterdir()}


def test_lines_keep_their_numbers_and_odd_separators(tmp_path: Path) -> None:
    path = tmp_path / "rows.TXT"
    path.write_bytes("\ufeffone\u2028still one\n\n  \r\nfour\n".encode())
    assert read_lines(path, ".txt .jsonl") == [(1, "one\u2028still one"), (4, "four")]
    assert [(row["id"], row["text"]) for row in read_sentences(path)] == [
        ("000001", "one\u2028still one"),
        ("000004", "four"),
    ]


def test_files_that_are_no_requests_are_refused(tmp_path: Path) -> None:
    for name in ("rows.csv", "rows"):
        (tmp_path / name).write_text("x")
        with pytest.raises(UsageError, match=rf"{name}: must be \.txt \.jsonl$"):
            read_lines(tmp_path / name, ".txt .jsonl")
    with pytest.raises(UsageError, match=r"gone: No such file or directory$"):
        read_lines(tmp_path / "gone", ".txt .jsonl")
    (tmp_path / "latin.txt").write_bytes(b"abc\xe4")
    with pytest.raises(UsageError, match=r"latin.txt: not UTF-8 at byte 3; save the file as UTF-8$"):
        read_lines(tmp_path / "latin.txt", ".txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UsageError, match=r"pipe.txt: is not a regular file$"):
        read_lines(tmp_path / "pipe.txt", ".txt")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("[]", "must be an object with a text and a voice$"),
        ('{"text": "x"}', "must be an object with a text and a voice$"),
        ('{"text": "x", "voice": 3}', "must be an object with a text and a voice$"),
        ('{"text": "x", "voice": "y", "mood": 1, "zeal": 2}', "unknown key mood; known: id, text, voice$"),
    ],
)
def test_a_line_that_is_no_request_is_named(line: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^rows.jsonl:7: {why}"):
        parse_line(Path("rows.jsonl"), 7, line, ("text", "voice"), {"voice", "text", "id"})


def test_a_line_has_its_number_as_id_unless_it_has_one() -> None:
    read = {"text": "x"}
    assert parse_line(Path("r"), 7, json.dumps(read), ("text",), {"text"}) == {"id": "000007", "text": "x"}
    named = {"id": "mine", "text": "x"}
    assert parse_line(Path("r"), 7, json.dumps(named), ("text",), {"id", "text"}) == named


def test_a_value_that_breaks_a_rule_leaves_its_row() -> None:
    rules = {"prompt": is_text, "duration_s": duration_rule}
    good = {"id": "a", "prompt": None, "duration_s": 600, "more": [1]}
    assert checked(good, 1, rules) == good
    assert checked({"id": "a", "prompt": 7, "duration_s": 1.5}, 3, rules) == {
        "problem": "line 3: prompt is 7: must be a text",
        "id": "a",
        "prompt": None,
        "duration_s": 1.5,
    }
    both = checked({"prompt": 7, "duration_s": 601}, 3, rules)
    assert (both["problem"], both["prompt"], both["duration_s"]) == (
        "line 3: prompt is 7: must be a text",
        None,
        None,
    )
    half = checked({"text": "\ud800"}, 2, rules)
    assert half == {
        "problem": r"line 2: text is '\ud800': must be UTF-8; it holds half a surrogate pair",
        "text": "",
    }


@pytest.mark.parametrize(
    ("value", "fits"), [(0, False), (0.001, True), (600, True), (600.1, False), (True, False)]
)
def test_durations_of_requests(value: object, fits: bool) -> None:
    assert (duration_rule(value) is None) == fits


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ([0, 0.1], True),
        ([0.1, 0.1], False),
        ([-0.1, 1], False),
        ([0, 1, 2], False),
        ((0, 1), False),
        ([0, None], False),
    ],
)
def test_times_of_an_edit(value: object, fits: bool) -> None:
    assert (edit_rule(value) is None) == fits


def test_sentences_find_their_files_beside_them(tmp_path: Path) -> None:
    lines: list[Mapping[str, object]] = [
        {"text": "one", "prompt": "v.wav", "source": "/abs/s.wav", "judge": "j.wav", "phones": ["a", "b"]},
        {"text": "two", "phones": "ab", "source": "s.wav"},
        {"text": "three", "language": 3, "edit_s": [0, 1]},
        {"text": "four", "judge": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    first, *others = read_sentences(path, ("judge",))
    assert first == {
        "id": "000001",
        "text": "one",
        "prompt": str(tmp_path / "v.wav"),
        "source": "/abs/s.wav",
        "judge": str(tmp_path / "j.wav"),
        "phones": ["a", "b"],
    }
    assert others[0]["source"] == str(tmp_path / "s.wav")
    assert [row["problem"] for row in others] == [
        "line 2: phones is 'ab': must be a list of texts",
        "line 3: language is 3: must be a text",
        "line 4: judge is 1: must be a text",
    ]
    with pytest.raises(UsageError, match="unknown key judge"):
        read_sentences(path)


def test_an_id_names_a_file(tmp_path: Path) -> None:
    named = with_outputs([{"id": "a-1.b_ü"}, {"id": "x" * 251}, {"id": "y" * 252}], tmp_path / "r", tmp_path)
    assert named[0]["output"] == str(tmp_path / "a-1.b_ü.wav")
    assert (named[1]["output"], "problem" in named[1]) == (str(tmp_path / f"{'x' * 251}.wav"), False)
    assert named[2]["problem"].endswith("a file name of 256 bytes; at most 255 are allowed")
    assert len(Path(named[2]["output"]).name) == 68
    for bad in ("", ".a", "a/b", "a b", 3):
        with pytest.raises(UsageError, match=r"it names a file$"):
            with_outputs([{"id": bad}], tmp_path / "r", tmp_path)
    with pytest.raises(UsageError, match="id 'a' occurs twice; each names a file of its own"):
        with_outputs([{"id": "a"}, {"id": "b"}, {"id": "a"}], tmp_path / "r", tmp_path)
