"""Tiny flow matchers with inputs, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.flow_matching.network import FlowMatchingConfig, HierarchicalFlowMatchingConfig
from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row

_LENGTHS = ((11, True), (14, False), (6, True))
"""Frames of each row, and whether it keeps its conditions."""
_LATENT, _SEMANTIC = 5, 12
_SIZES: dict[str, Any] = {
    "latent_size": _LATENT,
    "hidden_size": 16,
    "n_layers": 3,
    "n_heads": 2,
    "feed_forward_size": 24,
    "conv_kernel_size": 5,
}


def flow_matching(**settings: Any) -> Example:
    """Semantic embeddings -> the velocity of latents; `settings` replace those of FlowMatchingConfig."""
    config = FlowMatchingConfig(**(_SIZES | settings))
    return Example(config, _rows(ids=False), _batch, _frames, _hide)


def hierarchical(**settings: Any) -> Example:
    """Semantic ids -> the velocity of latents; `settings` replace those of HierarchicalFlowMatchingConfig."""
    config = HierarchicalFlowMatchingConfig(**(_SIZES | {"n_semantic_tokens": _SEMANTIC} | settings))
    return Example(config, _rows(ids=True), _batch_ids, _frames, _hide)


def _rows(*, ids: bool) -> tuple[Row, ...]:
    generator = torch.Generator().manual_seed(4)

    def draw(n_frames: int) -> Tensor:
        return torch.randn(n_frames, _LATENT, generator=generator)

    made: list[Row] = []
    for n_frames, keep in _LENGTHS:
        tokens_T = torch.randint(0, _SEMANTIC, (n_frames,), generator=generator)
        made.append(
            {
                "state_TZ": draw(n_frames),
                "semantic_T": tokens_T if ids else draw(n_frames),
                "prompt_TZ": draw(n_frames) * (torch.arange(n_frames) < 3)[:, None],
                "time": torch.rand((), generator=generator),
                "keep": torch.tensor(keep),
            }
        )
    return tuple(made)


def _batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    def padded(name: str) -> Tensor:
        return pad_rows([row[name] for row in rows], padding.extra, padding.junk)[0]

    return {
        "state_BTZ": padded("state_TZ"),
        "times_B": torch.stack([row["time"] for row in rows]),
        "semantic_BTZ": padded("semantic_T"),
        "prompt_BTZ": padded("prompt_TZ"),
        "mask_BT": pad_rows([row["state_TZ"] for row in rows], padding.extra)[1],
        "keep_B": torch.stack([row["keep"] for row in rows]),
    }


def _batch_ids(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    inputs = _batch(rows, padding)
    return inputs | {"semantic_BT": inputs.pop("semantic_BTZ")}


def _frames(output_TZ: Tensor, row: Row) -> Tensor:
    return output_TZ[: len(row["state_TZ"])]


def _hide(row: Row) -> Row:
    """Conditions that are dropped, and others."""
    tokens = not row["semantic_T"].is_floating_point()
    semantic_T = _SEMANTIC - 1 - row["semantic_T"] if tokens else -row["semantic_T"]
    return {**row, "semantic_T": semantic_T, "prompt_TZ": -row["prompt_TZ"], "keep": torch.tensor(False)}
