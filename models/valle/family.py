"""VALL-E's manifest."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from models.checkpoints import hub_files
from models.layers import checkpoint_torchscale
from models.manifest import Family, ForeignConfig, Format, FormatGroup, SystemKind, Trainable
from models.valle import checkpoint_enhuiz, config_vall_e, example, system
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.nar import ValleNAR


def _not_alone(module: nn.Module, directory: Path) -> None:  # noqa: ARG001
    raise ValueError("a RetNet decoder is a part of a network; it cannot be registered by itself")


FAMILY = Family(
    name="valle",
    trainables=(
        Trainable("valle_ar", ValleARConfig, ValleAR, example.ar),
        Trainable("valle_nar", ValleNARConfig, ValleNAR, example.nar),
    ),
    systems={
        "valle": SystemKind(
            system.build,
            {"ar": ("valle_ar",), "nar": ("valle_nar",)},
            optional=("nar",),
            text_roles=("ar", "nar"),
        )
    },
    formats={
        "enhuiz-valle-ar": Format(
            checkpoint_enhuiz.read_ar,
            checkpoint_enhuiz.convert_ar,
            "valle_ar",
            write=checkpoint_enhuiz.export,
            symbols=checkpoint_enhuiz.read_symbols,
        ),
        "enhuiz-valle-nar": Format(
            checkpoint_enhuiz.read_nar,
            checkpoint_enhuiz.convert_nar,
            "valle_nar",
            write=checkpoint_enhuiz.export,
            symbols=checkpoint_enhuiz.read_symbols,
        ),
        "torchscale-retnet": Format(hub_files, checkpoint_torchscale.convert, "retnet", _not_alone),
    },
    format_groups={
        "vall-e": FormatGroup(("enhuiz-valle-ar", "enhuiz-valle-nar"), checkpoint_enhuiz.format_of)
    },
    configs={"vall-e": ForeignConfig(config_vall_e.KEYS, config_vall_e.convert)},
)
