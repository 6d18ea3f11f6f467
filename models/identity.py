"""The identity of a sequence of tokens or latents, and how sequences of two frame rates line up.

Standard library only: `catalog` writes these into datasets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

MAX_FRAMES_OFF = 2
"""Greatest difference, in frames, between a sequence's length and the one that its rate gives."""


@dataclass(frozen=True)
class TokenIdentity:
    """The maker of a column of codes, semantic tokens or latents. Equal identities give equal values.

    `sample_rate` in Hz, `hop_length` in samples a frame (0: one vector an utterance), `weights_sha256` empty for
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

    def __post_init__(self) -> None:
        least = {"sample_rate": 1, "hop_length": 0 if self.channels else 1, "channels": 0}
        least |= dict.fromkeys(("n_codebooks", "codebook_size"), 0 if self.channels else 1)
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"codec {self.name}: {name} is {getattr(self, name)}, must be at least {smallest}"
                )
        if self.codebook_size > 65536:
            raise ValueError(
                f"codec {self.name}: codebook_size is {self.codebook_size}, 16 bits hold at most 65536"
            )

    @property
    def source(self) -> str:
        """`NAME@EDITION`, or the name alone for something without editions."""
        return f"{self.name}@{self.edition}" if self.edition else self.name

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

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
        """Read what `to_json` wrote."""
        return TokenIdentity(**json.loads(text))


_LATER = ("channels", "signed")
_ABSENT = object()


def source_frame(target_frame: int, target: TokenIdentity, source: TokenIdentity, source_frames: int) -> int:
    """The frame of `source` that holds the middle of a frame of `target`, in integers only.

    min(((2 t + 1) hop_t rate_s) // (2 hop_s rate_t), n_s - 1).
    """
    middle = (2 * target_frame + 1) * target.hop_length * source.sample_rate
    return min(middle // (2 * source.hop_length * target.sample_rate), source_frames - 1)


def check_frames(
    target_frames: int, target: TokenIdentity, source_frames: int, source: TokenIdentity
) -> None:
    """ValueError where one sequence is more than two frames longer or shorter than the other's length says."""
    expected = -(
        -target_frames * target.hop_length * source.sample_rate // (source.hop_length * target.sample_rate)
    )
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
