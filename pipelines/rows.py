"""Rows in flight: what travels from stage to stage, one row per utterance, whole recordings together.

Stages map a table to a table. They add columns of `catalog.schema.SCHEMA`, reject rows in place (`reject`), and may
turn the row of a recording into rows of its utterances, next to each other. A rejected row keeps no samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.schema import SCHEMA as STORED
from pipelines.audio.containers import Samples

_WHITE_SPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("id", "recording_id", "source", "source_stat")),
        *(pa.field(name, pa.string()) for name in ("speaker", "language", "split", "text", "text_source")),
        pa.field("start_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        *(pa.field(name, pa.string()) for name in ("source_digest", "reason", "detail")),
        pa.field("samples", pa.large_list(pa.float32())),
    ]
)
"""Columns after decoding; `samples` (T,) mono at the codec's rate, null where `reason` says why. Null `text`: none."""


PROMPT_SAMPLES, EDIT = "prompt_samples", "edit_frames"
"""Columns that rows for speech tasks have until the codec: the recording that the task works on, like `samples`, and
the frames (first, behind the last) of it that are to be said anew."""

Row = dict[str, Any]
"""A row of any table, by column."""


def waves(table: pa.Table, column: str = "samples") -> list[Samples | None]:
    """Views of each row's samples (T,) float32; None for a null."""
    found: list[Samples | None] = []
    for chunk in table[column].chunks:
        values = chunk.values.to_numpy(zero_copy_only=True)
        offsets = chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        found += [
            values[offsets[row] : offsets[row + 1]] if valid[row] else None for row in range(len(chunk))
        ]
    return found


def samples_array(rows: Sequence[Samples | None]) -> pa.Array:
    """Waves of different lengths as large_list<float32>, null where there is none. Copies, except a single wave."""
    lengths = [0 if wave is None else len(wave) for wave in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    present = [wave for wave in rows if wave is not None]
    values: npt.NDArray[np.float32] = np.zeros(0, np.float32)
    if present:
        values = present[0] if len(present) == 1 else np.concatenate(present)
    mask = pa.array([wave is None for wave in rows], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.float32()), mask=mask)


def with_column(
    table: pa.Table, name: str, values: Sequence[object] | pa.Array | pa.ChunkedArray
) -> pa.Table:
    """Set or add a column, typed as in flight or as stored."""
    field = (SCHEMA if name in SCHEMA.names else STORED).field(name)
    array = pa.array(values, field.type) if isinstance(values, Sequence) else values.cast(field.type)
    if name in table.column_names:
        return table.set_column(table.schema.get_field_index(name), field, array)
    return table.append_column(field, array)


class Part(NamedTuple):
    """A row that comes from a row of another table."""

    row: int
    """Number of the row it comes from."""
    samples: Samples | None
    changes: Mapping[str, object] = MappingProxyType({})
    """Values that differ, by column."""


def explode(table: pa.Table, parts: Sequence[Part]) -> pa.Table:
    """One row per part, in their order. Columns that a part does not change are inherited.

    Changes of columns that the table lacks are left out. Samples are not copied.
    """
    result = table.drop_columns(["samples"]).take(pa.array([part.row for part in parts], pa.int64()))
    for name in {name: None for part in parts for name in part.changes if name in result.column_names}:
        values = result[name].to_pylist()
        for at, part in enumerate(parts):
            values[at] = part.changes.get(name, values[at])
        result = with_column(result, name, values)
    # A chunk per row: a single wave goes into an array without a copy.
    samples = [samples_array([part.samples]) for part in parts]
    result = with_column(result, "samples", pa.chunked_array(samples, SCHEMA.field("samples").type))
    return result.select(table.column_names)


def characters(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Characters of each text, white space left out; null for a null."""
    return pc.utf8_length(pc.replace_substring_regex(texts, f"[{_WHITE_SPACE}]+", ""))


def speaking_rate(
    texts: pa.Array | pa.ChunkedArray, seconds: pa.Array | pa.ChunkedArray
) -> pa.Array | pa.ChunkedArray:
    """Characters per second, float64; null where either is null or there are no seconds."""
    positive = pc.if_else(pc.equal(seconds, 0.0), None, seconds)
    return pc.divide(characters(texts).cast(pa.float64()), positive)


def chars_per_s(table: pa.Table) -> pa.ChunkedArray:
    """The column of that name (float64), computed from `text` and `duration_s` where it is null or missing."""
    computed = speaking_rate(table["text"], table["duration_s"])
    if "chars_per_s" not in table.column_names:
        return computed
    return pc.coalesce(table["chars_per_s"].cast(pa.float64()), computed)


def reject(table: pa.Table, verdicts: Mapping[int, tuple[str, str]]) -> pa.Table:
    """Give rows a reason and its detail, by row number; rows that have a reason keep it."""
    if not verdicts:
        return table
    reasons, details = table["reason"].to_pylist(), table["detail"].to_pylist()
    rows = waves(table)
    for row, (reason, detail) in verdicts.items():
        if reasons[row] is None:
            reasons[row], details[row], rows[row] = str(reason), detail, None
    table = with_column(table, "reason", reasons)
    table = with_column(table, "detail", details)
    return with_column(table, "samples", samples_array(rows))
