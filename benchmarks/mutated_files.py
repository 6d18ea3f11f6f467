"""Damaged recordings: real ones of every format, cut, flipped, zeroed, spliced, and with headers that lie."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MAX_SEED_BYTES = 400_000
"""Larger recordings are left out: what breaks a decoder is in the structure, not in the length."""
_HEADER_BYTES = 128
_LIES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def _truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _flip_anywhere(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 4, 16, 64, 256))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _flip_header(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 2, 4, 8))):
        data[draw.randrange(min(len(data), _HEADER_BYTES))] = draw.randrange(256)


def _lie(data: bytearray, draw: random.Random) -> None:
    """A field of two or four bytes of the header claims something else."""
    size = draw.choice((2, 4))
    at = draw.randrange(max(1, min(len(data), _HEADER_BYTES) - size))
    claim = draw.choice((*_LIES, draw.getrandbits(32)))
    data[at : at + size] = claim.to_bytes(4, draw.choice(("little", "big")))[:size]


def _zero(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    stop = min(len(data), start + draw.choice((16, 512, 8192)))
    data[start:stop] = bytes(stop - start)


def _remove(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.choice((1, 3, 100, 5000))]


def _repeat(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.choice((1, 100, 5000))]


def _append(data: bytearray, draw: random.Random) -> None:
    data += draw.randbytes(draw.choice((1, 100, 5000)))


MUTATIONS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "truncated": _truncate,
    "flipped": _flip_anywhere,
    "header": _flip_header,
    "lying": _lie,
    "zeroed": _zero,
    "removed": _remove,
    "repeated": _repeat,
    "appended": _append,
}


def seeds(folders: Sequence[Path]) -> list[Path]:
    """Recordings small enough to be mutated often, in the order of names."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        path
        for path in found
        if path.suffix not in (".txt", ".md", ".csv", ".json") and 0 < path.stat().st_size <= MAX_SEED_BYTES
    ]


def mutated(recordings: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of `count` damaged recordings; the same for the same arguments."""
    for index in range(count):
        draw = random.Random(f"{seed}:{index}")
        source = recordings[index % len(recordings)]
        kinds = draw.sample(sorted(MUTATIONS), k=draw.choice((1, 1, 1, 2)))
        data = bytearray(source.read_bytes())
        if draw.random() < 0.05:
            other = draw.choice(recordings).read_bytes()
            data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]
        for kind in kinds:
            if data:
                MUTATIONS[kind](data, draw)
        yield f"{index:05d}-{'-'.join(kinds)}{source.suffix}", bytes(data)


def write_mutated(recordings: Sequence[Path], count: int, seed: int, folder: Path) -> None:
    """Write them to `folder`."""
    folder.mkdir(parents=True)
    for name, data in mutated(recordings, count, seed):
        (folder / name).write_bytes(data)
