"""Published codecs: where their weights are, what they code, and on what terms the weights may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def kbit_s(self, levels: int | None = None) -> float:
        """Bit rate of the codes of so many levels, all by default."""
        bits = math.log2(self.codebook_size)
        return self.frame_rate * bits * (self.n_codebooks if levels is None else levels) / 1000


PUBLISHED: tuple[Published, ...] = (
    Published("dac-16khz", "descript/dac_16khz", 16_000, 320, 12, 1024, "MIT", "any"),
    Published("dac-24khz", "descript/dac_24khz", 24_000, 320, 32, 1024, "MIT", "any"),
    Published("dac-44khz", "descript/dac_44khz", 44_100, 512, 9, 1024, "MIT", "any"),
    Published("encodec-24khz", "facebook/encodec_24khz", 24_000, 320, 32, 1024, "", "unstated"),
    # The first level is the loudness.
    Published("encodec-48khz", "facebook/encodec_48khz", 48_000, 320, 17, 1024, "MIT", "any"),
    Published("mimi-24khz", "kyutai/mimi", 24_000, 1920, 32, 2048, "CC-BY-4.0", "any"),
    Published("xcodec-16khz", "hf-audio/xcodec-hubert-librispeech", 16_000, 320, 8, 1024, "", "unstated"),
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
        "Apache-2.0",
        "any",
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
