"""The workers without Ray: a table in, a table out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.reasons import Reason
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from models.codecs.mill.editions import editions
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import Decoder, DecodeSettings
from pipelines.audio.wav import write_wav
from pipelines.rows import SCHEMA, reject, samples_array
from pipelines.sources.interface import to_table
from pipelines.sources.open import open_source
from pipelines.sources.transcripts import TextError, read_transcript
from pipelines.stages.codec import CodecStage, buckets
from pipelines.stages.decode import DecodeStage
from pipelines.stages.text import TextStage
from pipelines.stages.write import WriteStage, Written, split_of

SETTINGS = DecodeSettings(16_000, Limits(min_duration_s=0.05))
CODECS = ["pcm-16khz", *(f"mill-16khz@{edition}" for edition in editions()[-1:])]


@pytest.fixture(scope="module")
def decoded(speech_folder: Path) -> pa.Table:
    table = to_table(list(open_source(str(speech_folder)).recordings()))
    return DecodeStage(SETTINGS)(table)


def row_of(path: Path, **changes: object) -> pa.Table:
    (table,) = (
        to_table([one]) for one in open_source(str(path.parent)).recordings() if one.uri == path.as_uri()
    )
    for name, value in changes.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([value], pa.string()))
    return table


def test_decoding_keeps_order_texts_and_digests(decoded: pa.Table, speech_folder: Path) -> None:
    assert decoded.schema == SCHEMA
    assert decoded["recording_id"].to_pylist() == [f"utterance{index}.wav" for index in range(6)]
    assert decoded["text"].to_pylist()[1] == (speech_folder / "utterance1.txt").read_text()
    assert decoded["reason"].null_count == 6
    assert all(len(digest) == 64 for digest in decoded["source_digest"].to_pylist())
    assert min(len(samples) for samples in decoded["samples"].to_pylist()) > 8_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, Reason.MISSING_TEXT),
        (b" \n\t", Reason.EMPTY_TEXT),
        (b"...", Reason.EMPTY_TEXT),
        ("♪ ♪".encode(), Reason.EMPTY_TEXT),
        ("caf\u00e9".encode("latin-1"), Reason.TEXT_ENCODING),
        ("hello".encode("utf-16"), Reason.TEXT_ENCODING),
        (b"\xef\xbb\xbfhello\r\n", None),
    ],
)
def test_transcripts(
    tmp_path: Path, speech_folder: Path, content: bytes | None, reason: Reason | None
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes((speech_folder / "utterance0.wav").read_bytes())
    if content is not None:
        path.with_suffix(".txt").write_bytes(content)
    decoded = DecodeStage(SETTINGS)(row_of(path))
    result = TextStage("reject")(decoded)
    assert result["reason"].to_pylist() == [reason]
    assert result["samples"].null_count == (1 if reason else 0)
    assert (result["text"].to_pylist() == ["hello"]) == (reason is None)
    allowed = TextStage("allow")(decoded)
    assert allowed["reason"].to_pylist() == [Reason.TEXT_ENCODING if reason is Reason.TEXT_ENCODING else None]


def test_what_the_source_rejects_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    table = row_of(tmp_path / "a.wav", problem="duplicate_id")
    result = DecodeStage(SETTINGS)(table)
    assert result["reason"].to_pylist() == ["duplicate_id"]
    assert result["source_digest"].to_pylist() == [None]


@given(st.lists(st.integers(0, 500), max_size=40), st.integers(1, 2000))
def test_buckets_hold_every_length_once_within_the_limit(lengths: list[int], limit: int) -> None:
    groups = buckets(lengths, limit)
    assert sorted(index for group in groups for index in group) == [at for at, n in enumerate(lengths) if n]
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= limit


@given(st.lists(st.none() | st.integers(0, 5).map(lambda n: np.ones(n, dtype=np.float32)), max_size=8))
def test_samples_array_holds_the_samples(rows: list[np.ndarray | None]) -> None:
    assert samples_array(rows).to_pylist() == [None if row is None else row.tolist() for row in rows]


@pytest.mark.parametrize("name", CODECS)
def test_codes_do_not_depend_on_the_batch(name: str, decoded: pa.Table) -> None:
    alone = CodecStage(name, batch_s=0.001)
    together = CodecStage(name, batch_s=1000.0)(decoded)
    assert together.column_names == [*SCHEMA.names[:-1], "codes", "target_length"]
    single = pa.concat_tables([alone(decoded.slice(row, 1)) for row in range(decoded.num_rows)])
    assert single["codes"].to_pylist() == together["codes"].to_pylist()
    shuffled = alone(decoded.take([5, 1, 3, 0, 2, 4]))
    assert shuffled["codes"].to_pylist() == together.take([5, 1, 3, 0, 2, 4])["codes"].to_pylist()
    frames = together["target_length"].to_pylist()
    assert frames == [len(codes[0]) for codes in together["codes"].to_pylist()]


def test_rejected_rows_travel_without_codes(decoded: pa.Table) -> None:
    silent = reject(decoded.slice(0, 1), {0: (Reason.SILENT, "peak is 0")})
    encoded = CodecStage("pcm-16khz")(pa.concat_tables([silent, decoded.slice(1, 1)]))
    assert encoded["codes"].is_null().to_pylist() == [True, False]
    assert encoded["target_length"].to_pylist()[0] is None


@given(st.integers(0, 3))
def test_the_held_out_share_is_stable_and_about_right(seed: int) -> None:
    splits = [split_of(f"recording {index}", 0.2, seed) for index in range(2000)]
    assert 300 < splits.count("validation") < 500
    assert splits == [split_of(f"recording {index}", 0.2, seed) for index in range(2000)]
    assert split_of("x", 0.0, seed) == "train"
    assert split_of("x", 1.0, seed) == "validation"


@pytest.fixture
def encoded(decoded: pa.Table) -> pa.Table:
    rejected = reject(decoded.slice(0, 1), {0: (Reason.SILENT, "peak is 0")})
    return CodecStage("pcm-16khz")(pa.concat_tables([rejected, decoded.slice(1)]))


def writer(dataset: Path, validation: float = 0.0) -> WriteStage:
    return WriteStage(str(dataset), "run1", identity_of(load_codec("pcm-16khz")), validation, 0)


def test_written_rows_are_invisible_until_committed(tmp_path: Path, encoded: pa.Table) -> None:
    appender = Appender(create(tmp_path, identity_of(load_codec("pcm-16khz")), {}))
    written = Written.from_table(writer(tmp_path)(encoded))
    assert (written.recordings, written.rejected) == (6, {"silent": 1})
    assert written.examples == ["utterance0.wav: silent: peak is 0"]
    assert {shard.split: shard.rows for shard in written.shards} == {"train": 5, "rejected": 1}
    assert appender.dataset.totals().recordings == 0
    appender.append(written.shards)
    totals = appender.dataset.totals()
    assert (totals.recordings, totals.utterances, totals.rejected) == (6, 5, 1)
    assert totals.hours * 3600 == pytest.approx(written.seconds)


def test_a_split_that_the_source_gives_is_kept(tmp_path: Path, encoded: pa.Table) -> None:
    given_split = pa.array(["validation"] * 6)
    table = encoded.set_column(encoded.schema.get_field_index("split"), "split", given_split)
    shards = Written.from_table(writer(tmp_path)(table)).shards
    assert {shard.split for shard in shards} == {"validation", "rejected"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_file_and_the_work_can_go_on(
    tiny_disk: Path, tmp_path: Path, encoded: pa.Table
) -> None:
    output = tiny_disk / "data"
    appender = Appender(create(output, identity_of(load_codec("pcm-16khz")), {}))
    noise = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    write_wav(tmp_path / "big.wav", noise, 16_000)
    big = CodecStage("pcm-16khz")(DecodeStage(SETTINGS)(row_of(tmp_path / "big.wav")))
    with pytest.raises(JobError, match="No space left on device"):
        writer(output)(big)
    assert [path.name for path in output.rglob("*.parquet")] == []
    # The disk has room again for something smaller: the dataset is as it was.
    appender.append(Written.from_table(writer(output)(encoded.slice(0, 1))).shards)
    assert Dataset.open(output).totals().recordings == 1


def test_a_source_that_is_gone_is_no_verdict_about_the_recording(tmp_path: Path) -> None:
    """Its rows are not stored, so that the next run takes it up; what was read and is bad is."""
    source, output = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    create(output, identity_of(load_codec("pcm-16khz")), {})
    for name in ("good", "gone", "untold"):
        write_wav(source / f"{name}.wav", np.full(8000, 0.1, np.float32), 16000)
        (source / f"{name}.txt").write_text("words")
    (source / "bad.wav").write_bytes(b"RIFF nothing")
    table = to_table(list(open_source(str(source)).recordings()))
    (source / "gone.wav").unlink()
    (source / "untold.txt").unlink()
    decoded = DecodeStage(SETTINGS)(table)
    reasons = dict(zip(decoded["id"].to_pylist(), decoded["reason"].to_pylist(), strict=True))
    unavailable = Reason.UNAVAILABLE.value
    assert reasons == {
        "good.wav": None, "gone.wav": unavailable, "untold.wav": unavailable, "bad.wav": "unreadable"
    }  # fmt: skip
    stage = WriteStage(str(output), "run1", identity_of(load_codec("pcm-16khz")), 0.0, 0)
    written = Written.from_table(stage(CodecStage("pcm-16khz")(decoded)))
    assert written.troubles == ".u.u"
    assert written.last_trouble == "untold.wav: transcript cannot be read: No such file or directory"
    assert (written.recordings, sum(shard.rows for shard in written.shards)) == (2, 2)


@pytest.mark.parametrize("name", ["soundfile", "av", "numpy", "pyarrow"])
def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_wav(tmp_path / "one.wav", np.full(8000, 0.1, np.float32), 16000)
    (tmp_path / f"{name}.py").write_text("raise ImportError('hostile')")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder(SETTINGS)
    found = decoder.decode((tmp_path / "one.wav").as_uri())
    decoder.close()
    assert found.reason is None
    assert found.samples is not None
    assert len(found.samples) == 8000


def test_a_decoder_whose_program_is_broken_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "one.wav", np.full(8000, 0.1, np.float32), 16000)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "soundfile.py").write_text("raise ImportError('no libsndfile here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    decoder = Decoder(SETTINGS)
    with pytest.raises(JobError, match="the decoder"):
        decoder.decode((tmp_path / "one.wav").as_uri())


def test_a_transcript_is_a_regular_file_of_bounded_size(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(TextError, match="transcript is not a regular file"):
        read_transcript((tmp_path / "pipe.txt").as_uri())
    (tmp_path / "long.txt").write_bytes(b"a" * ((1 << 20) + 1))
    with pytest.raises(TextError, match="transcript has more than 1 MiB") as caught:
        read_transcript((tmp_path / "long.txt").as_uri())
    assert caught.value.reason is Reason.TOO_LONG
