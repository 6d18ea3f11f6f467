"""The speech stage: semantic tokens and a voice to the codes of all other levels, and these to a waveform.

Shapes: B rows, S content tokens, P prompt frames, T frames, Q levels that are generated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes, Wave
from models.content import Content
from models.layers.masks import pad_rows
from models.prompt import codes_of
from models.sampling.draws import RowDraws
from models.soundstorm.network import SoundStorm
from models.soundstorm.sampling import Conditions, SoundStormOptions, generate


@dataclass(frozen=True)
class SoundStormSystemOptions(SoundStormOptions):
    """Options of a system: those of `generate`, and the longest recordings."""

    max_prompt_s: float = 30.0
    """Of a reference."""
    max_source_s: float = 30.0
    """Of a source that is converted at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_prompt_s", "max_source_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class Voice:
    """A reference."""

    content_S: Tensor
    """Its content tokens."""
    codes_PQ: Tensor


class SpeechStage:
    """A SoundStorm with its codec and options bound; see `models.cascade.TokensToSpeech`."""

    def __init__(
        self, model: SoundStorm, codec: Codec, content: Content, options: SoundStormSystemOptions
    ) -> None:
        """ValueError for a network that does not fit the codec and the content tokens."""
        config, own = model.config, int(content.own)
        if config.n_codebooks != codec.n_codebooks - own:
            above = " above the semantic one" if own else ""
            raise ValueError(
                f"soundstorm generates {config.n_codebooks} levels; {codec.name} has "
                f"{codec.n_codebooks - own}{above}, with{'out' if own else ''} a further semantic codec"
            )
        if config.codebook_size != codec.codebook_size:
            raise ValueError(
                f"soundstorm has codebooks of {config.codebook_size}; {codec.name} has {codec.codebook_size}"
            )
        if config.n_semantic_tokens != content.identity.codebook_size:
            raise ValueError(
                f"soundstorm reads {config.n_semantic_tokens} semantic tokens; "
                f"{content.identity.source} has {content.identity.codebook_size}"
            )
        self._model, self._codec, self._content, self._options = model.eval(), codec, content, options
        self.reads, self.sample_rate = content.identity, codec.sample_rate
        self.device = next(model.parameters()).device
        self.max_prompt_s, self.max_source_s = options.max_prompt_s, options.max_source_s
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def content(self, wave_T: Tensor) -> Tensor:
        """See TokensToSpeech."""
        return self._content.encode(wave_T)

    def voice(self, wave_T: Tensor) -> Voice:
        """See TokensToSpeech."""
        codes_PQ = codes_of(wave_T, self._codec).T
        if self._content.own:
            return Voice(codes_PQ[:, 0], codes_PQ[:, 1:])
        return Voice(self._content.encode(wave_T), codes_PQ)

    def content_of(self, voice: Voice) -> Tensor:
        """See TokensToSpeech."""
        return voice.content_S

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """See TokensToSpeech. Rows that are generated one by one count their own evaluations."""
        semantic = [self._content.aligned(tokens_S.to(self.device)) for tokens_S in tokens]
        given = [None if voice is None else self._aligned(voice) for voice in voices]
        batches = (
            [[row] for row in range(len(semantic))] if self._options.one_length else [range(len(semantic))]
        )
        codes: list[Tensor] = []
        for rows in batches:
            conditions = conditions_of(
                self._model, [semantic[row] for row in rows], [given[row] for row in rows]
            )
            made = generate(self._model, conditions, self._options, draws.rows(rows))
            codes += [
                codes_TQ[: len(semantic[row])] for row, codes_TQ in zip(rows, made.codes_BTQ, strict=True)
            ]
        if self._content.own:
            codes = [
                torch.cat([one_T[:, None], rest_TQ], 1)
                for one_T, rest_TQ in zip(semantic, codes, strict=True)
            ]
        codes_BTQ, mask_BT = pad_rows(codes)
        return self._codec.decode(Codes(codes_BTQ.transpose(1, 2), mask_BT.sum(1))), made.evaluations

    def _aligned(self, voice: Voice) -> Voice:
        return Voice(self._content.aligned(voice.content_S, len(voice.codes_PQ)), voice.codes_PQ)


def conditions_of(
    model: SoundStorm, semantic: Sequence[Tensor], voices: Sequence[Voice | None]
) -> Conditions:
    """A batch of rows: semantic tokens (T,) of each, and the prompt of each that has one, token for frame."""
    nothing = semantic[0].new_zeros(0)
    none = Voice(nothing, nothing.new_zeros(0, model.config.n_codebooks))
    prompts = [none if voice is None else voice for voice in voices]
    return Conditions(
        pad_rows(semantic)[0],
        [len(row_T) for row_T in semantic],
        pad_rows([prompt.content_S for prompt in prompts])[0],
        pad_rows([prompt.codes_PQ for prompt in prompts])[0],
        [len(prompt.codes_PQ) for prompt in prompts],
    )
