"""The speech stage: semantic tokens and a voice to the codes of all other levels, and these to a waveform.

Shapes: B rows, P prompt frames, T frames, Q levels that are generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.cascade import Presets
from models.codecs.interface import Codes, Wave
from models.content import Content, ContentStage, RecordingLimits, Voice, pad_voices
from models.layers.masks import pad_rows
from models.sampling.draws import RowDraws
from models.soundstorm.network import SoundStorm
from models.soundstorm.sampling import Conditions, SoundStormOptions, generate


@dataclass(frozen=True)
class SoundStormSystemOptions(SoundStormOptions, RecordingLimits):
    """Options of a system: those of `generate`, and the longest recordings."""

    def __post_init__(self) -> None:
        SoundStormOptions.__post_init__(self)
        RecordingLimits.__post_init__(self)


PRESETS: Presets = {
    "best": {"steps": 8, "num_full_sampling_levels": 1},
    "fast": {"steps": 1, "num_full_sampling_levels": 1, "text": {"t2s_steps": 8}},
}
"""`best` is the default, also of the text stage."""


class SpeechStage(ContentStage):
    """A SoundStorm with its codec and options bound; see `models.cascade.TokensToSpeech`."""

    def __init__(self, model: SoundStorm, content: Content, options: SoundStormSystemOptions) -> None:
        """ValueError for a network that does not fit the codec and the content tokens."""
        _check(model, content)
        super().__init__(model, content, options)
        self._model, self._sampling = model.eval(), options

    def frames(self, wave_T: Tensor, codes_PQ: Tensor) -> Tensor:  # noqa: ARG002
        """The codes of the levels that are generated."""
        return codes_PQ[:, 1:] if self.tokenizer.own else codes_PQ

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """See TokensToSpeech. Rows that are generated one by one count their own evaluations."""
        semantic, given = self.aligned(tokens, voices)
        every = range(len(semantic))
        codes: list[Tensor] = []
        for rows in [[row] for row in every] if self._sampling.one_length else [every]:
            batch = [semantic[row] for row in rows]
            conditions = conditions_of(self._model, batch, [given[row] for row in rows])
            made = generate(self._model, conditions, self._sampling, draws.rows(rows))
            codes += [codes_TQ[: len(row_T)] for codes_TQ, row_T in zip(made.codes_BTQ, batch, strict=True)]
        if self.tokenizer.own:
            pairs = zip(semantic, codes, strict=True)
            codes = [torch.cat([first_T[:, None], rest_TQ], dim=1) for first_T, rest_TQ in pairs]
        codes_BTQ, mask_BT = pad_rows(codes)
        return self.codec.decode(Codes(codes_BTQ.transpose(1, 2), mask_BT.sum(1))), made.evaluations


def conditions_of(
    model: SoundStorm, semantic: Sequence[Tensor], voices: Sequence[Voice | None]
) -> Conditions:
    """A batch of rows: semantic tokens (T,) of each, and the aligned voice of each that has one."""
    nothing = semantic[0].new_zeros(0)
    none = Voice(nothing, nothing.new_zeros(0, model.config.n_codebooks))
    prompt_semantic_BP, prompt_BPQ, prompt_lengths = pad_voices(voices, none)
    lengths = [len(row_T) for row_T in semantic]
    return Conditions(pad_rows(semantic)[0], lengths, prompt_semantic_BP, prompt_BPQ, prompt_lengths)


def _check(model: SoundStorm, content: Content) -> None:
    config, codec, own = model.config, content.codec, int(content.own)
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
