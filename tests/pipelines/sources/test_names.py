"""Names that differ in their normal form or the case of their ending; transcripts beside files; links; outputs."""

from __future__ import annotations

import hashlib
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.prepare.file_stats import sized
from pipelines.prepare.known import Known
from pipelines.prepare.pending import Listing
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source
from pipelines.sources.transcripts import TextError, read_transcript


def texts(source: Path) -> dict[str, str | None]:
    """The recordings of a folder or table as they are found: id -> text, the files all there."""
    with ThreadPoolExecutor(2) as pool:
        found = sized(list(open_source(str(source)).recordings()), pool)
    assert all(one.size_bytes == 1 for one in found)
    return {
        one.recording_id: one.text if one.text_uri is None else read_transcript(one.text_uri) for one in found
    }


@pytest.mark.parametrize(("file", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("ending", [".wav", ".WAV"])
def test_a_table_finds_names_in_another_form(tmp_path: Path, file: str, named: str, ending: str) -> None:
    (tmp_path / (unicodedata.normalize(file, "müller") + ending)).write_bytes(b"x")  # type: ignore[arg-type]
    written = unicodedata.normalize(named, "müller.wav")  # type: ignore[arg-type]
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{written},grüß gott\n", encoding="utf-8")
    assert list(texts(tmp_path).values()) == ["grüß gott"]
    (tmp_path / "metadata.csv").write_text(f"{written.removesuffix('.wav')}|ja|ja\n", encoding="utf-8")
    if ending == ".wav":
        assert list(texts(tmp_path).values()) == ["ja"]
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "{written}", "text": "x", "duration": 1}}\n')
    with ThreadPoolExecutor(2) as pool:
        (one,) = sized(list(open_source(str(tmp_path)).recordings()), pool)
    assert one.text == "x"
    with open_file(one.uri) as opened:
        assert opened.read() == b"x"


@pytest.mark.parametrize("ending", [".txt", ".TXT", ".lab", ".normalized.txt", ".original.txt"])
@pytest.mark.parametrize("audio", ["a.wav", "a.WAV", unicodedata.normalize("NFD", "Übung.wav")])
def test_transcripts_beside_a_file(tmp_path: Path, audio: str, ending: str) -> None:
    (tmp_path / audio).write_bytes(b"x")
    stem = unicodedata.normalize("NFC", audio.rpartition(".")[0])
    (tmp_path / f"{stem}{ending}").write_text("words", encoding="utf-8")
    assert texts(tmp_path) == {audio: "words"}
    (tmp_path / "list.csv").write_text(f"file\n{audio}\n", encoding="utf-8")
    assert texts(tmp_path / "list.csv") == {audio: "words"}


def test_the_plain_transcript_comes_first_and_two_files_stay_two(tmp_path: Path) -> None:
    for name in ("a.wav", "a.WAV"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.lab").write_text("lab")
    (tmp_path / "a.txt").write_text("txt")
    assert texts(tmp_path) == {"a.WAV": "txt", "a.wav": "txt"}
    (tmp_path / "metadata.csv").write_text("file,text\na.wav,given\n")
    assert texts(tmp_path) == {"a.wav": "given", "a.WAV": "txt"}


def test_labels_with_times_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.lab").write_text("0 1200000 sil\n1200000 2500000 ah\n")
    with pytest.raises(TextError, match="times of labels"):
        read_transcript((tmp_path / "a.lab").as_uri())


def test_links_to_folders_are_read_once(tmp_path: Path) -> None:
    for name in ("source/own", "outside/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.wav").write_bytes(b"x")
    source = tmp_path / "source"
    (source / "linked").symlink_to(tmp_path / "outside")
    (source / "second").symlink_to(tmp_path / "outside" / "deep")
    (source / "inside").symlink_to(source / "own")
    (source / "own" / "loop").symlink_to(source)
    (tmp_path / "outside" / "loop").symlink_to(tmp_path / "outside")
    assert list(texts(source)) == ["linked/deep/a.wav", "own/a.wav"]


def test_a_dataset_inside_the_source_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    for place in (tmp_path / "out", tmp_path):
        for name in ("_delta_log/0.json", "_settings/run.yaml", "split=train/part.bin"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"x")
    assert list(texts(tmp_path)) == ["a.wav"]


def test_a_corrected_transcript_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.wav").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_text(f"{name} wrong")
    ids = ["a.wav", "b.wav", "c.wav"]
    digests = [hashlib.sha256(b"x").hexdigest()] * 3
    rows = pa.table({"recording_id": ids, "id": ids, "text": ["a wrong", "b wrong", "said"],
                     "text_source": ["sidecar", "sidecar", "whisperx:tiny"], "source_digest": digests})  # fmt: skip
    known = Known.of(rows).with_texts(rows)
    listing = Listing(open_source(str(tmp_path)), changed="redo")
    assert listing.corrected(known) == 0
    assert list(listing.batches(known)) == []
    (tmp_path / "b.txt").write_text("b right")
    assert listing.corrected(known) == 1
    (batch,) = listing.batches(known)
    assert batch.rows["recording_id"].to_pylist() == ["b.wav"]
