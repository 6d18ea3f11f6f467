"""VALL-E's manifest."""

from __future__ import annotations

from models.manifest import Family, Format, Trainable
from models.valle import checkpoint_enhuiz, example
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.nar import ValleNAR

FAMILY = Family(
    name="valle",
    trainables=(
        Trainable("valle_ar", ValleARConfig, ValleAR, example.ar),
        Trainable("valle_nar", ValleNARConfig, ValleNAR, example.nar),
    ),
    formats={
        "enhuiz-valle-ar": Format(checkpoint_enhuiz.read_ar, checkpoint_enhuiz.convert_ar, "valle_ar"),
        "enhuiz-valle-nar": Format(checkpoint_enhuiz.read_nar, checkpoint_enhuiz.convert_nar, "valle_nar"),
    },
)
