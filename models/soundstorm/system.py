"""SoundStorm's system: a recording in another voice, or text if a first stage writes the semantic tokens."""

from __future__ import annotations

from collections.abc import Mapping

from models.cascade import Cascade
from models.checkpoints import Json
from models.content import Content, Voice
from models.manifest import Parts, SystemKind
from models.settings import replaced
from models.soundstorm.network import SoundStorm
from models.soundstorm.stages import PRESETS, SoundStormSystemOptions, SpeechStage


def build(parts: Parts) -> Cascade[object, Voice]:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    model = parts.generators["soundstorm"]
    assert isinstance(model, SoundStorm)
    content = Content(parts.codec, parts.codecs.get("semantic"))

    def stage(options: Mapping[str, Json]) -> SpeechStage:
        given = replaced(SoundStormSystemOptions(), options, "the options of soundstorm")
        return SpeechStage(model, content, given)

    return Cascade("soundstorm", parts.codec, stage, parts.text_stages.get("t2s"), parts.options, PRESETS)


SYSTEM = SystemKind(
    build,
    roles={"soundstorm": ("soundstorm",), "t2s": ("maskgct_t2s", "maskgct_semantic_t2s")},
    optional=("t2s",),
    codec_roles=("semantic",),
    trained_on={"t2s": "semantic"},
    text_roles=("t2s",),
    text_options="text",
)
