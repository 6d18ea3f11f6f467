"""Recordings that a table or manifest names twice."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from catalog.reasons import Reason
from catalog.recordings import hashed
from pipelines.sources.interface import Recording
from pipelines.sources.keys import KeySet

_WINDOW = 1024


def mark_repeated(rows: Iterator[tuple[int, Recording]]) -> Iterator[Recording]:
    """Recordings of numbered lines; each whose id an earlier line had is rejected, with both lines.

    21 bytes per row are kept, to find the earlier line.
    """
    seen, keys_so_far, lines = KeySet(), array("Q"), array("I")
    while window := list(islice(rows, _WINDOW)):
        keys = hashed(recording.recording_id for _, recording in window)
        again = seen.add(keys)
        keys_so_far.extend(int(key) for key in keys)
        lines.extend(number for number, _ in window)
        for key, is_again, (number, recording) in zip(keys, again, window, strict=True):
            if not is_again or recording.problem is not None:
                yield recording
                continue
            first = lines[int(np.argmax(np.frombuffer(keys_so_far, dtype=np.uint64) == key))]
            detail = f"line {number} names {recording.recording_id} again; line {first} did so first"
            yield replace(recording, problem=Reason.DUPLICATE_ID, detail=detail)
