"""SoundStorm in checkpoints of ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoints import (
    Json,
    Renamed,
    StateReader,
    filled,
    give_renamed,
    read_config,
    take_renamed,
)
from models.layers.checkpoint_speechgpt_gen import (
    backbone_names,
    published_kwargs,
    read_backbone,
    released_files,
)
from models.soundstorm.network import SoundStorm, SoundStormConfig

WRAPPER_DEFAULTS = {"codebook_size": 1024, "grouped_quantizers": 1, "backbone_type": "conformer"}

DEFAULTS = {
    # Of its training: the schedule of masks, and the ids that stand at padding.
    "schedule": "linear",
    "pad_id": None,
    "semantic_pad_id": -1,
}


def files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a released folder."""
    return released_files(folder, "SoundStorm")


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference."""
    given = read_config(reader.source, config, ["num_semantic_token_ids", "BackboneWrapper"], DEFAULTS)
    required = ["num_quantizers", "backbone_kwargs"]
    wrapper = read_config(
        f"{reader.source} BackboneWrapper", given["BackboneWrapper"], required, WRAPPER_DEFAULTS
    )
    if wrapper["grouped_quantizers"] != 1:
        raise ValueError(
            f"{reader.source}: grouped_quantizers is {wrapper['grouped_quantizers']}; it must be 1"
        )
    settings, condition = read_backbone(reader.source, wrapper["backbone_type"], wrapper["backbone_kwargs"])
    if condition:
        raise ValueError(
            f"{reader.source}: adaptive_rmsnorm is on; SoundStorm has no condition for its norms"
        )
    module = SoundStorm(
        SoundStormConfig(
            **settings,
            n_semantic_tokens=given["num_semantic_token_ids"],
            n_codebooks=wrapper["num_quantizers"],
            codebook_size=wrapper["codebook_size"],
        )
    )
    return filled(module, take_renamed(_names(module), module.state_dict(), reader), reader)


def published_state(module: nn.Module) -> dict[str, Tensor]:
    """The weights under the reference's names: the inverse of `convert`."""
    return give_renamed(_names(_checked(module)), module.state_dict())


def published_config(module: nn.Module) -> dict[str, Any]:
    """The reference's configuration. ValueError for a network that it cannot build."""
    config = _checked(module).config
    return {
        "num_semantic_token_ids": config.n_semantic_tokens,
        "semantic_pad_id": -1,
        "pad_id": config.codebook_size,
        "BackboneWrapper": {
            "codebook_size": config.codebook_size,
            "num_quantizers": config.n_codebooks,
            "grouped_quantizers": 1,
            "backbone_type": config.backbone,
            "backbone_kwargs": published_kwargs(config, 0),
        },
    }


def _checked(module: nn.Module) -> SoundStorm:
    if not isinstance(module, SoundStorm):
        raise ValueError(f"a {type(module).__name__} is no SoundStorm")
    return module


def _names(module: SoundStorm) -> Iterator[Renamed]:
    config = module.config
    dim, n_levels, n_codes = config.hidden_size, config.n_codebooks, config.codebook_size
    plain: dict[str, tuple[str, tuple[int, ...]]] = {
        "semantic_table.weight": ("semantic_token_emb.weight", (config.n_semantic_tokens, dim)),
        "code_table.weight": ("net.code_embeds.weight", (n_levels * (n_codes + 1), dim)),
        "heads.projection.weight_QVD": ("net.heads.0.weight", (n_levels * dim, dim)),
        "heads.projection.bias_QV": ("net.heads.0.bias", (n_levels * dim,)),
        "heads.norm.weight": ("net.to_logits.0.weight", (dim,)),
        "heads.norm.bias": ("net.to_logits.0.bias", (dim,)),
        "heads.logits.bias_QV": ("net.to_logits.2.bias", (1, 1, n_levels, n_codes)),
    }
    for ours, published in plain.items():
        yield Renamed(ours, [published])
    logits = ("net.to_logits.2.weight", (n_levels, dim, n_codes))
    yield Renamed("heads.logits.weight_QVD", [logits], transposed=True)
    yield from backbone_names(module.backbone, "backbone.", "net.net.")
