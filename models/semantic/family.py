"""The semantic tokenizers' manifest."""

from __future__ import annotations

from models.codecs.checkpoint_amphion import released_files
from models.manifest import Family, Format, Trainable
from models.semantic import checkpoint_amphion_repcodec, directory, example
from models.semantic.repcodec import RepCodec, RepCodecConfig

FAMILY = Family(
    name="semantic",
    trainables=(Trainable("repcodec", RepCodecConfig, RepCodec, example.repcodec),),
    formats={"amphion-repcodec": Format(released_files, checkpoint_amphion_repcodec.convert, "repcodec")},
    codecs={directory.KIND: directory.load_directory},
)
