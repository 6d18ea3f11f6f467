"""The manifest of flow matching."""

from __future__ import annotations

from models.flow_matching import checkpoint_speechgpt_gen as checkpoint
from models.flow_matching import example
from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.flow_matching.system import HIERARCHICAL, SYSTEM
from models.manifest import Family, Format, Trainable

FAMILY = Family(
    name="flow_matching",
    trainables=(
        Trainable("flow_matching", FlowMatchingConfig, ConditionalFlowMatcher, example.flow_matching),
        Trainable(
            "flow_matching_hierarchical",
            HierarchicalFlowMatchingConfig,
            HierarchicalConditionalFlowMatcher,
            example.hierarchical,
        ),
    ),
    systems={"flow_matching": SYSTEM, "flow_matching_hierarchical": HIERARCHICAL},
    formats={
        "speechgpt-gen-cfm": Format(checkpoint.files, checkpoint.convert, "flow_matching"),
        "speechgpt-gen-hierarchical-cfm": Format(
            checkpoint.files_hierarchical, checkpoint.convert_hierarchical, "flow_matching_hierarchical"
        ),
    },
)
