"""The manifest of toktts."""

from __future__ import annotations

from models.manifest import Family, Format, SystemKind, Trainable
from models.toktts import checkpoint_hugging_face, example, system
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS

FAMILY = Family(
    name="toktts",
    trainables=(Trainable("toktts", TokTTSConfig, TokTTS, example.toktts),),
    systems={"toktts": SystemKind(system.build, {"toktts": ("toktts",)}, text_roles=("toktts",))},
    formats={"toktts": Format(checkpoint_hugging_face.files, checkpoint_hugging_face.convert, "toktts")},
)
