"""The manifest of MaskGCT's acoustic codec."""

from models.codecs.maskgct_acoustic import checkpoint_amphion_codec, example
from models.codecs.maskgct_acoustic.codec import KIND, load_directory, save_directory
from models.manifest import Family, Format

FAMILY = Family(
    name="maskgct_acoustic",
    formats={
        "amphion-codec": Format(
            checkpoint_amphion_codec.files, checkpoint_amphion_codec.convert, "codec", save_directory
        )
    },
    codecs={KIND: load_directory},
    codec_examples={"maskgct_acoustic": example.write},
)
