"""Tiny VALL-E networks with inputs, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row
from models.valle.config import ValleARConfig, ValleNARConfig

_LENGTHS = ((7, 4, 11, 2), (3, 6, 14, 1), (5, 2, 6, 3))
"""Text tokens, prompt frames, frames and level of each row."""
_TEXTS, _CODES, _LEVELS = 12, 9, 4


def ar(trunk: Literal["transformer", "retnet"] = "transformer", chunk: int = 0) -> Example:
    """The first level."""
    config = ValleARConfig(
        _TEXTS, _CODES, 3, hidden_size=16, n_layers=2, n_heads=2, trunk=trunk, retention_chunk=chunk
    )
    return Example(config, _rows(), _ar_batch, _tokens)


def nar(trunk: Literal["transformer", "causal_retnet"] = "transformer") -> Example:
    """The other levels; those from a row's own upwards are hidden."""
    config = ValleNARConfig(
        _TEXTS, _CODES, 3, hidden_size=16, n_layers=2, n_heads=2, trunk=trunk, n_codebooks=_LEVELS
    )
    return Example(config, _rows(), _nar_batch, _frames, _hide)


def _rows() -> tuple[Row, ...]:
    generator = torch.Generator().manual_seed(4)

    def draw(highest: int, *shape: int) -> Tensor:
        return torch.randint(0, highest, shape, generator=generator)

    return tuple(
        {
            "text_L": draw(_TEXTS, n_text),
            "prompt_PQ": draw(_CODES, n_prompt, 3),
            "codes_TQ": draw(_CODES, n_frames, _LEVELS),
            "level": torch.tensor(level),
        }
        for n_text, n_prompt, n_frames, level in _LENGTHS
    )


def _ar_batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    codes_BT, codes_mask_BT = pad_rows([row["codes_TQ"][:, 0] for row in rows], padding.extra, padding.junk)
    return _prefix(rows, padding) | {"codes_BT": codes_BT, "codes_mask_BT": codes_mask_BT}


def _nar_batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    codes_BTQ, codes_mask_BT = pad_rows([row["codes_TQ"] for row in rows], padding.extra, padding.junk)
    levels_B = torch.stack([row["level"] for row in rows])
    speech = {"codes_BTQ": codes_BTQ, "codes_mask_BT": codes_mask_BT, "levels_B": levels_B}
    return _prefix(rows, padding) | speech


def _prefix(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}
    for name, key, suffix in (("text_L", "text_BL", "BL"), ("prompt_PQ", "prompt_BPQ", "BP")):
        padded, mask = pad_rows([row[name] for row in rows], padding.extra, padding.junk, side=padding.side)
        inputs |= {key: padded, f"{name.split('_')[0]}_mask_{suffix}": mask}
    return inputs


def _tokens(output_SV: Tensor, row: Row) -> Tensor:
    return output_SV[: len(row["codes_TQ"]) + 1]


def _frames(output_TV: Tensor, row: Row) -> Tensor:
    return output_TV[: len(row["codes_TQ"])]


def _hide(row: Row) -> Row:
    """Other codes at the levels that are not below the row's own."""
    codes_TQ, level = row["codes_TQ"].clone(), int(row["level"])
    codes_TQ[:, level:] = _CODES - 1 - codes_TQ[:, level:]
    return {**row, "codes_TQ": codes_TQ}
