"""MaskGCT's manifest."""

from __future__ import annotations

from models.checkpoints import hub_files
from models.manifest import Family, Format, SystemKind, Trainable
from models.maskgct import checkpoint_choihkk_s2a, checkpoint_choihkk_t2s, example, stages, system
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig

FAMILY = Family(
    name="maskgct",
    trainables=(
        Trainable("maskgct_t2s", MaskGCTT2SConfig, MaskGCTT2S, example.t2s, stages.text_stage),
        Trainable("maskgct_s2a", MaskGCTS2AConfig, MaskGCTS2A, example.s2a),
    ),
    systems={
        "maskgct": SystemKind(
            system.build, {"t2s": ("maskgct_t2s",), "s2a": ("maskgct_s2a",)}, text_roles=("t2s", "s2a")
        )
    },
    formats={
        "choihkk-maskgct-t2s": Format(hub_files, checkpoint_choihkk_t2s.convert, "maskgct_t2s"),
        "choihkk-maskgct-s2a": Format(hub_files, checkpoint_choihkk_s2a.convert, "maskgct_s2a"),
    },
)
