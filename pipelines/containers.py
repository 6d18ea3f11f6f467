"""Audio files as blocks of samples, whatever the container.

- The container is told by content. libsndfile reads WAV, FLAC, Ogg and AIFF; FFmpeg (PyAV) reads the rest and
  what libsndfile refuses or does not get through. A file name only helps FFmpeg with formats that have no
  signature (GSM).
- What really decodes counts, not what the header claims: a truncated file gives the audio that is there.
- Single bad packets are skipped, as FFmpeg does; above 1 % the file is unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from catalog.reasons import Reason

Samples = npt.NDArray[np.float32]

BLOCK_SAMPLES = 1 << 16
"""Samples of all channels together that a block holds at least, but for the last one."""
_LEAST_FRAMES = 64
_SEEKABLE = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""libsndfile's encodings without memory: after seeking, the same samples follow as after reading."""


class AudioError(Exception):
    """A recording that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LibsndfileError(AudioError):
    """libsndfile fails in the middle of a file, where FFmpeg may get further."""


@dataclass(frozen=True)
class Reader:
    """An open file."""

    sample_rate: int
    """Hz, as found in the file."""
    channels: int
    blocks: Iterator[Samples]
    """(channels, n) float32, in order; raises AudioError where decoding fails."""
    seek: Callable[[int], bool]
    """Make `blocks` begin at a frame, before it is used; False where that would not be exact to the sample."""


@contextmanager
def open_reader(file: BinaryIO, *, with_libsndfile: bool = True) -> Iterator[Reader]:
    """Open an audio file; raises AudioError (empty, unreadable), LibsndfileError and MemoryError."""
    head = file.read(12)
    file.seek(0)
    if not head:
        raise AudioError(Reason.EMPTY, "holds no bytes")
    if with_libsndfile and head[:4] in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM"):
        sound = _open_soundfile(file)
        if sound is not None:
            with sound:
                yield _soundfile_reader(sound)
            return
        file.seek(0)
    with open_av(file) as container:
        yield av_reader(container)


def _open_soundfile(file: BinaryIO) -> Any:
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return None


def _soundfile_reader(sound: Any) -> Reader:
    import soundfile

    def seek(frame: int) -> bool:
        if not sound.subtype.startswith(_SEEKABLE):
            return False
        try:
            return bool(sound.seek(frame) == frame)
        except (soundfile.LibsndfileError, OSError):
            # Beyond the end of a truncated file, say: reading tells what there is.
            sound.seek(0)
            return False

    return Reader(sound.samplerate, sound.channels, _soundfile_blocks(sound), seek)


def _soundfile_blocks(sound: Any) -> Iterator[Samples]:
    import soundfile

    frames = max(_LEAST_FRAMES, BLOCK_SAMPLES // sound.channels)
    while True:
        try:
            block = sound.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise LibsndfileError(Reason.UNREADABLE, f"decoding fails: {error}") from error
        if not len(block):
            return
        yield np.ascontiguousarray(block.T)


@contextmanager
def open_av(file: BinaryIO) -> Iterator[Any]:
    """FFmpeg's container of a file; raises AudioError (unreadable) and MemoryError."""
    import av

    try:
        # No protocol may be opened: a playlist named .mp3 must not read other files or the network.
        container = av.open(file, mode="r", options={"protocol_whitelist": ""})
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise AudioError(Reason.UNREADABLE, f"not a known audio format ({detail})") from error
    with container:
        yield container


def av_reader(container: Any) -> Reader:
    """Blocks of the container's first audio stream; raises AudioError (unreadable) where there is none."""
    if not container.streams.audio:
        raise AudioError(Reason.UNREADABLE, "holds no audio stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise AudioError(Reason.UNREADABLE, "FFmpeg has no decoder for its audio")
    if not context.sample_rate or not context.channels:
        raise AudioError(Reason.UNREADABLE, "states neither sample rate nor channels")
    blocks = _gathered(_av_frames(container, stream), context.channels)
    # FFmpeg's seeking goes by time stamps, which are not exact to the sample.
    return Reader(context.sample_rate, context.channels, blocks, lambda frame: frame == 0)


def _gathered(frames: Iterator[Samples], channels: int) -> Iterator[Samples]:
    """Larger blocks: an MP3 frame has 1152 samples, and handling it takes longer than decoding it."""
    parts: list[Samples] = []
    length = 0
    for part in frames:
        parts.append(part)
        length += part.shape[1]
        if length * channels >= BLOCK_SAMPLES:
            yield np.concatenate(parts, axis=1)
            parts, length = [], 0
    if parts:
        yield np.concatenate(parts, axis=1)


def _av_frames(container: Any, stream: Any) -> Iterator[Samples]:
    import av

    context = stream.codec_context
    shape = (context.sample_rate, context.channels)
    resampler = av.AudioResampler(format="flt")
    packets = bad = 0
    for packet in _packets(container, stream):
        packets += 1
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            bad += 1
            if bad > 1 + packets // 100:
                raise AudioError(Reason.UNREADABLE, f"decoding fails: {error.strerror}") from error
            continue
        for frame in frames:
            if (frame.sample_rate, frame.layout.nb_channels) != shape:
                raise AudioError(Reason.UNREADABLE, "the sample rate or channels change within the file")
            # PyAV reads planes beyond the eighth channel from memory that is not theirs: those are packed first.
            if frame.format.name == "fltp" and context.channels <= 8:
                yield frame.to_ndarray()
            else:
                for converted in resampler.resample(frame):
                    yield converted.to_ndarray().reshape(-1, context.channels).T


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    import av

    try:
        yield from container.demux(stream)
    except av.EOFError:
        return
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise AudioError(Reason.UNREADABLE, f"the container is damaged: {error.strerror}") from error
