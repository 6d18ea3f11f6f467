"""The objectives of MaskGCT's networks, with semantic tokens and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.objectives import Objective
from trainers.objectives.maskgct_prefix import MaskGCTS2AObjective, MaskGCTT2SObjective
from trainers.objectives.maskgct_semantic import MaskGCTSemanticS2AObjective, MaskGCTSemanticT2SObjective

OBJECTIVES: Mapping[str, type[Objective[Any]]] = {
    "maskgct_t2s": MaskGCTT2SObjective,
    "maskgct_s2a": MaskGCTS2AObjective,
    "maskgct_semantic_t2s": MaskGCTSemanticT2SObjective,
    "maskgct_semantic_s2a": MaskGCTSemanticS2AObjective,
}
