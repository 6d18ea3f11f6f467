"""Recordings as waveforms: the one place that decodes, resamples, and converts seconds, samples and frames.

Decoding streams: blocks are mixed to mono and resampled one by one, so memory holds the mono result at the
target rate and one block, whatever the file. What this module decides about awkward files:

- The container is told by content. libsndfile reads WAV, FLAC, Ogg and AIFF; FFmpeg (PyAV) reads the rest and
  what libsndfile refuses. A file name only helps FFmpeg with formats that have no signature (GSM).
- What really decodes counts, not what the header claims: a truncated file gives the audio that is there.
- Channels are averaged. A dead channel (peak below -80 dBFS) does not count; channels that cancel each other
  are replaced by the loudest one.
- Levels are kept. A wave beyond full scale (float files, overshoot of lossy codecs) is scaled to fit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from catalog.reasons import Reason

Samples = npt.NDArray[np.float32]

BLOCK_FRAMES = 1 << 16
SILENCE_PEAK = 1e-4
"""-80 dBFS: three steps of 16-bit audio."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
_CANCELLED = 0.01
"""Mixed power below this share of the loudest channel's means that the channels are in opposite phase."""


class AudioError(Exception):
    """A recording that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Audio:
    """A decoded recording."""

    samples: Samples
    """Mono (T,) float32 in [-1, 1]."""
    sample_rate: int
    """Hz, as asked for."""
    source_rate: int
    """Hz, as found in the file."""
    source_channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return samples_to_seconds(len(self.samples), self.sample_rate)


@dataclass(frozen=True)
class Limits:
    """What `decode` refuses, in seconds of audio."""

    min_duration_s: float = 0.0
    max_duration_s: float = 4 * 3600.0


def seconds_to_samples(seconds: float, sample_rate: int) -> int:
    """Nearest whole number of samples."""
    return round(seconds * sample_rate)


def samples_to_seconds(samples: int, sample_rate: int) -> float:
    """Length of `samples` at `sample_rate` Hz."""
    return samples / sample_rate


def samples_to_frames(samples: int, hop_length: int) -> int:
    """Frames that hold `samples`; a partial hop counts as a whole frame."""
    return -(-samples // hop_length)


def frames_to_seconds(frames: int, hop_length: int, sample_rate: int) -> float:
    """Length of `frames` frames."""
    return frames * hop_length / sample_rate


def decode(source: Path | bytes | BinaryIO, sample_rate: int, limits: Limits | None = None) -> Audio:
    """Mono audio at `sample_rate` Hz of any file that libsndfile or FFmpeg reads.

    Raises AudioError: unreadable, empty, non_finite, silent, too_short, too_long.
    """
    bounds = limits or Limits()
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _decode(file, sample_rate, bounds)
    return _decode(io.BytesIO(source) if isinstance(source, bytes) else source, sample_rate, bounds)


def level(samples: Samples, mode: Literal["keep", "peak", "rms"], target_dbfs: float) -> Samples:
    """Scale so that the peak or the RMS is `target_dbfs`; never beyond full scale. `keep` leaves it alone."""
    peak = float(np.abs(samples).max(initial=0.0))
    if mode == "keep" or peak == 0.0:
        return samples
    now = peak if mode == "peak" else float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    gain = min(10 ** (target_dbfs / 20) / now, 1.0 / peak)
    return (samples * np.float32(gain)).astype(np.float32)


def resample(samples: Samples, source_rate: int, sample_rate: int) -> Samples:
    """A mono wave (T,) at another rate (soxr, high quality)."""
    import soxr

    if source_rate == sample_rate:
        return samples
    result: Samples = soxr.resample(samples, source_rate, sample_rate, quality="HQ")
    return result


def write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    """Write mono 16-bit WAV aside and make it visible in one step."""
    import soundfile

    aside = path.with_name(f".{path.name}.part")
    try:
        soundfile.write(aside, np.clip(samples, -1.0, 1.0), sample_rate, subtype="PCM_16", format="WAV")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _decode(file: BinaryIO, sample_rate: int, limits: Limits) -> Audio:
    mixer = _run(file, sample_rate, limits, channel=None)
    if mixer.cancels:
        mixer = _run(file, sample_rate, limits, channel=int(mixer.power.argmax()))
    samples = mixer.result()
    if len(samples) < seconds_to_samples(limits.min_duration_s, sample_rate) or not len(samples):
        seconds = samples_to_seconds(len(samples), sample_rate)
        raise AudioError(Reason.TOO_SHORT, f"{seconds:.3f} s long; the least is {limits.min_duration_s} s")
    return Audio(samples, sample_rate, mixer.source_rate, mixer.channels)


def _run(file: BinaryIO, sample_rate: int, limits: Limits, channel: int | None) -> _Mixer:
    file.seek(0)
    with _reader(file) as reader:
        mixer = _Mixer(reader.sample_rate, sample_rate, reader.channels, limits, channel)
        for block in reader.blocks:
            mixer.add(block)
    mixer.finish()
    return mixer


class _Mixer:
    """Blocks (n, channels) of any rate in, a mono wave at the target rate out."""

    def __init__(
        self, source_rate: int, rate: int, channels: int, limits: Limits, channel: int | None
    ) -> None:
        import soxr

        if not LOWEST_RATE <= source_rate <= HIGHEST_RATE:
            rule = f"allowed are {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise AudioError(Reason.UNREADABLE, f"sample rate is {source_rate} Hz; {rule}")
        self.source_rate, self.channels, self._channel, self._limits = source_rate, channels, channel, limits
        self._stream = None
        if source_rate != rate:
            self._stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
        self._parts: list[Samples] = []
        self._frames = 0
        self._peaks = np.zeros(channels)
        self._mixed_power = 0.0
        self.power = np.zeros(channels)

    def add(self, block: Samples) -> None:
        """Take the next block; raises AudioError for NaN, infinity and too long a file."""
        if block.shape[1] != self.channels:
            raise AudioError(Reason.UNREADABLE, "the number of channels changes within the file")
        if not np.isfinite(block).all():
            raise AudioError(Reason.NON_FINITE, "holds NaN or infinite samples")
        self._frames += len(block)
        seconds = samples_to_seconds(self._frames, self.source_rate)
        if seconds > self._limits.max_duration_s:
            limit = self._limits.max_duration_s
            raise AudioError(Reason.TOO_LONG, f"longer than {limit:g} s, the most that is allowed")
        np.maximum(self._peaks, np.abs(block).max(axis=0, initial=0.0), out=self._peaks)
        self.power += np.square(block, dtype=np.float64).sum(axis=0)
        mono = block.sum(axis=1) if self._channel is None else block[:, self._channel]
        self._mixed_power += float(np.square(mono, dtype=np.float64).sum())
        self._push(np.ascontiguousarray(mono, dtype=np.float32), last=False)

    def finish(self) -> None:
        """No more blocks follow; raises AudioError when there was no sound at all."""
        if self._frames == 0:
            raise AudioError(Reason.EMPTY, "holds no samples")
        if self._peaks.max() < SILENCE_PEAK:
            raise AudioError(Reason.SILENT, f"silent: peak is {self._peaks.max():.2g} of full scale")
        self._push(np.zeros(0, dtype=np.float32), last=True)

    @property
    def _live(self) -> int:
        return 1 if self._channel is not None else max(1, int((self._peaks >= SILENCE_PEAK).sum()))

    @property
    def cancels(self) -> bool:
        """Whether the channels, averaged, wipe each other out."""
        return self._live > 1 and self._mixed_power / self._live**2 < _CANCELLED * float(self.power.max())

    def result(self) -> Samples:
        """The mono wave: the mean of the live channels, scaled to fit where it exceeds full scale."""
        samples = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        self._parts.clear()
        if self._live > 1:
            samples /= np.float32(self._live)
        peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
        if peak > 1.0:
            samples /= np.float32(peak)
        return samples

    def _push(self, mono: Samples, last: bool) -> None:
        part = mono if self._stream is None else self._stream.resample_chunk(mono, last=last)
        if len(part):
            self._parts.append(part)


@dataclass(frozen=True)
class _Reader:
    sample_rate: int
    channels: int
    blocks: Iterator[Samples]


@contextmanager
def _reader(file: BinaryIO) -> Iterator[_Reader]:
    head = file.read(12)
    file.seek(0)
    if not head:
        raise AudioError(Reason.EMPTY, "holds no bytes")
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM"):
        sound = _open_soundfile(file)
        if sound is not None:
            with sound:
                yield _Reader(sound.samplerate, sound.channels, _soundfile_blocks(sound))
            return
        file.seek(0)
    with _open_av(file) as container:
        yield _av_reader(container)


def _open_soundfile(file: BinaryIO) -> Any:
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return None


def _soundfile_blocks(sound: Any) -> Iterator[Samples]:
    import soundfile

    while True:
        try:
            block = sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(Reason.UNREADABLE, f"decoding fails: {error}") from error
        if not len(block):
            return
        yield block


@contextmanager
def _open_av(file: BinaryIO) -> Iterator[Any]:
    import av

    try:
        # No protocol may be opened: a playlist named .mp3 must not read other files or the network.
        container = av.open(file, mode="r", options={"protocol_whitelist": ""})
    except (av.FFmpegError, ValueError, OSError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise AudioError(Reason.UNREADABLE, f"not a known audio format ({detail})") from error
    with container:
        yield container


def _av_reader(container: Any) -> _Reader:
    if not container.streams.audio:
        raise AudioError(Reason.UNREADABLE, "holds no audio stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise AudioError(Reason.UNREADABLE, "FFmpeg has no decoder for its audio")
    if not context.sample_rate or not context.channels:
        raise AudioError(Reason.UNREADABLE, "states neither sample rate nor channels")
    return _Reader(context.sample_rate, context.channels, _av_blocks(container, stream))


def _av_blocks(container: Any, stream: Any) -> Iterator[Samples]:
    """Float blocks (n, channels). Single bad packets are skipped, as FFmpeg does; above 1 % it is unreadable."""
    import av

    context = stream.codec_context
    shape = (context.sample_rate, context.channels)
    # Packed: PyAV reads planes beyond the eighth channel from memory that is not theirs.
    resampler = av.AudioResampler(format="flt")
    packets = bad = 0
    for packet in _packets(container, stream):
        packets += 1
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            bad += 1
            if bad > 1 + packets // 100:
                raise AudioError(Reason.UNREADABLE, f"decoding fails: {error.strerror}") from error
            continue
        for frame in frames:
            if (frame.sample_rate, frame.layout.nb_channels) != shape:
                raise AudioError(Reason.UNREADABLE, "the sample rate or channels change within the file")
            for converted in resampler.resample(frame):
                yield converted.to_ndarray().reshape(-1, context.channels)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    import av

    try:
        yield from container.demux(stream)
    except av.EOFError:
        return
    except av.FFmpegError as error:
        raise AudioError(Reason.UNREADABLE, f"the container is damaged: {error.strerror}") from error
