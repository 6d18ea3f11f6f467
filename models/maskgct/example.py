"""Tiny MaskGCT networks with inputs, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row
from models.maskgct.s2a import MaskGCTS2AConfig
from models.maskgct.semantic_s2a import MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2SConfig

_LENGTHS = ((7, 11, 0), (3, 14, 2), (5, 6, 1))
"""Text tokens, frames and level of each row."""
_TEXTS, _CODES = 12, 9


def t2s() -> Example:
    """Text -> codebook 0."""
    config = MaskGCTT2SConfig(_TEXTS, _CODES, hidden_size=16, n_layers=2, n_heads=2, feed_forward_size=24)
    return Example(config, _rows(1), _t2s_batch, _frames, _hide)


def s2a() -> Example:
    """Text and coarser codebooks -> a finer one."""
    config = MaskGCTS2AConfig(_TEXTS, 3, _CODES, hidden_size=16, n_layers=2, n_heads=2, feed_forward_size=24)
    return Example(config, _rows(3), _s2a_batch, _frames, _hide)


def semantic_t2s() -> Example:
    """Text -> semantic tokens."""
    config = MaskGCTSemanticT2SConfig(
        _TEXTS, _CODES, hidden_size=16, n_layers=2, n_heads=2, feed_forward_size=24
    )
    return Example(config, _rows(1), _t2s_batch, _frames, _hide)


def semantic_s2a(n_codebooks: int = 3, first_level: int = 0) -> Example:
    """Semantic tokens and coarser codebooks -> a finer one."""
    config = MaskGCTSemanticS2AConfig(_TEXTS, n_codebooks, _CODES, 16, 2, 2, 24, first_level)
    rows = [{**row, "level": row["level"].clamp(first_level, n_codebooks - 1)} for row in _rows(n_codebooks)]
    return Example(config, tuple(rows), _semantic_s2a_batch, _frames, _hide)


def _rows(n_levels: int) -> tuple[Row, ...]:
    generator = torch.Generator().manual_seed(4)
    made = []
    for n_text, n_frames, level in _LENGTHS:
        prompt_T = torch.arange(n_frames) < 2
        made.append(
            {
                "text_L": torch.randint(0, _TEXTS, (n_text,), generator=generator),
                "codes_TQ": torch.randint(0, _CODES, (n_frames, n_levels), generator=generator),
                "semantic_T": torch.arange(n_frames) * 5 % _TEXTS,
                "prompt_T": prompt_T,
                "masked_T": (torch.rand(n_frames, generator=generator) < 0.6) & ~prompt_T,
                "level": torch.tensor(level),
                "time": torch.rand((), generator=generator),
            }
        )
    return tuple(made)


def _t2s_batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    inputs = _shared(rows, padding)
    return inputs | {"codes_BT": _padded(rows, "codes_TQ", padding)[..., 0]}


def _s2a_batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    inputs = _shared(rows, padding)
    return inputs | {
        "codes_BTQ": _padded(rows, "codes_TQ", padding),
        "prompt_mask_BT": _padded(rows, "prompt_T", padding),
        "levels_B": torch.stack([row["level"] for row in rows]),
    }


def _semantic_s2a_batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    inputs = _s2a_batch(rows, padding) | {"semantic_BT": _padded(rows, "semantic_T", padding)}
    return {name: value for name, value in inputs.items() if not name.startswith("text")}


def _shared(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    text_BL, text_mask_BL = pad_rows(
        [row["text_L"] for row in rows], padding.extra, padding.junk, side=padding.side
    )
    codes_BTQ, speech_mask_BT = pad_rows([row["codes_TQ"] for row in rows], padding.extra)
    del codes_BTQ
    return {
        "text_BL": text_BL,
        "text_mask_BL": text_mask_BL,
        "masked_BT": _padded(rows, "masked_T", padding),
        "speech_mask_BT": speech_mask_BT,
        "times_B": torch.stack([row["time"] for row in rows]),
    }


def _padded(rows: Sequence[Row], name: str, padding: Padding) -> Tensor:
    return pad_rows([row[name] for row in rows], padding.extra, padding.junk)[0]


def _frames(output_TV: Tensor, row: Row) -> Tensor:
    return output_TV[: len(row["codes_TQ"])]


def _hide(row: Row) -> Row:
    """Other codes where the last level is masked."""
    codes_TQ, last = row["codes_TQ"].clone(), row["codes_TQ"].shape[1] - 1
    codes_TQ[row["masked_T"], last] = _CODES - 1 - codes_TQ[row["masked_T"], last]
    return {**row, "codes_TQ": codes_TQ, "level": torch.tensor(last)}
