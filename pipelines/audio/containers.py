"""Audio files as blocks of samples, whatever the container.

- The container is detected from the content. libsndfile reads WAV, FLAC, Ogg and AIFF; FFmpeg (PyAV) reads the rest and
  what libsndfile refuses or does not get through. A file name only helps FFmpeg with formats that have no
  signature (GSM).
- What really decodes counts, not what the header claims: a truncated file gives the audio that is there.
- Single bad packets are skipped, as FFmpeg does; above 1 % the file is unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from catalog.reasons import Reason
from pipelines.audio.streamed import is_streamed

if TYPE_CHECKING:
    import soundfile
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

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


class Reader:
    """An open file, read forwards, or from any frame where its encoding allows that to the sample."""

    def __init__(
        self,
        sample_rate: int,
        channels: int,
        blocks: Callable[[], Iterator[Samples]],
        seek: Callable[[int], int] | None = None,
    ) -> None:
        """`seek` returns the frame from which new `blocks` then go on; without it they are made once."""
        self.sample_rate, self.channels = sample_rate, channels
        self._new_blocks, self._seek = blocks, seek
        self._blocks = blocks()
        self._position = 0
        self._held: Samples | None = None

    def reaches(self, frame: int) -> bool:
        """True if `segment` can begin there."""
        return frame >= self._position or self._seek is not None

    def segment(self, first: int, last: int | None) -> Iterator[Samples]:
        """Blocks (channels, n) float32 of the frames from `first` to before `last`, empty ones while it skips.

        Raises AudioError where decoding fails.
        """
        if self._seek is not None and first != self._position:
            self._position, self._held, self._blocks = self._seek(first), None, self._new_blocks()
        while last is None or self._position < last:
            block = next(self._blocks, None) if self._held is None else self._held
            if block is None:
                return
            start = self._position
            stop = block.shape[1] if last is None else min(block.shape[1], last - start)
            self._position += stop
            self._held = block[:, stop:] if stop < block.shape[1] else None
            yield block[:, min(stop, max(0, first - start)) : stop]


class AudioFile:
    """A file that is opened when it is read, and read on where the last segment ended if the next one lies behind."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stack = ExitStack()
        self._reader: Reader | None = None

    def reader(self, start_s: float) -> Reader:
        """Ready for a segment from `start_s`; raises what `open_reader` does."""
        if self._reader is None or not self._reader.reaches(round(start_s * self._reader.sample_rate)):
            self.close()
            self._reader = self._stack.enter_context(open_reader(self._file))
        return self._reader

    def reader_without_libsndfile(self) -> Reader:
        """FFmpeg's, from the start of the file."""
        self.close()
        return self._stack.enter_context(open_reader(self._file, with_libsndfile=False))

    def close(self) -> None:
        """Forget the place. The file itself stays open."""
        self._reader = None
        self._stack.close()


@contextmanager
def open_reader(file: BinaryIO, *, with_libsndfile: bool = True) -> Iterator[Reader]:
    """Open an audio file; raises AudioError (empty, unreadable), LibsndfileError and MemoryError."""
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    if not head:
        raise AudioError(Reason.EMPTY, "holds no bytes")
    known = head[:4] in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM")
    if with_libsndfile and known and not is_streamed(file):
        sound = _open_soundfile(file)
        if sound is not None:
            with sound:
                yield _soundfile_reader(sound)
            return
        file.seek(0)
    with open_av(file) as container:
        yield av_reader(container)


def _open_soundfile(file: BinaryIO) -> soundfile.SoundFile | None:
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return None


def _soundfile_reader(sound: soundfile.SoundFile) -> Reader:
    import soundfile

    def seek(frame: int) -> int:
        try:
            return int(sound.seek(frame))
        except (soundfile.LibsndfileError, OSError):
            # Beyond the end of a truncated file, say: reading tells what there is.
            return int(sound.seek(0))

    return Reader(
        sound.samplerate,
        sound.channels,
        lambda: _soundfile_blocks(sound),
        seek if sound.subtype.startswith(_SEEKABLE) else None,
    )


def _soundfile_blocks(sound: soundfile.SoundFile) -> Iterator[Samples]:
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
def open_av(file: BinaryIO) -> Iterator[InputContainer]:
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


def av_reader(container: InputContainer) -> Reader:
    """Blocks of the container's first audio stream; raises AudioError (unreadable) where there is none."""
    if not container.streams.audio:
        raise AudioError(Reason.UNREADABLE, "holds no audio stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise AudioError(Reason.UNREADABLE, "FFmpeg has no decoder for its audio")
    if not context.sample_rate or not context.channels:
        raise AudioError(Reason.UNREADABLE, "states neither sample rate nor channels")
    # No seeking: FFmpeg's goes by time stamps, which are not exact to the sample.
    return Reader(
        context.sample_rate,
        context.channels,
        lambda: _gathered(_av_frames(container, stream), context.channels),
    )


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


def _av_frames(container: InputContainer, stream: AudioStream) -> Iterator[Samples]:
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


def _packets(container: InputContainer, stream: AudioStream) -> Iterator[Packet]:
    import av

    try:
        yield from container.demux(stream)
    except av.EOFError:
        return
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise AudioError(Reason.UNREADABLE, f"the container is damaged: {error.strerror}") from error
