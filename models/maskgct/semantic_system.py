"""MaskGCT's system: text to semantic tokens to speech, or a recording's semantic tokens in another voice."""

from __future__ import annotations

from collections.abc import Mapping

from models.cascade import Cascade
from models.checkpoints import Json
from models.content import Content, Voice
from models.manifest import Bundle, Parts, SystemKind
from models.maskgct.options import SEMANTIC_PRESETS, SemanticS2AOptions
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A
from models.maskgct.semantic_stages import SpeechStage
from models.settings import replaced


def build(parts: Parts) -> Cascade[object, Voice]:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    content = Content(parts.codec, parts.codecs.get("semantic"))

    def stage(options: Mapping[str, Json]) -> SpeechStage:
        given = replaced(SemanticS2AOptions(), options, "the options of maskgct_semantic")
        return SpeechStage(*networks(parts), content, given)

    text = parts.text_stages.get("t2s")
    return Cascade("maskgct_semantic", parts.codec, stage, text, parts.options, SEMANTIC_PRESETS)


def networks(parts: Parts) -> tuple[MaskGCTSemanticS2A | None, MaskGCTSemanticS2A]:
    """The networks of codebook 0, if there is one, and of the others."""
    first, full = parts.generators.get("s2a_first"), parts.generators["s2a"]
    assert first is None or isinstance(first, MaskGCTSemanticS2A)
    assert isinstance(full, MaskGCTSemanticS2A)
    return first, full


SYSTEM = SystemKind(
    build,
    roles={
        "t2s": ("maskgct_semantic_t2s", "maskgct_t2s"),
        "s2a_first": ("maskgct_semantic_s2a",),
        "s2a": ("maskgct_semantic_s2a",),
    },
    optional=("t2s", "s2a_first"),
    codec_roles=("semantic",),
    trained_on={"t2s": "semantic"},
    text_roles=("t2s",),
    text_options="text",
)

BUNDLE = Bundle(
    "maskgct_semantic",
    {
        "codec": ("amphion-codec", "acoustic_codec"),
        "semantic": ("amphion-repcodec", "semantic_codec"),
        "t2s": ("amphion-maskgct-t2s", "t2s_model"),
        "s2a_first": ("amphion-maskgct-s2a", "s2a_model/s2a_model_1layer"),
        "s2a": ("amphion-maskgct-s2a", "s2a_model/s2a_model_full"),
    },
)
"""amphion/MaskGCT on the Hugging Face Hub."""
