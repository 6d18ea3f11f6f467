"""Tars, Parquet and Arrow files: exact ids and texts, and each member read back through its URI alone."""

from __future__ import annotations

import io
import json
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.audio.decode import decode
from pipelines.sources import filesystems, uris
from pipelines.sources.interface import Recording, to_table
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source
from pipelines.sources.transcripts import read_transcript

FEATURES = {
    "sound": {"_type": "Audio"},
    "language": {"_type": "ClassLabel", "names": ["de", "en"]},
}


def offered(location: Path | str) -> list[Recording]:
    found = list(open_source(str(location)).recordings())
    assert to_table(found).num_rows == len(found)
    return found


def content(recording: Recording) -> bytes:
    with open_file(recording.uri) as file:
        return file.read()


def write_tar(path: Path, *members: tuple[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def emilia(name: str, data: bytes, **fields: object) -> list[tuple[str, bytes]]:
    about = {
        "id": name,
        "text": f"text of {name}",
        "language": "en",
        "speaker": "EN_S0",
        "dnsmos": 3.2,
        **fields,
    }
    return [(f"{name}.mp3", data), (f"{name}.json", json.dumps(about).encode())]


def table(texts: list[str], **columns: object) -> pa.Table:
    audio = pa.array(
        [{"bytes": text.encode() * 9, "path": f"{text}.wav"} for text in texts],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    made = pa.table({"text": texts, "sound": audio, **columns})
    info = json.dumps({"info": {"features": FEATURES}})
    return made.replace_schema_metadata({"huggingface": info})


def test_emilia_shards_give_texts_speakers_and_members(tmp_path: Path) -> None:
    long_name = "EN_B0_" + "x" * 120
    write_tar(tmp_path / "EN-B1.tar", *emilia("EN_B1_W0", b"mp3 one"), *emilia(long_name, b"mp3 two!"))
    write_tar(
        tmp_path / "EN-B0.tar",
        ("./sub/a.flac", b"flac"), ("./sub/a.txt", "Täxt".encode()), ("./sub/._a.flac", b"mac"),
        ("b.wav", b"no text"), ("c.json", b"{}"), ("d.left.wav", b"l"), ("d.right.wav", b"r"),
    )  # fmt: skip
    found = offered(tmp_path)
    assert [(one.recording_id, one.text, content(one)) for one in found] == [
        ("EN-B0.tar/sub/a", None, b"flac"),
        ("EN-B0.tar/b", None, b"no text"),
        ("EN-B0.tar/d.left.wav", None, b"l"),
        ("EN-B0.tar/d.right.wav", None, b"r"),
        ("EN-B1.tar/EN_B1_W0", "text of EN_B1_W0", b"mp3 one"),
        (f"EN-B1.tar/{long_name}", f"text of {long_name}", b"mp3 two!"),
    ]
    assert [one.size_bytes for one in found] == [len(content(one)) for one in found]
    assert (found[4].speaker, found[4].language, found[4].text_source) == ("EN_S0", "en", "given")
    assert found[0].text_source == "sidecar"
    with open_file(str(found[0].text_uri)) as text:
        assert text.read().decode() == "Täxt"
    assert uris.local_path(found[0].uri) is None
    assert (
        found[0].source_stat
        == filesystems.stat_of(found[0].uri)
        == filesystems.stat_of((tmp_path / "EN-B0.tar").as_uri())
    )


@pytest.mark.parametrize("pattern", ["EN-{000..002}.tar", "EN-*.tar", "{EN-000,EN-001,EN-002}.tar"])
def test_a_pattern_names_shards_in_order(tmp_path: Path, pattern: str) -> None:
    for index in range(3):
        write_tar(tmp_path / f"EN-00{index}.tar", *emilia("a", b"x"))
    write_tar(tmp_path / "DE-000.tar", *emilia("a", b"x"))
    ids = [one.recording_id for one in offered(tmp_path / pattern)]
    assert ids == ["EN-000.tar/a", "EN-001.tar/a", "EN-002.tar/a"]
    assert [one.recording_id for one in offered(tmp_path / "DE-000.tar")] == ["DE-000.tar/a"]


def test_patterns_that_name_nothing_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a-0.tar", *emilia("a", b"x"))
    with pytest.raises(UsageError, match=r"b-\*\.tar' matches no file; it may name \.aac"):
        offered(tmp_path / "b-*.tar")
    with pytest.raises(UsageError, match=r"a-1\.tar: no such file"):
        offered(tmp_path / "a-{0..1}.tar")
    with pytest.raises(UsageError, match=r"may stand in the last part of a path only"):
        offered(tmp_path / "*" / "*.tar")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:1500], "is not a whole, uncompressed tar: unexpected end of data"),
        (lambda _: b"not a tar", "is not a whole, uncompressed tar: "),
    ],
)
def test_a_broken_tar_on_its_own_is_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    shard = tmp_path / "s.tar"
    write_tar(shard, *emilia("a", b"x" * 2000))
    shard.write_bytes(spoil(shard.read_bytes()))
    with pytest.raises(UsageError) as caught:
        offered(shard)
    assert str(caught.value).startswith(f"{shard}: {message}")


@pytest.mark.parametrize("source", ["", "s*.tar"], ids=["folder", "pattern"])
def test_of_a_broken_file_among_others_the_rest_is_rejected(tmp_path: Path, source: str) -> None:
    whole = [*emilia("a", b"x" * 2000), *emilia("b", b"y" * 2000)]
    for index in range(3):
        write_tar(tmp_path / f"s{index}.tar", *whole)
    data = (tmp_path / "s1.tar").read_bytes()
    (tmp_path / "s1.tar").write_bytes(data[: data.index(b"y" * 100) + 10])
    found = offered(tmp_path / source if source else tmp_path)
    ids = ["s0.tar/a", "s0.tar/b", "s1.tar/a", "s1.tar", "s2.tar/a", "s2.tar/b"]
    assert [one.recording_id for one in found] == ids
    assert [content(one)[:1] for one in found if one.problem is None] == [b"x", b"y", b"x", b"x", b"y"]
    assert found[3].problem == Reason.UNREADABLE
    assert "s1.tar: is not a whole, uncompressed tar: " in str(found[3].detail)


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        (b'"text": "text of a"', b'"text": text of a"', "member a.json is not JSON: "),
        (b'"text": "text of a"', b'"text": ["text of"]', "member a.json text is ["),
    ],
)
def test_a_member_with_a_broken_description_is_rejected(
    tmp_path: Path, old: bytes, new: bytes, detail: str
) -> None:
    shard = tmp_path / "s.tar"
    write_tar(shard, *emilia("a", b"x" * 2000), *emilia("b", b"y"))
    shard.write_bytes(shard.read_bytes().replace(old, new.ljust(len(old))))
    bad, good = offered(shard)
    assert (bad.recording_id, bad.problem) == ("s.tar/a", Reason.INVALID_ROW)
    assert str(bad.detail).startswith(detail)
    assert (good.recording_id, good.problem, good.text) == ("s.tar/b", None, "text of b")


def test_a_member_beyond_the_end_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"x" * 100)
    uri = (tmp_path / "s.tar").as_uri()
    for address in (
        "offset=90&length=20",
        "row_group=0&row=0&column=audio",
        "batch=0&row=0&column=a",
        "length=x",
    ):
        with pytest.raises(OSError, match=r"s\.tar"):
            open_file(f"{uri}#{address}")


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_columns_of_audio_are_read_row_by_row(tmp_path: Path, kind: str) -> None:
    rows = table(
        [f"t{index}" for index in range(40)], language=pa.array([0, 1] * 20), speaker_id=list(range(40))
    )
    path = tmp_path / f"part.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        pq.write_table(rows, path, row_group_size=30)
    else:
        with pa.OSFile(str(path), "wb") as file:
            make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
            with make(file, rows.schema) as writer:
                writer.write_table(rows, max_chunksize=30)
    for location, prefix in ((path, path.name), (tmp_path, path.name)):
        found = offered(location)
        assert [one.recording_id for one in found] == [f"{prefix}#{row}" for row in range(40)]
    assert [one.text for one in found] == rows["text"].to_pylist()
    assert (found[1].language, found[1].speaker, found[1].estimated) == ("en", "1", kind == "parquet")
    assert [content(one) for one in found] == [one.text.encode() * 9 for one in found]
    assert [content(one) for one in reversed(found)] == [one.text.encode() * 9 for one in reversed(found)]
    if kind != "parquet":
        assert [one.size_bytes for one in found] == [len(content(one)) for one in found]
    with pytest.raises(OSError, match="no such member"):
        open_file(found[0].uri.replace("row=0", "row=30"))


def test_own_ids_plain_bytes_and_paths(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id": ["x", "y"], "audio": [b"1", b"2"], "other": [b"", b""]}), tmp_path / "a.parquet"
    )
    (tmp_path / "sound.wav").write_bytes(b"a file")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    paths = pa.array([{"bytes": None, "path": "sound.wav"}, None], kind)
    pq.write_table(pa.table({"audio": paths}), tmp_path / "b.parquet")
    assert [(one.recording_id, content(one)) for one in offered(tmp_path / "a.parquet")] == [
        ("x", b"1"),
        ("y", b"2"),
    ]
    named, absent = offered(tmp_path / "b.parquet")
    assert content(named) == b"a file"
    with pytest.raises(OSError, match="the row holds no audio"):
        content(absent)


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("text", [1, 2], "column 'text' is of type int64; text must be text; cast or rename it"),
        ("transcription", [b"a", b"b"], "column 'transcription' is of type binary; text must be text"),
        (
            "speaker_id",
            [1.0, None],
            "column 'speaker_id' is of type double; speaker must be text or whole numbers",
        ),
        ("lang", [["en"], ["de"]], "column 'lang' is of type list<"),
    ],
)
@pytest.mark.parametrize("name", ["d.parquet", "d.arrow"])
def test_a_column_whose_type_cannot_be_read_is_refused(
    tmp_path: Path, name: str, column: str, values: list[object], rule: str
) -> None:
    made = pa.table({"audio": [b"x", b"y"], column: values})
    if name.endswith(".parquet"):
        pq.write_table(made, tmp_path / name)
    else:
        with pa.ipc.new_file(tmp_path / name, made.schema) as writer:
            writer.write_table(made)
    with pytest.raises(UsageError) as caught:
        offered(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be read: {rule}")


def test_a_column_of_nulls_and_another_that_is_filled_are_read(tmp_path: Path) -> None:
    columns = {
        "audio": [b"x", b"y"],
        "normalized_text": pa.nulls(2),
        "text": ["a", "b"],
        "speaker": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    assert [(one.text, one.speaker) for one in offered(tmp_path / "d.parquet")] == [("a", None), ("b", None)]


def test_a_table_without_audio_is_refused_alone_and_left_out_of_a_folder(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "n": [1]}), tmp_path / "m.parquet")
    (tmp_path / "a.wav").write_bytes(b"x")
    assert [one.recording_id for one in offered(tmp_path)] == ["a.wav"]
    with pytest.raises(UsageError, match=r"m\.parquet: no column of audio bytes \(columns are text, n\)"):
        offered(tmp_path / "m.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    whole, broken = offered(tmp_path)
    assert (whole.recording_id, whole.problem) == ("a.wav", None)
    assert (broken.recording_id, broken.problem) == ("broken.parquet", Reason.UNREADABLE)
    assert "broken.parquet: cannot be read: " in str(broken.detail)
    with pytest.raises(UsageError, match=r"broken\.parquet: cannot be read: "):
        offered(tmp_path / "broken.parquet")


def test_real_speech_decodes_the_same_from_an_archive(tmp_path: Path, speech_folder: Path) -> None:
    wav = speech_folder / "utterance0.wav"
    write_tar(tmp_path / "s.tar", ("utterance0.wav", wav.read_bytes()))
    (member,) = offered(tmp_path / "s.tar")
    with open_file(member.uri) as file:
        assert (decode(file, 16_000).samples == decode(wav, 16_000).samples).all()


def test_texts_and_links_of_a_tar_are_found_wherever_they_stand(tmp_path: Path) -> None:
    members = {
        "a.json": b'{"text": "text a"}',
        "b.txt": b"text b",
        "v1.2/utt.1.wav": b"1",
        "v1.2/utt.1.json": b'{"text": "first"}',
        "v1.2/utt.2.wav": b"22",
        "v1.2/utt.2.json": b'{"text": "second"}',
        "a.wav": b"a",
        "b.wav": b"bb",
        "late.wav": b"late",
        "other.wav": b"other",
        "late.lab": b"comes late",
    }
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        links = [("hard.wav", tarfile.LNKTYPE, "a.wav"), ("v1.2/soft.wav", tarfile.SYMTYPE, "../b.wav")]
        for name, kind, target in [*links, ("gone.wav", tarfile.SYMTYPE, "nowhere.wav")]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    found = {one.recording_id.removeprefix("s.tar/"): one for one in offered(tmp_path / "s.tar")}
    assert {name: one.text for name, one in found.items() if one.text} == {
        "a": "text a", "v1.2/utt.1": "first", "v1.2/utt.2": "second",
    }  # fmt: skip
    for name, data in {
        "a": b"a",
        "v1.2/utt.2": b"22",
        "hard": b"a",
        "v1.2/soft": b"bb",
        "late": b"late",
    }.items():
        with open_file(found[name].uri) as file:
            assert file.read() == data
    texts = {name: one.text_uri for name, one in found.items() if one.text_uri}
    assert {name: read_transcript(uri) for name, uri in texts.items()} == {
        "b": "text b",
        "late": "comes late",
    }
    assert found["gone"].problem == Reason.UNREADABLE
    assert found["gone"].detail == "member gone.wav is a link to nowhere.wav, which the tar does not hold"


def test_names_in_a_tar_are_compared_in_one_normal_form(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Übung")
    write_tar(tmp_path / "s.tar", (f"{decomposed}.WAV", b"x"), ("Übung.txt", b"words"), ("list.jsonl", b"{}"))
    (one,) = offered(tmp_path / "s.tar")
    assert one.text_uri is not None
    assert read_transcript(one.text_uri) == "words"
