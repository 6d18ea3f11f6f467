"""Systems of flow matching: a recording in another voice, or text if a first stage writes the content tokens."""

from __future__ import annotations

from collections.abc import Mapping

from models.cascade import Cascade
from models.checkpoints import Json
from models.codecs.latents import codebooks
from models.content import Content, Voice
from models.flow_matching.network import ConditionalFlowMatcher, HierarchicalConditionalFlowMatcher
from models.flow_matching.stages import PRESETS, FlowMatchingOptions, SpeechStage
from models.manifest import Parts, SystemKind
from models.settings import replaced


def build(parts: Parts) -> Cascade[object, Voice]:
    """The system whose content is the first level of its own codec. ValueError for parts that do not fit."""
    return _build("flow_matching", parts)


def build_hierarchical(parts: Parts) -> Cascade[object, Voice]:
    """The system whose content are tokens of any semantic codec. ValueError for parts that do not fit."""
    return _build("flow_matching_hierarchical", parts)


def _build(name: str, parts: Parts) -> Cascade[object, Voice]:
    model = parts.generators["flow_matching"]
    assert isinstance(model, ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher)
    content = Content(parts.codec, parts.codecs.get("semantic"))
    codebooks_QVZ = codebooks(parts.codec).to(parts.device)

    def stage(options: Mapping[str, Json]) -> SpeechStage:
        given = replaced(FlowMatchingOptions(), options, f"the options of {name}")
        return SpeechStage(model, codebooks_QVZ, content, given)

    return Cascade(name, parts.codec, stage, parts.text_stages.get("t2s"), parts.options, PRESETS)


SYSTEM = SystemKind(
    build,
    roles={"flow_matching": ("flow_matching",), "t2s": ("maskgct_t2s",)},
    optional=("t2s",),
    text_roles=("t2s",),
    text_options="text",
)
HIERARCHICAL = SystemKind(
    build_hierarchical,
    roles={"flow_matching": ("flow_matching_hierarchical",), "t2s": ("maskgct_t2s", "maskgct_semantic_t2s")},
    optional=("t2s",),
    codec_roles=("semantic",),
    trained_on={"t2s": "semantic"},
    text_roles=("t2s",),
    text_options="text",
)
