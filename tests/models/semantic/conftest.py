"""Tiny HuBERT directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

HUBERT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="session", params=[False, True], ids=["base", "large"])
def hubert_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if request.param else {}
    directory = tmp_path_factory.mktemp("semantic") / "hubert"
    HubertModel(HubertConfig(**HUBERT, **large)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def noise() -> Callable[[int, int], Tensor]:
    """(samples, seed) -> a changing sound (samples,) in [-1, 1]."""

    def make(samples: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 0.5 * torch.randn(samples, generator=generator).cumsum(0).sin()

    return make
