"""Rows as dictionaries: out of a dataset's tables, and back into one with every rule of the codec checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.codes import matrices, stored
from catalog.reasons import Reason
from catalog.schema import SCHEMA, TOKEN_COLUMNS
from models.identity import TokenIdentity
from pipelines.audio.lengths import samples_to_seconds
from pipelines.rows import Row

_ELSEWHERE = ("codes", *TOKEN_COLUMNS, "task", "prompt_codes", "reason", "detail")
DESCRIPTIVE = [name for name in SCHEMA.names if name not in _ELSEWHERE]
"""Columns of accepted rows besides codes, tokens, whose makers no format names, and what derived rows have."""


def rows_of(table: pa.Table) -> Iterator[Row]:
    """Each row with `codes` as (Q, T) int16."""
    for row, codes in zip(table.drop_columns(["codes"]).to_pylist(), matrices(table["codes"]), strict=True):
        yield {**row, "codes": codes}


def described(row: Row) -> Row:
    """Values of a row besides its codes; nulls are left out."""
    return {name: row[name] for name in DESCRIPTIVE if row.get(name) is not None}


def check(row: Row, codec: TokenIdentity) -> Row:
    """The row with what follows from its codes filled in, or rejected with the rule that it breaks."""
    if row.get("reason") is not None:
        return rejected(row, Reason(row["reason"]), row["detail"])
    broken = _broken_codes(row.get("codes"), codec) or _broken_length(row) or _broken_values(row)
    if broken is not None:
        return rejected(row, Reason.INVALID_ROW, broken)
    frames = row["codes"].shape[1]
    row = {**row, "target_length": frames, "codes": _stored(row["codes"])}
    if row.get("duration_s") is None:
        row["duration_s"] = samples_to_seconds(codec.samples(frames), codec.sample_rate)
    return row


def rejected(row: Row, reason: Reason, detail: str) -> Row:
    """The row without its codes and without the values that break a rule."""
    kept = {name: value for name, value in row.items() if _typed(name, value)}
    return {**kept, "codes": None, "target_length": None, "reason": reason.value, "detail": detail}


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Checked rows as `catalog.shards.write_shard` takes them; a rejected row is in the split `rejected`."""
    names = [*DESCRIPTIVE, "reason", "detail"]
    columns = {name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type) for name in names}
    columns["codes"] = stored([row["codes"] for row in rows])
    splits = ["rejected" if row.get("reason") else row["split"] for row in rows]
    return pa.table({**columns, "split": pa.array(splits, pa.string())})


def _broken_codes(codes: object, codec: TokenIdentity) -> str | None:
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind not in "iu":
        return f"codes are {_shape(codes)}; must be whole numbers (codebooks, frames)"
    if codes.shape[0] != codec.n_codebooks:
        return f"{codes.shape[0]} codebooks; {codec.name} has {codec.n_codebooks}"
    if codes.shape[1] == 0:
        return "no frames; must be at least 1"
    lowest, highest = int(codes.min()), int(codes.max())
    # Above 32768 entries 16 bits hold two's complement (docs/data.md): both ways of writing them are read.
    least = -32768 if codec.codebook_size > 32768 else 0
    if lowest < least or highest >= codec.codebook_size:
        return f"codes from {lowest} to {highest}; {codec.name} has {least} to {codec.codebook_size - 1}"
    return None


def _shape(codes: object) -> str:
    if codes is None:
        return "missing or of unequal lengths"
    return f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__


def _broken_length(row: Row) -> str | None:
    given, frames = row.get("target_length"), row["codes"].shape[1]
    return None if given in (None, frames) else f"target_length is {given}, the codes have {frames} frames"


def _broken_values(row: Row) -> str | None:
    for name in DESCRIPTIVE:
        if not _typed(name, row.get(name)):
            return f"{name} is {str(row[name])[:80]!r}; must be {SCHEMA.field(name).type}"
    duration_s = row.get("duration_s")
    if duration_s is not None and not 0 < duration_s < float("inf"):
        return f"duration_s is {duration_s}; must be above 0"
    return None


def _typed(name: str, value: Any) -> bool:
    """True if a column of SCHEMA takes the value; codes are judged elsewhere, other names are not stored."""
    if value is None or name not in DESCRIPTIVE or isinstance(value, str):
        return value is None or name not in DESCRIPTIVE or _takes_text(name, value)
    try:
        pa.array([value], SCHEMA.field(name).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _takes_text(name: str, value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return bool(pa.types.is_string(SCHEMA.field(name).type))


def _stored(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int16]:
    return np.ascontiguousarray(codes).astype(np.int16)
