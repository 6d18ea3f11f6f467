"""A tiny SoundStorm with inputs, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.layers.levels import hidden_codes
from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row
from models.soundstorm.network import SoundStormConfig

_LENGTHS = ((11, 0), (14, 2), (6, 1))
"""Frames and level of each row."""
_SEMANTIC, _CODES, _LEVELS = 12, 9, 3


def soundstorm(**settings: Any) -> Example:
    """Semantic tokens and coarser codebooks -> a finer one; `settings` replace those of SoundStormConfig."""
    sizes: dict[str, Any] = {
        "n_semantic_tokens": _SEMANTIC,
        "n_codebooks": _LEVELS,
        "codebook_size": _CODES,
        "hidden_size": 16,
        "n_layers": 2,
        "n_heads": 2,
        "feed_forward_size": 24,
        "conv_kernel_size": 5,
    }
    return Example(SoundStormConfig(**(sizes | settings)), _rows(), _batch, _frames, _hide)


def _rows() -> tuple[Row, ...]:
    generator = torch.Generator().manual_seed(4)
    made: list[Row] = []
    for n_frames, level in _LENGTHS:
        prompt_T = torch.arange(n_frames) < 2
        made.append(
            {
                "semantic_T": torch.randint(0, _SEMANTIC, (n_frames,), generator=generator),
                "codes_TQ": torch.randint(0, _CODES, (n_frames, _LEVELS), generator=generator),
                "prompt_T": prompt_T,
                "masked_T": (torch.rand(n_frames, generator=generator) < 0.6) & ~prompt_T,
                "level": torch.tensor(level),
            }
        )
    return tuple(made)


def _batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    def padded(name: str) -> Tensor:
        return pad_rows([row[name] for row in rows], padding.extra, padding.junk)[0]

    return {
        "semantic_BT": padded("semantic_T"),
        "codes_BTQ": padded("codes_TQ"),
        "masked_BT": padded("masked_T"),
        "prompt_mask_BT": padded("prompt_T"),
        "mask_BT": pad_rows([row["semantic_T"] for row in rows], padding.extra)[1],
        "levels_B": torch.stack([row["level"] for row in rows]),
    }


def _frames(output_TV: Tensor, row: Row) -> Tensor:
    return output_TV[: len(row["codes_TQ"])]


def _hide(row: Row) -> Row:
    """Other codes wherever the row's level is masked, and above it."""
    hidden_TQ = hidden_codes(_LEVELS, row["masked_T"][None], row["prompt_T"][None], row["level"][None])[0]
    return {**row, "codes_TQ": torch.where(hidden_TQ, _CODES - 1 - row["codes_TQ"], row["codes_TQ"])}
