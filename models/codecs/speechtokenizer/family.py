"""SpeechTokenizer's manifest."""

from models.codecs.speechtokenizer import checkpoint_speechtokenizer, example
from models.codecs.speechtokenizer.codec import KIND, load_directory, save_directory
from models.manifest import Family, Format

FAMILY = Family(
    name="speechtokenizer",
    formats={
        "speechtokenizer": Format(
            checkpoint_speechtokenizer.files, checkpoint_speechtokenizer.convert, "codec", save_directory
        )
    },
    codecs={KIND: load_directory},
    codec_examples={"speechtokenizer": example.write},
)
