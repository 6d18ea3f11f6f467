"""A tiny RepCodec with features, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.layers.masks import pad_rows
from models.manifest import Example, Padding, Row
from models.semantic.repcodec import RepCodecConfig

_FRAMES = (9, 14, 4)


def repcodec() -> Example:
    """Features -> features decoded from their codes."""
    config = RepCodecConfig(
        feature_size=12, codebook_size=16, latent_size=4, hidden_size=8, feed_forward_size=16, n_layers=2
    )
    generator = torch.Generator().manual_seed(4)
    rows = tuple(
        {"features_TD": torch.randn(frames, config.feature_size, generator=generator)} for frames in _FRAMES
    )
    # Codes are looked up by their number, so the codebook learns from `quantization_errors` alone.
    return Example(config, rows, _batch, _frames, no_gradient=("codebook.vectors_Vc",))


def _batch(rows: Sequence[Row], padding: Padding) -> dict[str, Tensor]:
    features_BTD, mask_BT = pad_rows([row["features_TD"] for row in rows], padding.extra, padding.junk)
    return {"features_BTD": features_BTD, "mask_BT": mask_BT}


def _frames(output_TD: Tensor, row: Row) -> Tensor:
    return output_TD[: len(row["features_TD"])]
