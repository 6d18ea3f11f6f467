"""The judge of the chaos scenarios is judged first: it must tell a dataset that is not exactly as expected."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from chaos_jobs import MARK, Difference, compare, is_sound, kill_all, processes, rows_of
from mutated_files import MUTATIONS, mutated, seeds

from catalog.appending import Appender
from catalog.creation import create
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.codecs.interface import identity_of


def self_check(recordings: Path) -> None:
    """Raise AssertionError if a difference goes unseen, damage is not damage, or a process is not found."""
    with tempfile.TemporaryDirectory() as folder:
        _differences(Path(folder))
    _mutations(recordings)
    _processes()


def _dataset(folder: Path, codes: dict[str, int], twice: str = "") -> Path:
    codec = identity_of(load_codec("pcm-16khz"))
    appender = Appender(create(folder, codec, {}))
    shards = []
    for names in (sorted(codes), [twice] if twice else []):
        rows = {"id": names, "recording_id": names, "split": ["train"] * len(names)}
        rows |= {"codes": [[[codes[name], 7]] for name in names], "target_length": [2] * len(names)}
        shards += write_shard(pa.table(rows), appender.uri, "run1", codec) if names else []
    appender.append(shards)
    return folder


def _differences(folder: Path) -> None:
    expected, twice = rows_of(_dataset(folder / "good", {"a": 1, "b": 2}))
    assert (sorted(expected), twice) == (["a", "b"], 0)
    same = compare(_dataset(folder / "same", {"a": 1, "b": 2}), expected)
    assert same == Difference(2, 0, 0, 0, 0)
    assert same.is_exact
    found = compare(_dataset(folder / "code", {"a": 1, "b": 3, "c": 4}, twice="a"), expected)
    assert found == Difference(3, missing=0, extra=1, twice=1, different=1)
    assert not found.is_partial
    part = compare(_dataset(folder / "part", {"a": 1}), expected)
    assert part == Difference(1, missing=1, extra=0, twice=0, different=0)
    assert (part.is_partial, part.is_exact) == (True, False)
    assert compare(folder / "nothing", expected) == Difference(0, 2, 0, 0, 0)
    assert is_sound(folder / "good")
    stray = folder / "good" / "split=train" / "part-run2-0.parquet"
    stray.write_bytes(b"left behind")
    assert not is_sound(folder / "good")


def _mutations(folder: Path) -> None:
    recordings = seeds([folder])
    first, again = (list(mutated(recordings, 60, seed=1)) for _ in range(2))
    assert first == again
    assert len({name for name, _ in first}) == 60
    originals = {path.read_bytes() for path in recordings}
    assert sum(data in originals for _, data in first) < 6  # zeros over zeros, say
    for mutate in MUTATIONS.values():
        damaged = []
        for seed in range(5):  # one draw may lay zeros over silence
            data = bytearray(recordings[0].read_bytes())
            mutate(data, random.Random(seed))
            damaged.append(bytes(data))
        assert not originals.issuperset(damaged)


def _processes() -> None:
    waiting = [sys.executable, "-c", "input()"]
    marked, other = (
        subprocess.Popen(waiting, stdin=subprocess.PIPE, env={MARK: mark}) for mark in ("test-1", "test-12")
    )
    with marked, other:
        assert processes("test-1") == [marked.pid]
        assert kill_all("test-1") == 1
        assert marked.wait() == -9
        assert other.poll() is None
        other.kill()
