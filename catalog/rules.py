"""Rules that the columns and rows of a file keep; what breaks one is said in words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.codes import flat
from catalog.filters import REASONS
from catalog.identity import Columns
from catalog.schema import SCHEMA
from catalog.token_columns import check_values
from models.identity import TokenIdentity


def check_columns(schema: pa.Schema) -> list[str]:
    """Columns of a file that break a rule. It may lack some: files of older datasets do."""
    problems = [f"it has no column {name}" for name in ("id", "recording_id") if name not in schema.names]
    for field in schema:
        if field.name not in SCHEMA.names:
            problems.append(f"its column {field.name!r} is not in docs/data.md")
        elif field.type != SCHEMA.field(field.name).type:
            problems.append(
                f"its column {field.name} holds {field.type}, must be {SCHEMA.field(field.name).type}"
            )
    return problems


def check_rows(table: pa.Table, split: str, codec: TokenIdentity, columns: Columns) -> list[str]:
    """Rules that rows of a split break: their reasons if they are rejected, else their codes and token columns."""
    if split == "rejected":
        unknown = set(pc.unique(table["reason"]).to_pylist()) - REASONS.keys()
        return [f"reason {name!r} is not in docs/data.md" for name in sorted(unknown, key=str)]
    problems = [
        f"{table[name].null_count} rows have no {name}"
        for name in ("codes", "target_length")
        if table[name].null_count
    ]
    # A table from before there were derived rows has no such column.
    untold = table["task"].null_count if "task" in table.column_names else len(table)
    strangers = untold if split == "derived" else len(table) - untold
    if strangers:
        must = "must say their task" if split == "derived" else "belong into the split derived"
        problems.append(f"{strangers} rows {must}")
    return problems or _check_codes(table, codec) or list(check_values(table, codec, columns))


def _check_codes(table: pa.Table, codec: TokenIdentity) -> list[str]:
    values, levels, frames = flat(table["codes"].combine_chunks())
    if (levels != codec.n_codebooks).any():
        row = int(np.argmax(levels != codec.n_codebooks))
        return [f"row {row} has {levels[row]} codebooks, the codec has {codec.n_codebooks}"]
    expected = np.repeat(table["target_length"].to_numpy(), codec.n_codebooks)
    if (frames != expected).any():
        at = int(np.argmax(frames != expected))
        return [f"row {at // codec.n_codebooks} has {frames[at]} frames, target_length says {expected[at]}"]
    # Above 32768 entries the 16 bits are two's complement: 65535 is stored as -1.
    if values.size and (highest := values.view(np.uint16).max()) >= codec.codebook_size:
        return [f"holds code {highest}, the codebook has {codec.codebook_size} entries"]
    return []
