"""Sources on an object store: moto's S3 on localhost, a process of its own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.appending import Appender
from catalog.command import JobError, UsageError
from catalog.creation import create
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.prepare.pending import Listing
from pipelines.sources import filesystems
from pipelines.sources.interface import Recording
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source
from pipelines.sources.reading import Reading, set_reading
from pipelines.stages.codec import CodecStage
from pipelines.stages.decode import DecodeStage
from pipelines.stages.write import WriteStage, Written

ODD = "odd #1 100% ?&=+@{x}/tä ü.wav"


def offered(location: str) -> list[Recording]:
    return list(open_source(location).recordings())


def content(recording: Recording) -> bytes:
    with open_file(recording.uri) as file:
        return file.read()


def test_a_folder_of_odd_keys(s3_bucket: Any) -> None:
    keys = [ODD, "a/b/deep.flac", "a/b/deep.txt", "top.mp3", ".hidden"]
    for key in keys:
        s3_bucket.put_object(Key=f"my data/{key}", Body=key.encode())
    found = offered(f"s3://{s3_bucket.name}/my data/")
    assert [(one.recording_id, content(one).decode()) for one in found] == [
        (key, key) for key in ("a/b/deep.flac", ODD, "top.mp3")
    ]
    assert [one.size_bytes for one in found] == [len(content(one)) for one in found]
    assert [one.source_stat for one in found] == [filesystems.stat_of(one.uri) for one in found]
    with open_file(str(found[0].text_uri)) as text:
        assert text.read() == b"a/b/deep.txt"
    for location in (f"s3://{s3_bucket.name}/absent", "s3://no-such-bucket-of-mine/x"):
        with pytest.raises(UsageError, match=r"does not exist|cannot be reached"):
            open_source(location)


def test_a_store_without_credentials_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's client repeats for a quarter of an hour by itself."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    set_reading(Reading(retry_s=0.1))
    try:
        with pytest.raises(UsageError, match=r"gs://bucket/x' cannot be reached: .*Retry policy exhausted"):
            open_source("gs://bucket/x")
    finally:
        set_reading(Reading())


def test_tables_and_manifests_name_objects(s3_bucket: Any) -> None:
    s3_bucket.put_object(Key=f"c/{ODD}", Body=b"odd")
    s3_bucket.put_object(Key="c/wavs/LJ1.wav", Body=b"lj")
    s3_bucket.put_object(Key="c/metadata.csv", Body=b"LJ1|one|one\n")
    elsewhere = {"path": f"s3://{s3_bucket.name}/c/{ODD}", "text": "y"}
    lines = [{"path": ODD, "text": "x", "duration": 1}, elsewhere]
    packed = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    s3_bucket.put_object(Key="c/m.jsonl.gz", Body=packed)
    assert [content(one) for one in offered(f"s3://{s3_bucket.name}/c/m.jsonl.gz")] == [b"odd", b"odd"]
    (row,) = offered(f"s3://{s3_bucket.name}/c/metadata.csv")
    assert (row.recording_id, row.text, content(row)) == ("wavs/LJ1.wav", "one", b"lj")


def test_tars_and_parquet_are_read_in_place(s3_bucket: Any) -> None:
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for name, data in (("a.mp3", b"member"), ("a.json", b'{"text": "A"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    s3_bucket.put_object(Key="shards/s-0.tar", Body=shard.getvalue())
    table = io.BytesIO()
    pq.write_table(pa.table({"audio": [b"one", b"two"], "text": ["1", "2"]}), table)
    s3_bucket.put_object(Key="shards/t.parquet", Body=table.getvalue())
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, pa.schema([("audio", pa.binary())])) as writer:
        writer.write_table(pa.table({"audio": [b"three"]}))
    s3_bucket.put_object(Key="shards/u.arrow", Body=stream.getvalue())
    found = offered(f"s3://{s3_bucket.name}/shards")
    assert [(one.recording_id, one.text, content(one)) for one in found] == [
        ("s-0.tar/a", "A", b"member"),
        ("t.parquet#0", "1", b"one"),
        ("t.parquet#1", "2", b"two"),
        ("u.arrow#0", None, b"three"),
    ]
    assert offered(f"s3://{s3_bucket.name}/shards/s-*.tar")[0].uri == found[0].uri


def test_a_changed_object_is_seen(s3_bucket: Any) -> None:
    s3_bucket.put_object(Key="d/a.wav", Body=b"before")
    listing = Listing(open_source(f"s3://{s3_bucket.name}/d"))
    (first,) = listing.source.recordings()
    digest = hashlib.sha256(b"before").hexdigest()
    done = pa.table(
        {"recording_id": ["a.wav"], "source_digest": [digest], "source_stat": [first.source_stat]}
    )
    assert not listing.any_new(done)
    listing.refuse_changed(done)
    s3_bucket.put_object(Key="d/a.wav", Body=b"after")
    with pytest.raises(JobError, match=r"recording 'a\.wav' has changed"):
        listing.refuse_changed(done)


def test_a_remote_source_becomes_a_remote_dataset(s3_bucket: Any, speech_folder: Path) -> None:
    for path in sorted(speech_folder.iterdir())[:4]:
        s3_bucket.put_object(Key=f"in put/{path.name}", Body=path.read_bytes())
    listing = Listing(open_source(f"s3://{s3_bucket.name}/in put"))
    codec = identity_of(load_codec("pcm-16khz"))
    appender = Appender(create(f"s3://{s3_bucket.name}/out", codec, {}))
    stages = [
        DecodeStage(DecodeSettings(16_000, Limits())),
        CodecStage("pcm-16khz"),
        WriteStage(appender.uri, "run1", codec, 0.0, 0),
    ]
    for batch in listing.batches(appender.committed()):
        rows = batch.rows
        for stage in stages:
            rows = stage(rows)
        appender.append(Written.from_table(rows).shards)
    committed = Appender.open(appender.uri).committed()
    assert committed["recording_id"].to_pylist() == ["utterance0.wav", "utterance1.wav"]
    digests = [
        hashlib.sha256((speech_folder / f"utterance{one}.wav").read_bytes()).hexdigest() for one in (0, 1)
    ]
    assert committed["source_digest"].to_pylist() == digests
    assert not listing.any_new(committed)
    listing.refuse_changed(committed)
    texts = appender.dataset.read(["text"])["text"].to_pylist()
    assert texts == [(speech_folder / f"utterance{one}.txt").read_text() for one in (0, 1)]
