"""Speech stages whose content tokens are the first codebook of a codec, at the frames of another one.

Shapes: S content tokens, P prompt frames, T frames of the codec that makes the waveform, X values of a frame.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.checkpoints import Json
from models.codecs.interface import Codec, Tokenizer
from models.identity import source_frame
from models.layers.masks import pad_rows
from models.prompt import codes_of, resampled


class Content:
    """Encodes recordings to content tokens, and aligns these with another codec's frames."""

    def __init__(self, codec: Codec, tokenizer: Tokenizer | None = None) -> None:
        """`codec` makes the waveform; without a `tokenizer` its own first codebook is the content."""
        self.codec, self.tokenizer = codec, codec if tokenizer is None else tokenizer
        self.own = tokenizer is None
        self.identity = replace(self.tokenizer.identity, n_codebooks=1)

    def encode(self, wave_T: Tensor) -> Tensor:
        """Content tokens (S,) of a recording at the codec's rate."""
        wave_T = resampled(wave_T, self.codec.sample_rate, self.tokenizer.sample_rate)
        return codes_of(wave_T, self.tokenizer)[0]

    def aligned(self, tokens_S: Tensor, frames: int | None = None) -> Tensor:
        """One token for each of `frames` frames of the codec, (T,); None: as many as the tokens' length gives, at least
        one.
        """
        source, target = self.identity, self.codec.identity
        if frames is None:
            samples = source.samples(len(tokens_S)) * target.sample_rate // source.sample_rate
            # Whole frames only.
            frames = max(1, target.frames(samples - target.hop_length + 1))
        read = [source_frame(frame, target, source, len(tokens_S)) for frame in range(frames)]
        return tokens_S[torch.tensor(read, device=tokens_S.device)]


@dataclass(frozen=True)
class RecordingLimits:
    """The longest recordings that a system takes."""

    max_prompt_s: float = 30.0
    """Of a reference."""
    max_source_s: float = 30.0
    """Of a source that is converted at once."""

    def __post_init__(self) -> None:
        for name in ("max_prompt_s", "max_source_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class Voice:
    """A reference."""

    content_S: Tensor
    """Its content tokens."""
    frames_PX: Tensor
    """What a network is given of it: codes or latents."""


class ContentStage(ABC):
    """A network with its codec and options bound; `run` is missing to a `models.cascade.TokensToSpeech`."""

    def __init__(self, module: nn.Module, content: Content, options: RecordingLimits) -> None:
        self.tokenizer, self.codec = content, content.codec
        self.reads, self.sample_rate = content.identity, content.codec.sample_rate
        self.device = next(module.parameters()).device
        self.max_prompt_s, self.max_source_s = options.max_prompt_s, options.max_source_s
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def content(self, wave_T: Tensor) -> Tensor:
        """See TokensToSpeech."""
        return self.tokenizer.encode(wave_T)

    def voice(self, wave_T: Tensor) -> Voice:
        """See TokensToSpeech."""
        codes_PQ = codes_of(wave_T, self.codec).T
        content_S = codes_PQ[:, 0] if self.tokenizer.own else self.tokenizer.encode(wave_T)
        return Voice(content_S, self.frames(wave_T, codes_PQ))

    @abstractmethod
    def frames(self, wave_T: Tensor, codes_PQ: Tensor) -> Tensor:
        """Frames of a reference for the network, from its wave and codes, (P, X)."""

    def content_of(self, voice: Voice) -> Tensor:
        """See TokensToSpeech."""
        return voice.content_S

    def aligned(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None]
    ) -> tuple[list[Tensor], list[Voice | None]]:
        """Content tokens and voices with one token for each frame of the codec."""
        align = self.tokenizer.aligned
        given = [
            None if voice is None else Voice(align(voice.content_S, len(voice.frames_PX)), voice.frames_PX)
            for voice in voices
        ]
        return [align(tokens_S.to(self.device)) for tokens_S in tokens], given


def pad_voices(voices: Sequence[Voice | None], nothing: Voice) -> tuple[Tensor, Tensor, list[int]]:
    """Content tokens (B, P) and frames (B, P, X) of aligned voices with their lengths; `nothing` stands for None."""
    given = [nothing if voice is None else voice for voice in voices]
    frames_BPX = pad_rows([voice.frames_PX for voice in given])[0]
    return pad_rows([voice.content_S for voice in given])[0], frames_BPX, [len(v.frames_PX) for v in given]
