"""SoundStorm's manifest."""

from __future__ import annotations

from models.manifest import Family, Format, Trainable
from models.soundstorm import checkpoint_speechgpt_gen, example
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.soundstorm.system import SYSTEM

FAMILY = Family(
    name="soundstorm",
    trainables=(Trainable("soundstorm", SoundStormConfig, SoundStorm, example.soundstorm),),
    systems={"soundstorm": SYSTEM},
    formats={
        "speechgpt-gen-soundstorm": Format(
            checkpoint_speechgpt_gen.files, checkpoint_speechgpt_gen.convert, "soundstorm"
        )
    },
)
