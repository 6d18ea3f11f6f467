"""Speech made by espeak-ng (bundled by espeakng-loader): recordings for the demo, for tests and for codec training.

espeak-ng keeps the phase of its oscillators from one text to the next, so samples repeat when a new process says
the same texts in the same order.
"""

from __future__ import annotations

import functools
import random
import wave
from dataclasses import dataclass
from pathlib import Path

from models.text.espeak import Espeak, EspeakError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice: `name` as espeak-ng knows it (`en-us`, `en-us+f2`), words a minute, pitch 0-99."""

    name: str
    speed: int = 160
    pitch: int = 50


@functools.cache
def _engine() -> Espeak:
    """One per process."""
    return Espeak()


def synthesize_espeak(text: str, voice: Voice) -> tuple[bytes, int]:
    """Samples of `text` as little-endian int16 PCM, and their rate in Hz (22,050).

    Raises EspeakError for a voice that espeak-ng does not have or a text that gives no sound.
    """
    engine = _engine()
    engine.set_voice(voice.name)
    engine.set_delivery(voice.speed, voice.pitch)
    pcm = engine.say(text).pcm
    if not any(pcm):
        raise EspeakError(f"espeak-ng made no sound of the text {text!r} with voice {voice.name!r}")
    return pcm, engine.sample_rate


def speak(text: str, voice: Voice, path: Path) -> float:
    """Write `text` spoken by `voice` to a mono 16-bit WAV; returns its length in seconds."""
    pcm, rate = synthesize_espeak(text, voice)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return len(pcm) / 2 / rate


def make_digit_corpus(
    folder: Path, voices: tuple[Voice, ...], *, repeats: int, phrases: int, seed: int
) -> float:
    """Write every digit alone `repeats` times in every voice, and `phrases` random phrases of two to four digits.

    Speed and pitch vary a little. `folder` gets WAV files and a `metadata.csv` (`file,text,speaker,language`).
    Returns seconds of audio.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(digit, voice) for _ in range(repeats) for voice in voices for digit in DIGITS]
    jobs += [
        (" ".join(draw.choices(DIGITS, k=draw.randint(2, 4))), draw.choice(voices)) for _ in range(phrases)
    ]
    lines = ["file,text,speaker,language"]
    seconds = 0.0
    for index, (text, voice) in enumerate(jobs):
        varied = Voice(voice.name, voice.speed + draw.randint(-25, 25), voice.pitch + draw.randint(-6, 6))
        name = f"{index:05d}.wav"
        seconds += speak(text, varied, folder / name)
        lines.append(f"{name},{text},{voice.name},en")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return seconds
