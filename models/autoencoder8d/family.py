"""The 8-D autoencoder's manifest: no networks of its own."""

from __future__ import annotations

from dataclasses import replace

from models.autoencoder8d import checkpoint_amphion_8d
from models.autoencoder8d.system import NAME, SYSTEM
from models.manifest import Family, Format
from models.maskgct.semantic_system import BUNDLE

FAMILY = Family(
    name=NAME,
    systems={NAME: SYSTEM},
    formats={
        "amphion-8d-decoder": Format(checkpoint_amphion_8d.files, checkpoint_amphion_8d.convert, "parts")
    },
    bundles={"amphion-8d": replace(BUNDLE, system=NAME)},
)
