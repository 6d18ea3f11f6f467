"""The binding of espeak-ng (the library that espeakng-loader bundles): phones and speech of a text.

Interface: speak_lib.h of espeak-ng/espeak-ng@1.52.
"""

from __future__ import annotations

import ctypes
import re
import tempfile
import threading
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_VOICES = {
    "en": "en-us",
    "fr": "fr-fr",
    "zh": "cmn",
    "no": "nb",
    "nn": "nb",
    "iw": "he",
    "in": "id",
    "jp": "ja",
    "en-au": "en-gb",
    "en-nz": "en-gb",
    "zh-hk": "yue",
    "zh-yue": "yue",
}
"""Codes of ISO 639-1 and of Whisper whose espeak-ng voice has another name."""

_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _IPA = 2, 0x8000, 1, 2
_RATE, _PITCH = 1, 3
_EVENT_END, _EVENT_WORD = 0, 1
_LANGUAGE_FLAG = re.compile(r"\(.+?\)")
"""Stands where a word is said in another language, as in `lə (en)wiːkɛnd(fr)`."""


class EspeakError(ValueError):
    """A language, a voice or a text that espeak-ng cannot say, or espeak-ng is missing; the message says which."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        # A byte of priority, then the first language's code.
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Spoken(NamedTuple):
    """Speech, and where its words start."""

    pcm: bytes
    """Little-endian int16 at `Espeak.sample_rate`."""
    words: list[tuple[int, float]]
    """(character of the text, seconds) of the words that espeak-ng reports."""


class Espeak:
    """One espeak-ng with a voice.

    Each has a copy of the library of its own, because espeak-ng keeps state in globals: the phase of its oscillators
    goes on from text to text, so samples repeat where a fresh copy says the same texts in the same order (starting it
    again does not reset them). Phones of a text do not depend on the texts before. Threads take turns.
    """

    def __init__(self) -> None:
        library_path, data_path = _installed()
        with tempfile.NamedTemporaryFile(suffix=".so") as copy:
            copy.write(library_path.read_bytes())
            copy.flush()
            self._library: Any = ctypes.CDLL(copy.name)
        self._lock = threading.Lock()
        data = str(data_path).encode()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
        """Hz."""
        if self.sample_rate <= 0:
            raise EspeakError(
                f"espeak-ng did not start with its data in {data_path} (code {self.sample_rate})"
            )
        # Otherwise the jitter of some voices is drawn by the time of day.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._end = weakref.finalize(self, _unload, self._library)

    def close(self) -> None:
        """Give the library's memory back; nothing else may be called afterwards."""
        self._end()

    def version(self) -> str:
        """Of espeak-ng, as in `1.52.0`."""
        text: bytes = self._library.espeak_Info(None)
        return text.decode().split()[0]

    def voices(self) -> dict[str, str]:
        """espeak-ng's language codes in lower case, and the voice that it prefers for each."""
        listed, index = self._library.espeak_ListVoices(None), 0
        found: dict[str, str] = {}
        while listed[index]:
            voice = listed[index].contents
            found.setdefault(voice.languages[1:].decode().lower(), voice.identifier.decode())
            index += 1
        return found

    def set_voice(self, name: str) -> None:
        """Take a voice by espeak-ng's name for it (`en-us`, `en-us+f2`). EspeakError if there is none."""
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise EspeakError(f"espeak-ng has no voice {name!r}")

    def set_language(self, language: str) -> None:
        """Take the voice of a language; see `voice_of`."""
        self.set_voice(_voices()[voice_of(language)])

    def set_delivery(self, words_per_minute: int, pitch: int) -> None:
        """Set speed and pitch; pitch is 0 to 99."""
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)

    def ipa(self, text: str) -> str:
        """Transcribe into the International Phonetic Alphabet; words and clauses are separated by spaces."""
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        with self._lock:
            while rest.value is not None:
                clause: bytes | None = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA)
                clauses.append((clause or b"").decode())
        return _LANGUAGE_FLAG.sub("", " ".join(clauses))

    def say(self, text: str) -> Spoken:
        """Speak a text. Empty for one that has no sound."""
        blocks: list[bytes] = []
        words: list[tuple[int, float]] = []

        def collect(samples: Any, count: int, events: Any) -> int:
            if count > 0:
                blocks.append(ctypes.string_at(samples, 2 * count))
            index = 0
            while events and events[index].type != _EVENT_END:
                if events[index].type == _EVENT_WORD:
                    words.append((events[index].text_position - 1, events[index].audio_position_ms / 1000))
                index += 1
            return 0

        callback, encoded = _CALLBACK(collect), text.encode()
        with self._lock:
            self._library.espeak_SetSynthCallback(callback)
            self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
            self._library.espeak_Synchronize()
        return Spoken(b"".join(blocks), words)


@lru_cache(maxsize=256)
def voice_of(language: str) -> str:
    """espeak-ng's code for a language: `en` -> `en-us`, `pt_BR` -> `pt-br`, `de-AT` -> `de`.

    `language` is a code of ISO 639-1, of Whisper (`en`, `zh`), or with a region. EspeakError for one that it lacks.
    """
    code = language.strip().replace("_", "-").lower()
    for name in (code, code.partition("-")[0]):
        voice = _VOICES.get(name, name)
        if voice in _voices():
            return voice
    raise EspeakError(f"espeak-ng has no voice for language {language!r}; give an ISO 639-1 code that it has")


def version() -> str:
    """Version of the espeak-ng that is installed. EspeakError if none is."""
    return _probe()[0]


def _voices() -> dict[str, str]:
    return _probe()[1]


@lru_cache(maxsize=1)
def _probe() -> tuple[str, dict[str, str]]:
    engine = Espeak()
    try:
        return engine.version(), engine.voices()
    finally:
        engine.close()


def _installed() -> tuple[Path, Path]:
    """The library and its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise EspeakError(
            "espeak-ng is not installed: add the package espeakng-loader, or give phones instead of text"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _unload(library: Any) -> None:
    import _ctypes

    library.espeak_Terminate()
    _ctypes.dlclose(library._handle)
