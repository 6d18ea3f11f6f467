"""The speech stage: semantic tokens and a voice to the codes of a codec, and these to a waveform.

Shapes: B rows, P prompt frames, T frames, Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.codecs.interface import Codes, Wave
from models.content import Content, ContentStage, Voice, pad_voices
from models.layers.masks import length_mask, pad_rows
from models.maskgct.options import SemanticS2AOptions
from models.maskgct.sampling import Generated, SemanticConditions, generate_semantic_s2a
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A
from models.sampling.draws import Draws, RowDraws


class SpeechStage(ContentStage):
    """S2A networks with their codec and options bound; see `models.cascade.TokensToSpeech`."""

    def __init__(
        self,
        first: MaskGCTSemanticS2A | None,
        full: MaskGCTSemanticS2A,
        content: Content,
        options: SemanticS2AOptions,
    ) -> None:
        """`first` makes codebook 0; None: `full` does. ValueError for networks that do not fit each other, the codec
        and the content tokens.
        """
        _check(first, full, content)
        super().__init__(full, content, options)
        self._first, self._full, self._sampling = (
            None if first is None else first.eval(),
            full.eval(),
            options,
        )
        self._voice_frames = round(options.voice_s * content.codec.sample_rate / content.codec.hop_length)

    def content(self, wave_T: Tensor) -> Tensor:
        """See TokensToSpeech. A tokenizer may have no frame for the last few milliseconds: its last token is repeated.

        What is made is then as long as the recording.
        """
        tokens_S, made = super().content(wave_T), self.reads
        wanted = made.frames(-(-len(wave_T) * made.sample_rate // self.sample_rate))
        return torch.cat([tokens_S, tokens_S[-1:].expand(max(0, wanted - len(tokens_S)))])

    def frames(self, wave_T: Tensor, codes_PQ: Tensor) -> Tensor:  # noqa: ARG002
        """All codes."""
        return codes_PQ

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """See TokensToSpeech."""
        made, lengths_B = self.generate(tokens, voices, draws)
        return self.codec.decode(Codes(made.codes_BTQ.transpose(1, 2), lengths_B)), made.evaluations

    def generate(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: Draws
    ) -> tuple[Generated, Tensor]:
        """Codes of all levels of each row, and the rows' lengths."""
        semantic, given = self.aligned(tokens, voices)
        heard = [
            None if voice is None else self._beginning(voice, len(row_T))
            for row_T, voice in zip(semantic, given, strict=True)
        ]
        conditions = self._conditions(semantic, heard)
        options, n_levels = self._sampling, self._full.n_levels
        known_BTg, evaluations = conditions.semantic_BT.new_zeros(*conditions.semantic_BT.shape, 0), 0
        if self._first is not None:
            steps, guidance = [options.first_steps], options.guide_first()
            made = generate_semantic_s2a(
                self._first, conditions, known_BTg, steps, options.choice(), guidance, draws
            )
            known_BTg, evaluations = made.codes_BTQ, made.evaluations
        steps, guidance = options.steps_of(n_levels), options.guide()
        made = generate_semantic_s2a(
            self._full, conditions, known_BTg, steps, options.choice(), guidance, draws
        )
        lengths_B = torch.tensor(list(conditions.lengths), device=self.device)
        return Generated(made.codes_BTQ, evaluations + made.evaluations), lengths_B

    def _beginning(self, voice: Voice, n_frames: int) -> Voice:
        """The part of a voice that is used for a row of so many frames."""
        if not self._voice_frames:
            return voice
        kept = min(self._voice_frames, n_frames)
        return Voice(voice.content_S[:kept], voice.frames_PX[:kept])

    def _conditions(self, semantic: Sequence[Tensor], voices: Sequence[Voice | None]) -> SemanticConditions:
        nothing = semantic[0].new_zeros(0)
        none = Voice(nothing, nothing.new_zeros(0, self._full.n_levels))
        prompt_semantic_BP, prompt_BPQ, prompt_lengths = pad_voices(voices, none)
        prompt_mask_BP = length_mask(torch.tensor(prompt_lengths, device=self.device), prompt_BPQ.shape[1])
        lengths = [len(row_T) for row_T in semantic]
        return SemanticConditions(
            pad_rows(semantic)[0], prompt_semantic_BP, prompt_BPQ, prompt_mask_BP, lengths
        )


def _check(first: MaskGCTSemanticS2A | None, full: MaskGCTSemanticS2A, content: Content) -> None:
    if content.own:
        raise ValueError(
            "maskgct_semantic reads semantic tokens; it needs a tokenizer in the role 'semantic'"
        )
    if full.config.n_codebooks != content.codec.n_codebooks:
        raise ValueError(
            f"s2a makes {full.config.n_codebooks} codebooks; {content.codec.name} has {content.codec.n_codebooks}"
        )
    if first is None and full.first_level > 0:
        raise ValueError("s2a makes codebooks from 1 on; codebook 0 needs a network in the role 's2a_first'")
    if first is not None and first.config.n_codebooks != 1:
        raise ValueError(f"s2a_first makes {first.config.n_codebooks} codebooks; it must make one")
    named = {"s2a": full} | ({} if first is None else {"s2a_first": first})
    for name, config in ((name, network.config) for name, network in named.items()):
        if config.codebook_size != content.codec.codebook_size:
            raise ValueError(
                f"{name} has codebooks of {config.codebook_size}; "
                f"{content.codec.name} has {content.codec.codebook_size}"
            )
        if config.semantic_vocab_size != content.identity.codebook_size:
            raise ValueError(
                f"{name} reads {config.semantic_vocab_size} semantic tokens; "
                f"{content.identity.source} has {content.identity.codebook_size}"
            )
