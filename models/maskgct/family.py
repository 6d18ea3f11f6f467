"""MaskGCT's manifest."""

from __future__ import annotations

from models.checkpoints import hub_files
from models.codecs.checkpoint_amphion import released_files
from models.manifest import Family, Format, SystemKind, Trainable
from models.maskgct import (
    checkpoint_amphion,
    checkpoint_choihkk_s2a,
    checkpoint_choihkk_t2s,
    example,
    semantic_system,
    stages,
    system,
)
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S, MaskGCTT2SConfig

FAMILY = Family(
    name="maskgct",
    trainables=(
        Trainable("maskgct_t2s", MaskGCTT2SConfig, MaskGCTT2S, example.t2s, stages.text_stage),
        Trainable("maskgct_s2a", MaskGCTS2AConfig, MaskGCTS2A, example.s2a),
        Trainable(
            "maskgct_semantic_t2s",
            MaskGCTSemanticT2SConfig,
            MaskGCTT2S,
            example.semantic_t2s,
            stages.semantic_text_stage,
        ),
        Trainable("maskgct_semantic_s2a", MaskGCTSemanticS2AConfig, MaskGCTSemanticS2A, example.semantic_s2a),
    ),
    systems={
        "maskgct": SystemKind(
            system.build, {"t2s": ("maskgct_t2s",), "s2a": ("maskgct_s2a",)}, text_roles=("t2s", "s2a")
        ),
        "maskgct_semantic": semantic_system.SYSTEM,
    },
    formats={
        "choihkk-maskgct-t2s": Format(hub_files, checkpoint_choihkk_t2s.convert, "maskgct_t2s"),
        "choihkk-maskgct-s2a": Format(hub_files, checkpoint_choihkk_s2a.convert, "maskgct_s2a"),
        "amphion-maskgct-t2s": Format(released_files, checkpoint_amphion.convert_t2s, "maskgct_semantic_t2s"),
        "amphion-maskgct-s2a": Format(
            checkpoint_amphion.s2a_files, checkpoint_amphion.convert_s2a, "maskgct_semantic_s2a"
        ),
    },
    bundles={"amphion-maskgct": semantic_system.BUNDLE},
)
