"""Recordings as waveforms: the one place that decodes and resamples.

Decoding streams: blocks are mixed to mono and resampled one by one, so memory holds the mono result at the
target rate and one block, whatever the file. Besides what `pipelines.audio.containers` decides about awkward files:

- Channels are averaged. A dead channel (peak below -80 dBFS) does not count; channels that cancel each other
  are replaced by the loudest one.
- Levels are kept. A wave beyond full scale (float files, overshoot of lossy codecs) is scaled to fit.
- A segment is cut at the file's own rate, from the nearest sample to the nearest sample, and then treated like a
  file that holds nothing else: the resampler sees silence before and after it, and its channels are judged alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np

from catalog.reasons import Reason
from pipelines.audio.containers import AudioError, AudioFile, LibsndfileError, Reader, Samples
from pipelines.audio.lengths import samples_to_seconds, seconds_to_samples

SILENCE_PEAK = 1e-4
"""-80 dBFS: three steps of 16-bit audio."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
_CANCELLED = 0.01
"""Mixed power below this share of the loudest channel's means that the channels are in opposite phase."""
_LEVEL_BLOCK = 1 << 20


@dataclass(frozen=True)
class Audio:
    """A decoded recording."""

    samples: Samples
    """Mono (T,) float32 in [-1, 1]."""
    sample_rate: int
    """Hz, as requested."""
    source_rate: int
    """Hz, as found in the file."""
    source_channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return samples_to_seconds(len(self.samples), self.sample_rate)


@dataclass(frozen=True)
class Limits:
    """The shortest and longest audio that `decode` accepts, in seconds."""

    min_duration_s: float = 0.0
    max_duration_s: float = 4 * 3600.0


class Sink(Protocol):
    """Receives decoded samples, part by part."""

    def write(self, part: Samples, /) -> None:
        """Append a part (n,)."""
        ...

    def clear(self) -> None:
        """Forget all parts."""
        ...

    def array(self) -> Samples:
        """All parts as one writable array (T,), after the last `write`."""
        ...


def decode(
    source: Path | bytes | BinaryIO | AudioFile,
    sample_rate: int,
    limits: Limits | None = None,
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    sink: Sink | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Audio:
    """Mono audio at `sample_rate` Hz of any file that libsndfile or FFmpeg reads, or of a segment of it.

    A segment that goes on after the end of the file gives what is there. An AudioFile stays open for the next segment.
    `progress` is called after every block, those before the segment included. Raises AudioError: unreadable, empty,
    non_finite, silent, too_short, too_long.
    """
    job = _Job(sample_rate, limits or Limits(), start_s or 0.0, stop_s, sink or _Memory(), progress)
    if isinstance(source, AudioFile):
        return _decode(source, job)
    if isinstance(source, Path):
        if source.exists() and not source.is_file():  # opening a pipe would wait for its other end
            raise AudioError(Reason.UNREADABLE, "is not a regular file")
        with source.open("rb") as opened, closing(AudioFile(opened)) as file:
            return _decode(file, job)
    with closing(AudioFile(io.BytesIO(source) if isinstance(source, bytes) else source)) as file:
        return _decode(file, job)


def level_gain(samples: Samples, mode: Literal["keep", "peak", "rms"], target_dbfs: float) -> float:
    """The factor that brings the peak or the RMS to `target_dbfs`, never beyond full scale. `keep` is 1."""
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    if mode == "keep" or peak == 0.0:
        return 1.0
    now = peak
    if mode == "rms":
        blocks = (samples[at : at + _LEVEL_BLOCK] for at in range(0, len(samples), _LEVEL_BLOCK))
        power = sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks)
        now = float(np.sqrt(power / len(samples)))
    return float(min(10 ** (target_dbfs / 20) / now, 1.0 / peak))


def resample(samples: Samples, source_rate: int, sample_rate: int) -> Samples:
    """A mono wave (T,) at another rate (soxr, high quality)."""
    import soxr

    if source_rate == sample_rate:
        return samples
    result: Samples = soxr.resample(samples, source_rate, sample_rate, quality="HQ")
    return result


@dataclass(frozen=True)
class _Job:
    sample_rate: int
    limits: Limits
    start_s: float
    stop_s: float | None
    sink: Sink
    progress: Callable[[], None]


class _Memory:
    def __init__(self) -> None:
        self._bytes = io.BytesIO()

    def write(self, part: Samples, /) -> None:
        self._bytes.write(part.data)

    def clear(self) -> None:
        self._bytes = io.BytesIO()

    def array(self) -> Samples:
        return np.frombuffer(self._bytes.getbuffer(), np.float32)


def _decode(file: AudioFile, job: _Job) -> Audio:
    if not 0.0 <= job.start_s < (np.inf if job.stop_s is None else job.stop_s):
        raise AudioError(
            Reason.EMPTY, f"a segment from {job.start_s:g} to {job.stop_s} s holds nothing; 0 <= start < stop"
        )
    mixer = _run(file, job, channel=None)
    if mixer.cancels:
        job.sink.clear()
        mixer = _run(file, job, channel=int(mixer.power.argmax()))
    if mixer.written < seconds_to_samples(job.limits.min_duration_s, job.sample_rate) or not mixer.written:
        seconds = samples_to_seconds(mixer.written, job.sample_rate)
        raise AudioError(
            Reason.TOO_SHORT,
            f"{_seconds(seconds, job.limits.min_duration_s)} s long; "
            f"the least is {job.limits.min_duration_s:g} s",
        )
    samples = job.sink.array()
    mixer.scale(samples)
    return Audio(samples, job.sample_rate, mixer.source_rate, mixer.channels)


def _run(file: AudioFile, job: _Job, channel: int | None) -> _Mixer:
    try:
        return _read(file.reader(job.start_s), job, channel)
    except LibsndfileError:
        job.sink.clear()
        return _read(file.reader_without_libsndfile(), job, channel)
    except BaseException:
        file.close()
        raise


def _read(reader: Reader, job: _Job, channel: int | None) -> _Mixer:
    mixer = _Mixer(reader, job, channel)
    first = seconds_to_samples(job.start_s, reader.sample_rate)
    last = None if job.stop_s is None else seconds_to_samples(job.stop_s, reader.sample_rate)
    for block in reader.segment(first, last):
        if block.shape[1]:
            mixer.add(block)
        job.progress()
    mixer.finish()
    return mixer


class _Mixer:
    """Blocks (channels, n) of any rate in, a mono wave at the target rate out, into the job's sink."""

    def __init__(self, reader: Reader, job: _Job, channel: int | None) -> None:
        import soxr

        if not LOWEST_RATE <= reader.sample_rate <= HIGHEST_RATE:
            rule = f"allowed are {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise AudioError(Reason.UNREADABLE, f"sample rate is {reader.sample_rate} Hz; {rule}")
        self.source_rate, self.channels = reader.sample_rate, reader.channels
        self._channel, self._job = channel, job
        self._stream = None
        if self.source_rate != job.sample_rate:
            self._stream = soxr.ResampleStream(
                self.source_rate, job.sample_rate, 1, dtype="float32", quality="HQ"
            )
        self.written = 0
        self._peak = 0.0
        self._frames = 0
        self._peaks = np.zeros(self.channels)
        self._mixed_power = 0.0
        self.power = np.zeros(self.channels)

    def add(self, block: Samples) -> None:
        """Take the next block; raises AudioError for NaN, infinity and too long a file."""
        if block.shape[0] != self.channels:
            raise AudioError(Reason.UNREADABLE, "the number of channels changes within the file")
        peaks = np.maximum(block.max(axis=1), -block.min(axis=1))
        if not np.isfinite(peaks).all():
            raise AudioError(Reason.NON_FINITE, "holds NaN or infinite samples")
        np.maximum(self._peaks, peaks, out=self._peaks)
        self._frames += block.shape[1]
        seconds = samples_to_seconds(self._frames, self.source_rate)
        limit = self._job.limits.max_duration_s
        if seconds > limit:
            raise AudioError(Reason.TOO_LONG, f"longer than {limit:g} s, the most that is allowed")
        self._push(self._mono(block), last=False)

    def _mono(self, block: Samples) -> Samples:
        if self.channels == 1:
            return np.ascontiguousarray(block[0])
        if self._channel is not None:
            return np.ascontiguousarray(block[self._channel])
        mono: Samples = block.sum(axis=0)
        self.power += [_power(channel) for channel in block]
        self._mixed_power += _power(mono)
        return mono

    def finish(self) -> None:
        """No more blocks follow; raises AudioError when there was no sound at all."""
        if self._frames == 0:
            where = f" after {self._job.start_s:g} s" if self._job.start_s else ""
            raise AudioError(Reason.EMPTY, f"holds no samples{where}")
        if self._peaks.max() < SILENCE_PEAK:
            peak = abs(float(self._peaks.max()))  # of zeros it may be -0
            raise AudioError(Reason.SILENT, f"silent: peak is {peak:.2g} of full scale")
        self._push(np.zeros(0, dtype=np.float32), last=True)

    @property
    def _live(self) -> int:
        return 1 if self._channel is not None else max(1, int((self._peaks >= SILENCE_PEAK).sum()))

    @property
    def cancels(self) -> bool:
        """True if the channels, averaged, wipe each other out."""
        return self._live > 1 and self._mixed_power / self._live**2 < _CANCELLED * float(self.power.max())

    def scale(self, samples: Samples) -> None:
        """Make the sum of the channels the mean of the live ones, in place, or less where that exceeds full scale."""
        divisor = max(float(self._live), self._peak)
        if divisor != 1.0:
            samples /= np.float32(divisor)

    def _push(self, mono: Samples, last: bool) -> None:
        part = mono if self._stream is None else self._stream.resample_chunk(mono, last=last)
        if len(part):
            self._peak = max(self._peak, float(part.max()), -float(part.min()))
            self.written += len(part)
            self._job.sink.write(part)


def _seconds(value: float, other: float) -> str:
    """As many digits as tell two lengths apart."""
    return f"{value:.3f}" if round(value, 3) != round(other, 3) else f"{value:.6f}"


def _power(samples: Samples) -> float:
    return float(np.square(samples, dtype=np.float64).sum())
