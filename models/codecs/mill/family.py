"""The embedded codec's manifest."""

from models.codecs.mill import example
from models.codecs.mill.codec import KIND, load_directory
from models.codecs.mill.network import MillConfig, MillNetwork
from models.manifest import Family, Trainable

FAMILY = Family(
    name="mill",
    trainables=(
        Trainable("codec", MillConfig, MillNetwork),
        Trainable("codec_head", MillConfig, MillNetwork),
    ),
    codecs={KIND: load_directory},
    codec_examples={"mill": example.write, "mill_headed": example.write_headed},
)
