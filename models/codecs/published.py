"""Published codecs: where their weights are, what they code, and on what terms the weights may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.codecs.files import HUB_EDITION
from models.identity import TokenIdentity

Use = Literal["any", "conditions", "non-commercial", "unstated"]
"""`conditions`: also commercial, but within limits that the licence names. `unstated`: the publisher names none."""


@dataclass(frozen=True)
class Published:
    """One set of released weights."""

    name: str
    """What codec sources and identities call it."""
    repository: str
    """On the Hugging Face Hub; `OWNER/NAME/FOLDER` where the codec is a folder of it."""
    sample_rate: int
    """Hz."""
    hop_length: int
    """Samples a frame."""
    n_codebooks: int
    codebook_size: int
    licence: str
    """Of the weights, as their publisher states it; empty where none is stated."""
    use: Use
    format: str = ""
    """Checkpoint format that it must be imported from; empty for a directory that loads as it is."""

    chunk_frames: int = 0
    chunk_stride: int = 0
    """As in `TokenIdentity`."""

    @property
    def identity(self) -> TokenIdentity:
        """Of its directories, but for the weights' digest."""
        sizes = (self.sample_rate, self.hop_length, self.n_codebooks, self.codebook_size)
        chunks = (self.chunk_frames, self.chunk_stride)
        return TokenIdentity(self.name, HUB_EDITION, "", *sizes, 0, False, *chunks)


PUBLISHED: tuple[Published, ...] = (
    # Of descript-audio-codec's own release, of which these are copies.
    Published("dac-16khz", "descript/dac_16khz", 16_000, 320, 12, 1024, "MIT", "any"),
    Published("dac-24khz", "descript/dac_24khz", 24_000, 320, 32, 1024, "MIT", "any"),
    Published("dac-44khz", "descript/dac_44khz", 44_100, 512, 9, 1024, "MIT", "any"),
    Published("encodec-24khz", "facebook/encodec_24khz", 24_000, 320, 32, 1024, "", "unstated"),
    # The first level is the loudness.
    Published(
        "encodec-48khz",
        "facebook/encodec_48khz",
        48_000,
        320,
        17,
        1024,
        "MIT",
        "any",
        chunk_frames=150,
        chunk_stride=47_520,
    ),
    Published("mimi-24khz", "kyutai/mimi", 24_000, 1920, 32, 2048, "CC-BY-4.0", "any"),
    Published("xcodec-16khz", "hf-audio/xcodec-hubert-librispeech", 16_000, 320, 8, 1024, "", "unstated"),
    # Of HKUSTAudio/xcodec2, of which this is a copy.
    Published(
        "xcodec2-16khz", "HKUSTAudio/xcodec2-hf", 16_000, 320, 1, 65_536, "CC-BY-NC-4.0", "non-commercial"
    ),
    Published(
        "higgs-audio-v2-tokenizer-24khz",
        "bosonai/higgs-audio-v2-tokenizer",
        24_000,
        960,
        8,
        1024,
        "Boson Higgs Audio 2 Community License",
        "conditions",
    ),
    Published(
        "speechtokenizer",
        "fnlp/SpeechTokenizer/speechtokenizer_hubert_avg",
        16_000,
        320,
        8,
        1024,
        # Apache-2.0 is its code's; the weights' card states none.
        "",
        "unstated",
        "speechtokenizer",
    ),
    Published(
        "maskgct-acoustic",
        "amphion/MaskGCT/acoustic_codec",
        24_000,
        480,
        12,
        1024,
        "CC-BY-NC-4.0",
        "non-commercial",
        "amphion-codec",
    ),
)


def published(name: str) -> Published | None:
    """The published codec of that name, or at that repository; None if there is none."""
    return next((one for one in PUBLISHED if name in (one.name, one.repository)), None)
