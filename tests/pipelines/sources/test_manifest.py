"""JSON lines: NeMo, lhotse and plain ones; which segments of which files, under which ids; refusals by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.sources.interface import Recording, to_table
from pipelines.sources.open import open_source


def offered(path: Path, *rows: object) -> list[Recording]:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    found = list(open_source(str(path)).recordings())
    to_table(found)
    return found


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz", "m.json"])
def test_nemo_lines_name_files_and_segments(tmp_path: Path, name: str) -> None:
    first, second, third = offered(
        tmp_path / name,
        {"audio_filepath": "wavs/a b.wav", "duration": 2.5, "text": "Hello", "lang": "en", "speaker": 7},
        "",
        {"audio_filepath": "./long.flac", "offset": 1.25, "duration": 3.0, "text": ""},
        {"audio_filepath": "/abs/x.wav", "offset": 0, "duration": 1 / 3},
    )
    assert (first.recording_id, first.uri) == ("wavs/a b.wav", (tmp_path / "wavs" / "a b.wav").as_uri())
    assert (first.text, first.text_source, first.language, first.speaker) == ("Hello", "given", "en", "7")
    assert (first.start_s, first.stop_s, first.size_bytes, first.estimated) == (None, 2.5, 80_000, True)
    assert (second.recording_id, second.start_s, second.stop_s) == ("long.flac#t=1.25,4.25", 1.25, 4.25)
    assert (second.text, second.text_source) == (None, None)
    assert (third.recording_id, third.uri) == ("/abs/x.wav#t=0,0.333333", "file:///abs/x.wav")


def test_plain_lines_take_the_known_names(tmp_path: Path) -> None:
    one, two, three = offered(
        tmp_path / "m.jsonl",
        {"id": "ignored", "path": "a.wav", "sentence": "Täxt", "locale": "de", "split": "dev"},
        {"audio": {"path": "s3://bucket/a key.wav", "bytes": None}, "speaker_id": "anna"},
        {"file": "../up.wav"},
    )
    assert (one.recording_id, one.text, one.language, one.split) == ("a.wav", "Täxt", "de", "validation")
    assert (one.size_bytes, one.source_stat) == (None, None)
    assert (two.uri, two.speaker) == ("s3://bucket/a%20key.wav", "anna")
    assert three.uri == (tmp_path.parent / "up.wav").as_uri()


def lhotse_recording(**changes: object) -> dict[str, object]:
    source = {"type": "file", "channels": [0], "source": "audio/r.wav"}
    return {"id": "r", "sources": [source], "sampling_rate": 16000, "duration": 10.0, **changes}


def cut(**changes: object) -> dict[str, object]:
    return {
        "id": "cut-1", "start": 2.0, "duration": 4.0, "channel": 0, "type": "MonoCut",
        "supervisions": [], "recording": lhotse_recording(), **changes,
    }  # fmt: skip


def test_lhotse_cuts_are_segments_under_their_own_ids(tmp_path: Path) -> None:
    one = {"id": "s1", "start": 0.0, "duration": 4.0, "text": "one", "speaker": "anna", "language": "English"}
    two = {"id": "s2", "start": 2.5, "duration": 1.5, "text": "two"}
    found = offered(
        tmp_path / "cuts.jsonl.gz",
        cut(supervisions=[one]),
        cut(id="cut-2"),
        cut(id="cut-3", supervisions=[one, two]),
        cut(id="whole", start=0, duration=10.0),
        lhotse_recording(id="alone"),
    )
    spans = [(each.recording_id, each.start_s, each.stop_s, each.text) for each in found]
    assert spans == [
        ("cut-1", 2.0, 6.0, "one"),
        ("cut-2", 2.0, 6.0, None),
        ("s1", 2.0, 6.0, "one"),
        ("s2", 4.5, 6.0, "two"),
        ("whole", None, None, None),
        ("alone", None, None, None),
    ]
    assert {each.uri for each in found} == {(tmp_path / "audio" / "r.wav").as_uri()}
    assert (found[0].speaker, found[0].language) == ("anna", "English")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 2 holds a list, not an object; write one object a line"),
        ("{", "line 2 is not JSON: "),
        ({"text": "x"}, "line 2 names no file; it needs a text in one of file, file_name"),
        ({"path": 5}, "line 2 names no file"),
        ({"audio_filepath": "a", "shard_id": 3}, "line 2 belongs to a manifest of tar shards (shard_id)"),
        (cut(channel=1), "line 2 picks channel 1 of 1; channels are averaged"),
        ({"type": "MixedCut", "tracks": []}, "line 2 is a MixedCut of several tracks; give simple cuts"),
        (
            lhotse_recording(sources=[{"type": "command", "source": "sox"}]),
            "line 2 has a source of type 'command'; only file and url can be read",
        ),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, line: object, message: str) -> None:
    manifest = tmp_path / "m.jsonl"
    with pytest.raises(UsageError) as caught:
        offered(manifest, {"path": "a.wav"}, line)
    assert str(caught.value).startswith(f"{manifest}: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"path": "a", "offset": -1}, "line 2 has offset = -1; it must be at least 0 s"),
        ({"path": "a", "offset": 1, "duration": 0}, "line 2 has a segment of 0 s at 1 s of a"),
        ({"path": "a", "duration": "long"}, "line 2 has duration = 'long'; it must be a number of seconds"),
        ('{"path": "a", "duration": NaN}', "line 2 has duration = nan; it must be a number of seconds"),
        ({"path": "a", "text": ["x"]}, "line 2 cannot be used: text is ['x'], not a text"),
        ('{"path": "a", "text": "\\ud800"}', "line 2 cannot be used: 'utf-8' codec can't encode"),
        ({"path": "a", "speaker": 1.0}, "line 2 cannot be used: speaker is 1.0, not a text"),
        ({"path": "a", "speaker": True}, "line 2 cannot be used: speaker is True, not a text"),
        (
            {"path": "a", "start": 1.5, "end": 2},
            "line 2 has start = 1.5, which may say a part of the file; write offset",
        ),
        ({"path": "a", "end_time": "0:02"}, "line 2 has end_time = '0:02', which may say a part of the file"),
        (
            cut(
                recording={**lhotse_recording(), "transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}
            ),
            "line 2 has a recording with transforms (speed, volume, ...), which are not applied",
        ),
        (cut(start="x"), "line 2 has start = 'x'; it must be a number of seconds"),
        (cut(supervisions="x"), "line 2 has supervisions that are not objects"),
    ],
)
def test_an_odd_value_rejects_its_line_alone(tmp_path: Path, line: object, message: str) -> None:
    first, odd, last = offered(tmp_path / "m.jsonl", {"path": "b.wav"}, line, {"path": "c.wav"})
    assert (first.problem, last.problem, odd.problem) == (None, None, Reason.INVALID_ROW)
    assert str(odd.detail).startswith(message)


def test_the_first_filled_column_counts(tmp_path: Path) -> None:
    one, two, three = offered(
        tmp_path / "m.jsonl",
        {"audio_filepath": "a.wav", "text": "given words", "normalized_text": ""},
        {
            "audio_filepath": "b.wav",
            "transcription": None,
            "text": "other words",
            "speaker": None,
            "speaker_id": 12,
        },
        {"audio_filepath": "c.wav", "text_filepath": "texts/c.txt", "duration": 1.3},
    )
    assert (one.text, two.text, two.speaker) == ("given words", "other words", "12")
    assert (three.text_uri, three.stop_s) == ((tmp_path / "texts" / "c.txt").as_uri(), 1.3)


def test_a_recording_named_twice_says_by_which_lines(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "text": "one"}, {"path": "b.wav"}, {"path": "a.wav", "text": "two"}]
    found = offered(tmp_path / "m.jsonl", *rows)
    assert [one.problem for one in found] == [None, None, Reason.DUPLICATE_ID]
    assert found[2].detail == "line 3 names a.wav again; line 1 did so first"


def test_bytes_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "m.jsonl", tmp_path / "m.jsonl.gz"
    plain.write_bytes(b'{"path": "a"}\n\n{"path": "\xe9"}\n')
    packed.write_bytes(gzip.compress(b'{"path": "a"}\n' * 1000)[:-20])
    with pytest.raises(UsageError, match=r"m\.jsonl: line 3 is not UTF-8; save the manifest as UTF-8"):
        list(open_source(str(plain)).recordings())
    with pytest.raises(UsageError, match=r"m\.jsonl\.gz: Compressed file ended"):
        list(open_source(str(packed)).recordings())


def test_what_offset_says_is_not_said_again(tmp_path: Path) -> None:
    (one,) = offered(
        tmp_path / "m.jsonl", {"path": "a.wav", "offset": 1, "duration": 2, "start": 1, "end": None}
    )
    assert (one.start_s, one.stop_s, one.problem) == (1.0, 3.0, None)


@pytest.mark.parametrize(
    "name", ["metadata.jsonl", "Metadata.JSONL", "metadata.jsonl.gz", "METADATA.JSONL.GZ"]
)
def test_a_folder_with_a_metadata_jsonl_takes_its_texts(tmp_path: Path, name: str) -> None:
    for wave in ("a.wav", "b.wav"):
        (tmp_path / wave).write_bytes(b"x")
    line = b'{"file_name": "b.wav", "transcription": "b"}\n'
    (tmp_path / name).write_bytes(gzip.compress(line) if name.lower().endswith(".gz") else line)
    found = list(open_source(str(tmp_path)).recordings())
    assert [(one.recording_id, one.text) for one in found] == [("b.wav", "b"), ("a.wav", None)]
