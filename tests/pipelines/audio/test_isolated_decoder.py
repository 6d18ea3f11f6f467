"""The decoder's process: segments, digests, batches in shared memory, files that hang it, kill it or eat memory."""

from __future__ import annotations

import hashlib
import io
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from catalog.reasons import Reason
from pipelines.audio import decoder_process, isolated_decoder
from pipelines.audio.containers import AudioFile
from pipelines.audio.decode import Limits, decode
from pipelines.audio.isolated_decoder import Beat, Decoded, Decoder, DecodeSettings, Done, Opened, Wanted
from pipelines.rows import waves
from pipelines.sources.interface import Recording, to_table
from pipelines.stages.decode import DecodeStage

REPOSITORY = Path(__file__).resolve().parents[3]

SETTINGS = DecodeSettings(16_000, Limits(min_duration_s=0.05))
LITTLE_MEMORY = 100 << 20


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(SETTINGS)
    yield decoder
    decoder.close()


def noise(path: Path, seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> Path:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, (int(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


def test_the_child_gives_what_decoding_here_gives(decoder: Decoder, tmp_path: Path) -> None:
    mono = noise(tmp_path / "mono.wav", 1.0)
    stereo = noise(tmp_path / "stereo.flac", 2.3, 44_100, channels=2)
    (tmp_path / "not audio.wav").write_bytes(b"no")
    batch = [mono, tmp_path / "not audio.wav", stereo, tmp_path / "absent.wav", mono]
    found, together = decoder.decode_all([Wanted(path.as_uri()) for path in batch])
    assert [one.reason for one in found] == [None, Reason.UNREADABLE, None, Reason.UNAVAILABLE, None]
    for path, one in zip(batch, found, strict=True):
        if one.samples is not None:
            np.testing.assert_array_equal(one.samples, decode(path, 16_000).samples)
            assert np.shares_memory(one.samples, together)
            assert not one.samples.flags.writeable
            assert one.digest == hashlib.sha256(path.read_bytes()).hexdigest()
            assert one.stat == f"{path.stat().st_size}:{path.stat().st_mtime_ns}"
    assert len(together) == sum(len(one.samples) for one in found if one.samples is not None)
    assert found[1].digest == hashlib.sha256(b"no").hexdigest()
    assert found[3].digest is None


def test_loudness_is_set_in_place(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 0.5)
    decoder = Decoder(DecodeSettings(16_000, Limits(), "peak", -6.0))
    first, second = decoder.decode_all([Wanted(path.as_uri()), Wanted(path.as_uri())])[0]
    assert first.samples is not None
    assert second.samples is not None
    assert np.abs(first.samples).max() == pytest.approx(10 ** (-6 / 20), rel=1e-6)
    np.testing.assert_array_equal(first.samples, second.samples)
    decoder.close()


def test_a_segment_has_the_digest_of_its_whole_file(decoder: Decoder, tmp_path: Path) -> None:
    path = noise(tmp_path / "a.flac", 3.0, 22_050)
    whole = decoder.decode(path.as_uri())
    part = decoder.decode(path.as_uri(), 0.5, 1.25)
    assert part.samples is not None
    assert (part.digest, part.stat) == (whole.digest, whole.stat)
    np.testing.assert_array_equal(part.samples, decode(path, 16_000, start_s=0.5, stop_s=1.25).samples)
    nothing = decoder.decode(path.as_uri(), 4.0, 5.0)
    assert (nothing.reason, nothing.detail) == (Reason.EMPTY, "holds no samples after 4 s")


@pytest.mark.parametrize("container", ["flac", "mp3", "ogg"])
def test_segments_of_a_file_are_read_on(decoder: Decoder, tmp_path: Path, container: str) -> None:
    """Each is what it is by itself, in whatever order they are asked for, and a changed file is read again."""
    path = noise(tmp_path / f"a.{container}", 4.0, 24_000, channels=2)
    segments = [
        (0.5, 1.0),
        (1.0, 1.5),
        (2.5, 3.0),
        (2.75, 3.5),
        (3.9, 9.0),
        (0.1, 0.3),
        (None, None),
        (1.0, None),
    ]
    found = decoder.decode_all([Wanted(path.as_uri(), start, stop) for start, stop in segments])[0]
    for (start, stop), one in zip(segments, found, strict=True):
        assert one.samples is not None
        np.testing.assert_array_equal(one.samples, decode(path, 16_000, start_s=start, stop_s=stop).samples)
    noise(path, 4.0, 24_000, seed=1)
    again = decoder.decode(path.as_uri(), 1.0, 1.5)
    assert again.samples is not None
    np.testing.assert_array_equal(again.samples, decode(path, 16_000, start_s=1.0, stop_s=1.5).samples)
    assert again.digest != found[0].digest


def test_a_segment_behind_the_last_one_is_not_decoded_from_the_start(tmp_path: Path) -> None:
    """A thousand segments of a long MP3 would otherwise decode it five hundred times."""
    path = noise(tmp_path / "a.mp3", 20.0, 44_100)
    with path.open("rb") as opened:
        file = AudioFile(opened)
        blocks: list[int] = []
        for start in range(20):
            before = len(blocks)
            decode(file, 16_000, start_s=start, stop_s=start + 1, progress=lambda: blocks.append(0))
            assert len(blocks) - before <= 2
        decode(file, 16_000, start_s=19, stop_s=20, progress=lambda: blocks.append(0))
        assert len(blocks) > 30
        file.close()


def test_a_stage_passes_segments_on_and_fills_the_stat(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 2.0)
    rows = [
        Recording("whole", path.as_uri(), 1, text="all of it"),
        Recording("part", path.as_uri(), 1, text="a part", start_s=0.5, stop_s=1.0, source_stat="1:2"),
        Recording("problem", path.as_uri(), 1, problem=Reason.DUPLICATE_ID),
    ]
    stage = DecodeStage(SETTINGS)
    table = stage(to_table(rows))
    assert table["start_s"].to_pylist() == [0.0, 0.5, None]
    assert table["duration_s"].to_pylist() == [2.0, 0.5, None]
    assert table["source_stat"].to_pylist() == [f"64044:{path.stat().st_mtime_ns}", "1:2", None]
    whole, part, problem = waves(table)
    assert whole is not None
    assert part is not None
    assert problem is None
    np.testing.assert_array_equal(part, whole[8_000:16_000])
    assert table["samples"].chunk(0).values.buffers()[1].address == whole.ctypes.data, "samples were copied"
    assert stage(to_table(rows).slice(1, 1)).to_pylist() == table.slice(1, 1).to_pylist()


def test_a_rejected_text_leaves_its_neighbours_samples(tmp_path: Path) -> None:
    first, second = noise(tmp_path / "a.wav", 0.2), noise(tmp_path / "b.wav", 0.3, seed=1)
    (tmp_path / "a.txt").write_bytes("caf\u00e9".encode("latin-1"))
    rows = [
        Recording("a", first.as_uri(), 1, text_uri=(tmp_path / "a.txt").as_uri()),
        Recording("b", second.as_uri(), 1, text="b"),
    ]
    table = DecodeStage(SETTINGS)(to_table(rows))
    assert table["reason"].to_pylist() == [Reason.TEXT_ENCODING, None]
    found = waves(table)
    assert found[0] is None
    np.testing.assert_array_equal(found[1], decode(second, 16_000).samples)
    assert pa.Table.from_pylist(table.to_pylist(), schema=table.schema).equals(table.combine_chunks())


def test_large_files_are_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = noise(tmp_path / "a.wav", 0.5)
    monkeypatch.setattr(decoder_process, "IN_MEMORY_BYTES", 1000)
    child = decoder_process.Child(lambda _: None)
    with path.open("rb") as opened:
        file, digest = child.loaded(path.as_uri(), opened)
        assert file is opened
        assert file.tell() == 0
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_mutated_files_decode_or_are_refused_and_never_end_the_process(
    decoder: Decoder, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    batch = []
    for kind in ("wav", "flac", "ogg", "aiff", "mp3"):
        whole = bytearray(noise(tmp_path / f"whole.{kind}", 0.4, 22_050).read_bytes())
        for number in range(12):
            mutated = whole[: random.integers(1, len(whole))] if number % 3 == 0 else whole.copy()
            # Half of the changes fall into the headers.
            for position in random.integers(0, [len(mutated), 60][number % 2], random.integers(1, 9)):
                mutated[position % len(mutated)] = random.integers(256)
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(mutated)
            batch.append(Wanted(path.as_uri()))
    before = decoder._child and decoder._child.pid
    outcomes = decoder.decode_all(batch)[0]
    assert decoder._child is not None
    assert decoder._child.pid == before
    assert all((one.samples is None) is (one.reason is not None) for one in outcomes)
    assert 10 < sum(one.reason is None for one in outcomes) < 55
    assert all(np.isfinite(one.samples).all() for one in outcomes if one.samples is not None)


def test_whatever_a_decoder_raises_becomes_a_reason(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 0.2)
    settings = DecodeSettings(16_000, Limits(), loudness="rms", target_dbfs=1e9)  # the gain overflows
    with isolated_decoder._shared_file() as shared:
        sink = decoder_process.SharedSink(shared, 0)
        done = decoder_process.Child(lambda _: None).outcome(Wanted(path.as_uri()), settings, sink)
    assert done == (
        0,
        Reason.UNREADABLE,
        "decoding fails: OverflowError: (34, 'Numerical result out of range')",
    )


def test_a_member_of_a_container_has_its_own_digest_and_the_container_s_stat(
    decoder: Decoder, tmp_path: Path
) -> None:
    path = noise(tmp_path / "a.wav", 0.3)
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"x" * 512 + path.read_bytes() + b"y" * 512)
    one = decoder.decode(f"{shard.as_uri()}#offset=512&length={path.stat().st_size}")
    assert one.samples is not None
    np.testing.assert_array_equal(one.samples, decode(path, 16_000).samples)
    assert one.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert one.stat == f"{shard.stat().st_size}:{shard.stat().st_mtime_ns}"
    cut_off = decoder.decode(f"{shard.as_uri()}#offset=512&length=9999999")
    assert cut_off.reason is Reason.UNREADABLE


class Killed(Decoder):
    """Kills the child when it has been asked for `killer.wav`, as a crash in a codec library would."""

    killed: ClassVar[list[int]] = []
    asked_for = ""

    def _one(self, wanted: Wanted, shared: BinaryIO, at: int, handed: bool) -> tuple[Decoded, int, bool]:
        self.asked_for = wanted.uri
        return super()._one(wanted, shared, at, handed)

    def _receive(self, connection: Connection) -> Opened | Beat | Done:
        if self.asked_for.endswith("killer.wav"):
            assert self._child is not None
            self.killed.append(self._child.pid)
            self._child.kill()
            self._child.wait()
        return super()._receive(connection)


def test_a_file_that_kills_the_decoder_is_named_and_the_next_one_decodes(tmp_path: Path) -> None:
    good, killer = noise(tmp_path / "good.wav", 0.5), noise(tmp_path / "killer.wav", 20.0)
    decoder = Killed(SETTINGS)
    before, dead, after = decoder.decode_all([Wanted(path.as_uri()) for path in (good, killer, good)])[0]
    assert dead.reason is Reason.DECODER_CRASHED
    assert dead.detail == "the decoder died (exit code -9) (2 attempts)"
    assert len(set(decoder.killed)) == 2
    assert before.samples is not None
    assert after.samples is not None
    np.testing.assert_array_equal(before.samples, after.samples)
    decoder.close()


class Stopped(Decoder):
    """Every child is stopped before it can answer, as if it hung in a file."""

    def _connected(self) -> tuple[subprocess.Popen[bytes], Connection]:
        child, connection = super()._connected()
        child.send_signal(signal.SIGSTOP)
        return child, connection


def test_a_decoder_that_hangs_is_given_up(tmp_path: Path) -> None:
    outcome = Stopped(SETTINGS, timeout_s=0.1).decode(noise(tmp_path / "a.wav", 0.5).as_uri())
    assert outcome.reason is Reason.DECODER_CRASHED
    assert outcome.detail == "the decoder gave no answer within 0.1 s (2 attempts)"


def test_a_file_that_eats_memory_is_stopped(tmp_path: Path) -> None:
    """Up to 64 MiB per file is held in memory."""
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(decoder_process.IN_MEMORY_BYTES)
    decoder = Decoder(SETTINGS, memory_limit_bytes=LITTLE_MEMORY)
    outcome = decoder.decode((tmp_path / "large.wav").as_uri())
    assert outcome.reason is Reason.DECODER_CRASHED
    assert (
        outcome.detail == f"the decoder needs more than its {LITTLE_MEMORY >> 20} MiB of memory (2 attempts)"
    )
    assert decoder.decode(noise(tmp_path / "good.wav", 0.5).as_uri()).samples is not None
    decoder.close()


def test_progress_keeps_a_slow_file_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block tells the parent, at most once per second."""
    monkeypatch.setattr(decoder_process, "BEAT_S", 0.0)
    told: list[object] = []
    child = decoder_process.Child(told.append)
    sink = io.BytesIO()
    child.copy(io.BytesIO(bytes(20 << 20)), sink)
    assert [type(one).__name__ for one in told] == ["Beat"] * 3
    monkeypatch.setattr(decoder_process, "BEAT_S", 3600.0)
    child.copy(io.BytesIO(bytes(20 << 20)), sink)
    assert len(told) == 3


def test_a_decoder_ends_with_its_parent() -> None:
    """Even while it hangs in a file."""
    script = """
import sys, threading
from pipelines.audio import decoder_process
decoder_process.Child.serve = lambda *_: threading.Event().wait()
decoder_process.main(int(sys.argv[1]), 0)
"""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", script, str(theirs.fileno())]
        child = subprocess.Popen(command, cwd=REPOSITORY, pass_fds=[theirs.fileno()])
    ours.close()
    assert child.wait(timeout=60) == 0
