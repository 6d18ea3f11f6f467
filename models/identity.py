"""The identity of a sequence of tokens or latents, and how sequences of two frame rates line up.

Standard library only: `catalog` writes these into datasets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

MAX_FRAMES_OFF = 2
"""Greatest difference, in frames, between a sequence's length and the one that its rate gives."""

_MOST = {"sample_rate": 1_000_000, "hop_length": 1_000_000, "n_codebooks": 1024, "channels": 1_000_000}
"""Beyond these a number is a mistake, and what is sized by it would take all memory."""


@dataclass(frozen=True)
class TokenIdentity:
    """The maker of a column of codes, semantic tokens or latents. Equal identities give equal values.

    `sample_rate` in Hz, `hop_length` in samples per frame (0: one vector per utterance), `weights_sha256` empty for
    something without weights. Latents have no codebooks: `n_codebooks` and `codebook_size` are 0, `channels` is not.
    """

    name: str
    edition: str
    weights_sha256: str
    sample_rate: int
    hop_length: int
    n_codebooks: int
    codebook_size: int
    channels: int = 0
    """Values of a frame of latents; 0 for tokens."""
    signed: bool = False
    """The int16 are signed samples."""
    chunk_frames: int = 0
    """Frames of a chunk, where rows are coded in chunks that overlap; 0: frames follow one another evenly."""
    chunk_stride: int = 0
    """Samples from the start of a chunk to that of the next."""

    def __post_init__(self) -> None:
        least = {"sample_rate": 1, "hop_length": 0 if self.channels else 1, "channels": 0}
        least |= dict.fromkeys(("n_codebooks", "codebook_size"), 0 if self.channels else 1)
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"codec {self.name}: {name} is {getattr(self, name)}, must be at least {smallest}"
                )
        longest = self.chunk_frames * self.hop_length
        if not (self.chunk_frames == self.chunk_stride == 0 or 0 < self.chunk_stride <= longest):
            raise ValueError(
                f"codec {self.name}: chunk_stride is {self.chunk_stride} with chunk_frames {self.chunk_frames}; "
                f"must be 0 with 0, or 1 to the {longest} samples of a chunk"
            )
        if self.codebook_size > 65536:
            raise ValueError(
                f"codec {self.name}: codebook_size is {self.codebook_size}, 16 bits hold at most 65536"
            )
        for name, largest in _MOST.items():
            if getattr(self, name) > largest:
                raise ValueError(
                    f"codec {self.name}: {name} is {getattr(self, name)}, must be at most {largest}"
                )

    @property
    def source(self) -> str:
        """`NAME@EDITION`, or the name alone for something without editions."""
        return f"{self.name}@{self.edition}" if self.edition else self.name

    @property
    def frame_rate(self) -> float:
        """Frames per second, of a long row where there are chunks."""
        if self.chunk_frames:
            return self.chunk_frames * self.sample_rate / self.chunk_stride
        return self.sample_rate / self.hop_length

    @property
    def holds_samples(self) -> bool:
        """True if the int16 are the samples themselves, as those of `pcm-*` are."""
        return self.signed or codes_are_samples(self.hop_length, self.codebook_size)

    def kbit_s(self, levels: int | None = None) -> float:
        """Bit rate of the codes of so many levels, all by default."""
        count = self.n_codebooks if levels is None else levels
        return self.frame_rate * math.log2(self.codebook_size) * count / 1000

    def frames(self, samples: int) -> int:
        """Frames of so many samples, a partial hop counting as a whole one. Some codecs have a frame more or less."""
        whole = self._chunks_before_last(samples)
        return whole * self.chunk_frames - (-(samples - whole * self.chunk_stride) // self.hop_length)

    def samples(self, frames: int) -> int:
        """Samples that so many frames stand for."""
        if not self.chunk_frames:
            return frames * self.hop_length
        whole = max(0, frames - 1) // self.chunk_frames
        last = (frames - whole * self.chunk_frames) * self.hop_length
        return whole * self.chunk_stride + (max(last, self._overlap) if whole else last)

    def _chunks_before_last(self, samples: int) -> int:
        """A chunk that would hold nothing but the end of the one before is left out."""
        if not self.chunk_frames:
            return 0
        return max(0, -(-(samples - self._overlap) // self.chunk_stride) - 1)

    @property
    def _overlap(self) -> int:
        return self.chunk_frames * self.hop_length - self.chunk_stride

    @property
    def digest(self) -> str:
        """sha256 of the identity's canonical JSON, hex."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, str | int | bool]:
        """By field, without later fields at their defaults: stored identities keep their bytes."""
        later = {field.name: field.default for field in dataclasses.fields(self) if field.name in _LATER}
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if later.get(key, _ABSENT) != value}

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(self.as_dict())

    @staticmethod
    def from_json(text: str) -> TokenIdentity:
        """Read what `to_json` wrote. ValueError for what is no identity."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}, not an object")
        for field in dataclasses.fields(TokenIdentity):
            kind = {"str": str, "int": int, "bool": bool}[str(field.type)]
            if field.name in values and type(values[field.name]) is not kind:
                raise ValueError(f"{field.name} is {values[field.name]!r:.40}, not a {kind.__name__}")
            if field.name not in values and field.default is dataclasses.MISSING:
                raise ValueError(f"lacks {field.name}")
        return TokenIdentity(**values)


_LATER = ("channels", "signed", "chunk_frames", "chunk_stride")
_ABSENT = object()


def codes_are_samples(hop_length: int, codebook_size: int) -> bool:
    """True for codes of 16 bits at a frame a sample: `pcm-*`, whose identities are from before the field `signed`."""
    return hop_length == 1 and codebook_size > 2**15


def source_frame(target_frame: int, target: TokenIdentity, source: TokenIdentity, source_frames: int) -> int:
    """The frame of `source` that holds the middle of a frame of `target`, in integers only.

    min(((2 t + 1) hop_t rate_s) // (2 hop_s rate_t), n_s - 1), where neither has chunks. Of two chunks that hold the
    middle, the later one is read.
    """
    sample = _twice_the_middle(target_frame, target) * source.sample_rate // (2 * target.sample_rate)
    chunk = sample // source.chunk_stride if source.chunk_frames else 0
    within = (sample - chunk * source.chunk_stride) // source.hop_length
    return min(chunk * source.chunk_frames + within, source_frames - 1)


def _twice_the_middle(frame: int, made: TokenIdentity) -> int:
    """Twice the samples before the middle of a frame: a whole number."""
    chunk, within = divmod(frame, made.chunk_frames) if made.chunk_frames else (0, frame)
    return 2 * chunk * made.chunk_stride + (2 * within + 1) * made.hop_length


def check_frames(
    target_frames: int, target: TokenIdentity, source_frames: int, source: TokenIdentity
) -> None:
    """ValueError where one sequence is more than two frames longer or shorter than the other's length says."""
    expected = source.frames(-(-target.samples(target_frames) * source.sample_rate // target.sample_rate))
    # A frame of the coarser sequence is worth several of the finer one.
    slack = MAX_FRAMES_OFF * max(
        1, -(-target.hop_length * source.sample_rate // (source.hop_length * target.sample_rate))
    )
    if source_frames < 1 or abs(source_frames - expected) > slack:
        raise ValueError(
            f"{source.name} has {source_frames} frames beside {target_frames} of {target.name}; "
            f"expected {expected}, at most {slack} more or fewer"
        )


def aligned_frames(
    target_frames: int, target: TokenIdentity, source_frames: int, source: TokenIdentity
) -> list[int]:
    """For each frame of `target` the frame of `source` to read. ValueError as `check_frames`."""
    check_frames(target_frames, target, source_frames, source)
    return [source_frame(frame, target, source, source_frames) for frame in range(target_frames)]
