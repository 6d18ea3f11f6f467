"""The codecs that have names: rates, levels, bit rate, and the terms of the published weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.identity import TokenIdentity

name = "codecs"
help = "the codecs that have names: rates, levels, bit rate, licence of the published weights"

_COLUMNS = ("codec", "rate_hz", "frames_per_s", "levels", "kbit_per_s", "licence", "use", "source")


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""
    del parser


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Print a line for each codec; returns the JSON line: the same as objects."""
    del arguments
    rows = [*_ours(), *_published()]
    cells = [_COLUMNS, *(tuple(_cell(row[column]) for column in _COLUMNS) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row_cells in cells:
        sys.stdout.write("  ".join(map(str.ljust, row_cells, widths)).rstrip() + "\n")
    return {"codecs": rows}


def _ours() -> Iterator[dict[str, object]]:
    from models.codec_sources import load_codec
    from models.codecs.mill.editions import EMBEDDED, editions
    from models.codecs.pcm import PCM_RATES

    for source in PCM_RATES:
        yield {
            **_sizes(load_codec(source).identity),
            "licence": "none needed",
            "use": "any",
            "source": "the samples",
        }
    for edition in editions():
        sizes = _sizes(load_codec(f"{EMBEDDED}@{edition}").identity)
        yield {**sizes, "licence": "Apache-2.0", "use": "any", "source": "in this package"}


def _published() -> Iterator[dict[str, object]]:
    from models.codecs.published import PUBLISHED

    for one in PUBLISHED:
        identity = one.identity
        place = f"{one.repository} (import {one.format})" if one.format else one.repository
        yield {
            **_sizes(identity),
            "codec": one.name,
            "licence": one.licence or "see its card",
            "use": one.use,
            "source": place,
        }


def _sizes(identity: TokenIdentity) -> dict[str, object]:
    return {
        "codec": identity.source,
        "rate_hz": identity.sample_rate,
        "hop_length": identity.hop_length,
        "frames_per_s": identity.frame_rate,
        "levels": identity.n_codebooks,
        "codebook_size": identity.codebook_size,
        "kbit_per_s": identity.kbit_s(),
    }


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
