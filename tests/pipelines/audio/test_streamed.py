"""Files written as streams are read whole."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from catalog.reasons import Reason
from pipelines.audio.containers import AudioError
from pipelines.audio.decode import decode
from pipelines.audio.streamed import is_streamed

RATE = 16_000


def sound(seconds: float, **form: str) -> bytes:
    file = io.BytesIO()
    wave = 0.2 * np.sin(np.arange(round(seconds * RATE)) * 0.2)
    soundfile.write(file, wave, RATE, **form)
    return file.getvalue()


def test_a_wav_whose_size_of_data_is_zero() -> None:
    plain = sound(1.5, format="WAV", subtype="PCM_16")
    at = plain.index(b"data")
    unfinished = plain[:4] + bytes(4) + plain[8 : at + 4] + bytes(4) + plain[at + 8 :]
    assert is_streamed(io.BytesIO(unfinished))
    assert len(decode(unfinished, RATE).samples) == 24_000
    assert np.array_equal(decode(unfinished, RATE).samples, decode(plain, RATE).samples)


@pytest.mark.parametrize(
    "after", [b"", b"LIST" + struct.pack("<I", 5) + b"hello\0", b"LIST" + struct.pack("<I", 4) + b"four"]
)
def test_a_wav_without_data_stays_empty(after: bytes) -> None:
    plain = sound(0.1, format="WAV", subtype="PCM_16")
    empty = plain[: plain.index(b"data") + 4] + bytes(4) + after
    assert not is_streamed(io.BytesIO(empty))
    with pytest.raises(AudioError) as refused:
        decode(empty, RATE)
    assert refused.value.reason is Reason.EMPTY


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_chained_ogg(subtype: str) -> None:
    first, second = (sound(seconds, format="OGG", subtype=subtype) for seconds in (1.5, 2.0))
    assert not is_streamed(io.BytesIO(first))
    assert is_streamed(io.BytesIO(first + second))
    assert len(decode(first + second, RATE).samples) / RATE == pytest.approx(3.5, abs=0.05)
