"""A tiny toktts with inputs, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row
from models.toktts.config import TokTTSConfig

_LENGTHS = ((7, 5), (3, 8), (5, 2))
"""Text tokens and frames of each row."""
_TEXTS, _CODES, _LEVELS = 12, 9, 3


def toktts(**changes: Any) -> Example:
    """Text -> codes; `changes` are fields of the configuration."""
    sizes = {"encoder_size": 12, "encoder_layers": 2, "encoder_heads": 2}
    sizes |= {"decoder_size": 16, "decoder_layers": 2, "decoder_heads": 4}
    sizes |= {"text_positions": 16, "token_positions": 64}
    config = TokTTSConfig(_TEXTS, _LEVELS, _CODES, **(sizes | changes))
    pattern, generator = config.tokens(), torch.Generator().manual_seed(4)
    rows = []
    for n_text, n_frames in _LENGTHS:
        codes_QT = torch.randint(0, _CODES, (_LEVELS, n_frames), generator=generator)
        tokens_SK = pattern.write(codes_QT)
        start_1K = torch.full_like(tokens_SK[:1], pattern.start)
        text_L = torch.randint(0, _TEXTS, (n_text,), generator=generator)
        rows.append({"text_L": text_L, "tokens_SK": torch.cat([start_1K, tokens_SK[:-1]])})
    return Example(config, tuple(rows), _batch, _steps)


def _batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    texts, tokens = ([row[name] for row in rows] for name in ("text_L", "tokens_SK"))
    text_BL, text_mask_BL = pad_rows(texts, padding.extra, padding.junk, side=padding.side)
    tokens_BSK = pad_rows(tokens, padding.extra, padding.junk)[0]
    return {"text_BL": text_BL, "text_mask_BL": text_mask_BL, "tokens_BSK": tokens_BSK}


def _steps(output_SKV: Tensor, row: Row) -> Tensor:
    return output_SKV[: len(row["tokens_SK"])]
