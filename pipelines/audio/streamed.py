"""Files that were written as streams, of which libsndfile reads the beginning or nothing: FFmpeg reads them whole.

- A WAV file whose size of data is 0, because the program that wrote it never came to fill it in.
- A chained Ogg file: several streams one after the other, as of a radio station that begins anew with every title.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

_PAGE = struct.Struct("<4sBBqI")
"""Of an Ogg page: `OggS`, version, flags, position, number of the stream."""
_BEGINS = 2
_LAST_BYTES = 2 * 65_307
"""Hold a page's beginning at least: that is the largest page, twice."""


def is_streamed(file: BinaryIO) -> bool:
    """True for such a file; leaves it at its start."""
    file.seek(0)
    head = file.read(4)
    try:
        if head in (b"RIFF", b"RF64"):
            return _has_unstated_data(file)
        return head == b"OggS" and _is_chained(file)
    finally:
        file.seek(0)


def _has_unstated_data(file: BinaryIO) -> bool:
    end = file.seek(0, io.SEEK_END)
    for name, start, size in _chunks(file, 12, end):
        if name == b"data":
            # What follows may be further chunks, which end where the file does.
            stop = max((at + length for _, at, length in _chunks(file, start, end)), default=start)
            return size == 0 and start < end and not end - 1 <= stop <= end
    return False


def _chunks(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of the chunks from `at` on."""
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        yield name, at + 8, size
        at += 8 + size + size % 2


def _is_chained(file: BinaryIO) -> bool:
    """True if the last page belongs to a stream that does not begin at the start of the file."""
    first = file.read(_LAST_BYTES - 4)
    at, streams = 0, set[int]()
    head = b"OggS" + first
    while (page := _page(head, at)) is not None and page[0] & _BEGINS:
        streams.add(page[1])
        at = head.find(b"OggS", at + 4)
    file.seek(max(0, file.seek(0, io.SEEK_END) - _LAST_BYTES))
    tail = file.read()
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        if (page := _page(tail, at)) is not None:
            return page[1] not in streams
    return False


def _page(data: bytes, at: int) -> tuple[int, int] | None:
    """Flags and stream of the page at `at`; None where there is none."""
    if at < 0 or len(data) < at + _PAGE.size:
        return None
    mark, version, flags, _, stream = _PAGE.unpack_from(data, at)
    return (flags, stream) if mark == b"OggS" and version == 0 and flags < 8 else None
