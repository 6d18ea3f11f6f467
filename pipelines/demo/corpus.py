"""Speech made by espeak-ng (bundled by espeakng-loader): recordings for the demo, for tests and for codec training.

espeak-ng keeps the phase of its oscillators from one text to the next, so samples repeat when a new process says
the same texts in the same order.
"""

from __future__ import annotations

import ctypes
import functools
import random
import wave
from dataclasses import dataclass
from pathlib import Path

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice: `name` as espeak-ng knows it (`en-us`, `en-gb+f2`), words a minute, pitch 0-99."""

    name: str
    speed: int = 160
    pitch: int = 50


@functools.cache
def _engine() -> tuple[ctypes.CDLL, int]:
    """The loaded library and its sample rate in Hz. One per process: espeak-ng keeps global state."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = str(espeakng_loader.get_data_path()).encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
    if rate <= 0:
        raise OSError(f"espeak-ng did not start with its data in {data.decode()!r} (code {rate})")
    return library, rate


def synthesize_espeak(text: str, voice: Voice) -> tuple[bytes, int]:
    """Samples of `text` as little-endian int16 PCM, and their rate in Hz (22,050).

    Raises ValueError for a voice that espeak-ng does not have or a text that gives no sound.
    """
    library, rate = _engine()
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice.name!r}")
    library.espeak_SetParameter(_RATE, voice.speed, 0)
    library.espeak_SetParameter(_PITCH, voice.pitch, 0)
    blocks: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if count > 0:
            blocks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode("utf-8")
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    pcm = b"".join(blocks)
    if not any(pcm):
        raise ValueError(f"espeak-ng made no sound of the text {text!r} with voice {voice.name!r}")
    return pcm, rate


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
