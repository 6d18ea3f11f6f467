"""The judge of `benchmarks/chaos_prepare.py`: a dataset that is not exactly as expected is told from one that is."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.datasets import Dataset
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.codecs.interface import identity_of

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def dataset_of(folder: Path, codes: dict[str, int], twice: str = "") -> Path:
    codec = identity_of(load_codec("pcm-16khz"))
    dataset = Dataset.create(folder, codec, {})
    shards = []
    for names in (sorted(codes), [twice] if twice else []):
        rows = {"id": names, "recording_id": names, "split": ["train"] * len(names)}
        rows |= {"codes": [[[codes[name], 7]] for name in names], "target_length": [2] * len(names)}
        shards += write_shard(pa.table(rows), dataset.uri, "run1", codec) if names else []
    dataset.append(shards)
    return folder


def test_every_kind_of_difference_is_seen(tmp_path: Path) -> None:
    from chaos_jobs import Difference, compare, is_sound, rows_of

    expected, twice = rows_of(dataset_of(tmp_path / "good", {"a": 1, "b": 2}))
    assert (sorted(expected), twice) == (["a", "b"], 0)
    same = compare(dataset_of(tmp_path / "same", {"a": 1, "b": 2}), expected)
    assert same == Difference(2, 0, 0, 0, 0)
    assert same.is_exact
    found = compare(dataset_of(tmp_path / "code", {"a": 1, "b": 3, "c": 4}, twice="a"), expected)
    assert found == Difference(3, missing=0, extra=1, twice=1, different=1)
    assert not found.is_partial
    part = compare(dataset_of(tmp_path / "part", {"a": 1}), expected)
    assert part == Difference(1, missing=1, extra=0, twice=0, different=0)
    assert (part.is_partial, part.is_exact) == (True, False)
    assert compare(tmp_path / "nothing", expected) == Difference(0, 2, 0, 0, 0)
    assert is_sound(tmp_path / "good")
    stray = tmp_path / "good" / "split=train" / "part-run2-0.parquet"
    stray.write_bytes(b"left behind")
    assert not is_sound(tmp_path / "good")


def test_damaged_files_are_the_same_every_time_and_are_damaged(speech_folder: Path) -> None:
    from mutated_files import MUTATIONS, mutated, seeds

    recordings = seeds([speech_folder])
    assert [path.suffix for path in recordings] == [".wav"] * 6
    first, again = (list(mutated(recordings, 60, seed=1)) for _ in range(2))
    assert first == again
    assert len({name for name, _ in first}) == 60
    originals = {path.read_bytes() for path in recordings}
    assert sum(data in originals for _, data in first) < 6  # zeros over zeros, say
    for mutate in MUTATIONS.values():
        data = bytearray(recordings[0].read_bytes())
        mutate(data, random.Random(0))
        assert bytes(data) not in originals


def test_processes_are_found_by_their_mark() -> None:
    import subprocess

    from chaos_jobs import MARK, kill_all, processes

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
