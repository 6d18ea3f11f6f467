"""A tree of recordings and that of their vectors: what is left to do, and the record of what is done."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.command import JobError, UsageError
from models.identity import TokenIdentity
from pipelines.execution.embedding_tree import MAKER, SEEN, SUCCESS, Tree, read_maker

ENCODER = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=4)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return tmp_path / "audio"


def make(folder: Path, *names: str, size: int = 1) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))


def read(audio: Path, part: str = "", max_files: int | None = None) -> Tree:
    return Tree.read(audio, audio.parent / "npy", audio.parent / "json", part, max_files)


def targets(tree: Tree) -> dict[str, str]:
    """Recordings left to do and the places of their vectors, in order."""
    root = tree.embeddings
    return {
        path.relative_to(root.parent / "audio").as_posix(): target.relative_to(root).as_posix()
        for path, target in tree.todo
    }


def result(*paths: Path, problem: str | None = None) -> pa.Table:
    return pa.table(
        {
            "uri": [path.as_uri() for path in paths],
            "problem": pa.array([problem] * len(paths), pa.string()),
            "duration_s": [1.5] * len(paths),
        }
    )


def test_every_regular_file_that_is_not_hidden_or_text_is_a_recording(audio: Path) -> None:
    make(audio, "b/2.WAV", "b/1.flac", "a/x", "b/.hidden.wav", ".git/c.wav", "b/t.TXT", "b/t.json", "b/v.npy")
    (audio / "b" / "link.wav").symlink_to(audio / "b" / "2.WAV")
    (audio / "b" / "gone.wav").symlink_to(audio / "nowhere")
    (audio / "linked").symlink_to(audio / "b", target_is_directory=True)
    tree = read(audio)
    assert targets(tree) == {
        "a/x": "a/x.npy",
        "b/1.flac": "b/1.npy",
        "b/2.WAV": "b/2.npy",
        "b/link.wav": "b/link.npy",
    }
    assert (tree.files, tree.done) == (4, set())
    assert list(targets(read(audio, part="b"))) == ["b/1.flac", "b/2.WAV", "b/link.wav"]
    assert list(targets(read(audio, max_files=2))) == ["a/x", "b/1.flac"]


def test_vectors_inside_the_tree_of_recordings_are_no_recordings(audio: Path) -> None:
    make(audio, "a.wav", "vectors/a.wav", "other/vectors/b.wav")
    tree = Tree.read(audio, audio / "vectors", audio.parent, "", None)
    assert [path.relative_to(audio).as_posix() for path, _ in tree.todo] == ["a.wav", "other/vectors/b.wav"]


def test_names_that_differ_in_their_ending_have_vectors_of_their_own(audio: Path) -> None:
    make(audio, "a.flac", "a.mp3", "a.wav", "sub/a.wav")
    assert targets(read(audio)) == {
        "a.flac": "a.npy",
        "a.mp3": "a.mp3.npy",
        "a.wav": "a.wav.npy",
        "sub/a.wav": "sub/a.npy",
    }


def test_recordings_with_vectors_or_in_the_record_are_done(audio: Path, tmp_path: Path) -> None:
    make(audio, "a.wav", "b.wav", "c.wav")
    make(tmp_path / "npy", "a.npy")
    make(tmp_path / "json", SUCCESS)
    (tmp_path / "json" / SUCCESS).write_text(json.dumps([str(audio / "b.wav"), "/elsewhere/z.wav"]))
    tree = read(audio)
    assert list(targets(tree)) == ["c.wav"]
    assert tree.files == 3
    assert tree.done == {str(audio / "a.wav"), str(audio / "b.wav")}


def test_refusals(audio: Path, tmp_path: Path) -> None:
    make(audio, "notes.txt")
    with pytest.raises(UsageError, match=f"^{audio}/part: is no folder of recordings$"):
        read(audio, "part")
    with pytest.raises(UsageError, match=f"^{audio}: holds no recordings$"):
        read(audio)
    make(audio, "a.wav")
    record = tmp_path / "json" / SUCCESS
    record.parent.mkdir()
    for text, why in (
        ("[", "is not JSON: "),
        ("{}", "must be a list of paths"),
        ("[1]", "must be a list of paths"),
    ):
        record.write_text(text)
        with pytest.raises(JobError, match=f"^{record}: {why}"):
            read(audio)
    record.unlink()
    seen = record.with_name(SEEN)
    for text, why in (
        ("[", "is not JSON: "),
        ("[]", "must be an object"),
        ('{"a": 1}', "must be an object of texts"),
    ):
        seen.write_text(text)
        with pytest.raises(JobError, match=f"^{seen}: {why}"):
            read(audio)


def test_vectors_of_one_tree_have_one_maker(audio: Path, tmp_path: Path) -> None:
    make(audio, "a.wav")
    with pytest.raises(JobError, match=f"{MAKER}: does not say what made the vectors"):
        read_maker(tmp_path / "npy")
    tree = read(audio)
    tree.claim(ENCODER)
    tree.claim(ENCODER)
    assert read_maker(tmp_path / "npy") == ENCODER
    with pytest.raises(
        JobError, match=r"its vectors are made by encoder@1 \(\w{12}\), not by encoder@2 \(\w{12}\)"
    ):
        tree.claim(dataclasses.replace(ENCODER, edition="2"))
    (tmp_path / "npy" / MAKER).write_text("{}")
    with pytest.raises(JobError, match="does not say what made the vectors"):
        tree.claim(ENCODER)


@pytest.mark.parametrize(
    ("most_files", "most_bytes", "expected"),
    [
        (10, 1000, ["1 2 3 10 20"]),
        (2, 1000, ["1 2", "3 10", "20"]),
        (10, 16, ["1 2 3 10", "20"]),
        (10, 15, ["1 2 3", "10", "20"]),
        (1, 1, ["1", "2", "3", "10", "20"]),
    ],
)
def test_batches_hold_files_of_similar_size_within_both_bounds(
    audio: Path, most_files: int, most_bytes: int, expected: list[str]
) -> None:
    for size in (20, 1, 10, 3, 2):
        make(audio, f"{'xyz'[size % 3]}/{size}.wav", size=size)
    found = list(read(audio).batches(most_files, most_bytes))
    assert [" ".join(Path(uri).stem for uri in batch.rows["uri"].to_pylist()) for batch in found] == expected
    assert [batch.index for batch in found] == list(range(len(expected)))
    assert len({batch.key for batch in found}) == len(expected)
    for row in (row for batch in found for row in batch.rows.to_pylist()):
        assert row["target"] == row["uri"].replace("/audio/", "/npy/").replace(".wav", ".npy")
    again = list(read(audio).batches(most_files, most_bytes))
    assert [batch.key for batch in again] == [batch.key for batch in found]


def test_a_large_tree_is_cut_at_the_window_and_numbered_through(
    audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.execution.embedding_tree._WINDOW", 3)
    make(audio, *(f"{name}.wav" for name in "abcdefgh"))
    found = list(read(audio).batches(2, 100))
    assert [[Path(uri).stem for uri in batch.rows["uri"].to_pylist()] for batch in found] == [
        ["a", "b"],
        ["c"],
        ["d", "e"],
        ["f"],
        ["g", "h"],
    ]
    assert [batch.index for batch in found] == [0, 1, 2, 3, 4]


def test_a_file_that_is_gone_is_left_to_who_reads_it(audio: Path) -> None:
    make(audio, "a.wav", "b.wav", size=5)
    tree = read(audio)
    (audio / "b.wav").unlink()
    (batch,) = tree.batches(10, 100)
    assert [Path(uri).name for uri in batch.rows["uri"].to_pylist()] == ["b.wav", "a.wav"]


def test_what_is_done_is_recorded_even_where_the_rest_fails(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(audio, "a b.wav", "b.wav", "bad\x1b.wav", "c.wav")
    tree = read(audio)
    with pytest.raises(RuntimeError), tree.recording() as add:  # noqa: PT012 - it fails inside
        add(result(audio / "a b.wav", audio / "b.wav"))
        add(result(audio / "bad\x1b.wav", problem="no samples"))
        raise RuntimeError
    assert (tree.new, tree.rejected, tree.seconds) == (2, 1, 3.0)
    assert json.loads((tmp_path / "json" / SUCCESS).read_text()) == [
        str(audio / "a b.wav"),
        str(audio / "b.wav"),
    ]
    assert capsys.readouterr().err == f"rejected {audio}/bad\\x1b.wav: no samples\n"
    assert list(targets(read(audio))) == ["bad\x1b.wav", "c.wav"]


def test_jobs_on_other_parts_keep_their_entries(audio: Path, tmp_path: Path) -> None:
    make(audio, "a/1.wav", "b/2.wav")
    first, second = read(audio, "b"), read(audio, "a")
    for tree, name in ((first, "b/2.wav"), (second, "a/1.wav")):
        with tree.recording() as add:
            add(result(audio / name))
    record = tmp_path / "json" / SUCCESS
    assert json.loads(record.read_text()) == [str(audio / "a/1.wav"), str(audio / "b/2.wav")]
    before = record.stat()
    second.save()
    assert record.stat().st_ino == before.st_ino, "nothing new, nothing written"


def test_a_run_without_results_leaves_an_empty_record(audio: Path, tmp_path: Path) -> None:
    make(audio, "a.wav")
    tree = Tree.read(audio, tmp_path / "npy", tmp_path / "new" / "json", "", None)
    tree.save()
    record = tmp_path / "new" / "json" / SUCCESS
    assert json.loads(record.read_text()) == []
    before = record.stat()
    tree.save()
    assert record.stat().st_ino == before.st_ino, "nothing new, nothing written"


def test_a_recording_that_has_changed_is_embedded_again(audio: Path) -> None:
    make(audio, "a.wav", "b.wav", "old.wav")
    tree = read(audio)
    with tree.recording() as record:
        record(result(audio / "a.wav", audio / "b.wav"))
        make(audio, "b.wav", size=3)  # while the job runs, behind its reader
    make(tree.embeddings, "old.npy")  # a tree from before it was remembered how recordings were
    again = read(audio)
    assert (list(targets(again)), again.changed) == (["b.wav"], 1)
    with again.recording() as record:
        record(result(audio / "b.wav"))
    make(audio, "a.wav", "old.wav", size=2)
    last = read(audio)
    assert (list(targets(last)), last.changed) == (["a.wav", "old.wav"], 2)
    assert json.loads((last.record.parent / SUCCESS).read_text()) == [
        str(audio / f"{one}.wav") for one in ("a", "b", "old")
    ]


def test_a_damaged_memory_of_recordings_is_named(audio: Path) -> None:
    make(audio, "a.wav")
    make(audio.parent / "json", SEEN)
    with pytest.raises(JobError, match=r"recordings\.json: is not JSON"):
        read(audio)
