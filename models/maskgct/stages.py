"""The text stage: a sentence to semantic tokens or codebook 0, in MaskGCT's systems and in cascades of other families.

Shapes: B rows, L text tokens, P prompt frames, T frames.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.cascade import Made
from models.checkpoints import Json
from models.identity import TokenIdentity
from models.layers.masks import pad_rows
from models.maskgct.options import SemanticTextOptions, TextOptions
from models.maskgct.sampling import Conditions, Generated, generate_t2s
from models.maskgct.t2s import MaskGCTT2S
from models.prompt import check_prompt, prompt_length
from models.sampling.draws import Draws, RowDraws
from models.settings import replaced
from models.system import SpeakRequest
from models.text.front_ends import TextFrontEnd
from models.text.normalize import word_count


@dataclass(frozen=True)
class Sentence:
    """A checked request."""

    tokens: tuple[int, ...]
    """Of the prompt's text and the sentence."""
    frames: int


class TextStage:
    """A T2S network with its front end and options bound; see `models.cascade.TextToTokens`."""

    def __init__(
        self, t2s: MaskGCTT2S, front_end: TextFrontEnd, writes: TokenIdentity, options: TextOptions
    ) -> None:
        """`writes` identifies what is made. ValueError for a network that does not fit it, the front end or options."""
        if t2s.config.codebook_size != writes.codebook_size:
            raise ValueError(
                f"t2s has codebooks of {t2s.config.codebook_size}; the codec's have {writes.codebook_size}"
            )
        # Published text tables are padded to round sizes.
        if t2s.config.text_vocab_size < front_end.vocab_size:
            raise ValueError(
                f"t2s has a text table of {t2s.config.text_vocab_size} rows; "
                f"the text front end needs {front_end.vocab_size}"
            )
        if options.no_prompt == "pad_frame" and not t2s.config.padding_code:
            raise ValueError("no_prompt is 'pad_frame'; t2s has no id of padding, so it must be 'none'")
        self.writes, self._t2s, self._front_end, self._options = writes, t2s.eval(), front_end, options
        self.device = next(t2s.parameters()).device
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def prepare(self, request: SpeakRequest) -> Sentence:
        """Tokenise and decide the length. ValueError with one line for a request that cannot be spoken."""
        options, text, prompt = self._options, request.text, request.prompt
        if not text.strip():
            raise ValueError("text is empty; there is nothing to speak")
        if prompt is not None:
            check_prompt(prompt, options.max_prompt_s)
        tokens = self._tokens(request)
        if len(tokens) > options.max_text_tokens:
            raise ValueError(
                f"text {_start(text)!r} has {len(tokens)} tokens with its prompt's; "
                f"the most is {options.max_text_tokens} (max_text_tokens)"
            )
        return Sentence(tuple(tokens), self._frames(request))

    def conditions(self, sentences: Sequence[Sentence], prompts_PQ: Sequence[Tensor | None]) -> Conditions:
        """A batch of sentences with the codes of their prompts, each (P, Q)."""
        text_BL, text_mask_BL = pad_rows([torch.tensor(one.tokens, device=self.device) for one in sentences])
        levels = next(
            (prompt.shape[1] for prompt in prompts_PQ if prompt is not None), self.writes.n_codebooks
        )
        frames = 1 if self._options.no_prompt == "pad_frame" else 0
        nothing = torch.full((frames, levels), self.writes.codebook_size)
        given = [nothing if prompt is None else prompt for prompt in prompts_PQ]
        prompt_BPQ, prompt_mask_BP = pad_rows([prompt.to(self.device) for prompt in given])
        return Conditions(
            text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, [one.frames for one in sentences]
        )

    def generate(self, conditions: Conditions, draws: Draws) -> Generated:
        """Tokens of every row, as codebook 0."""
        options = self._options
        return generate_t2s(
            self._t2s, conditions, options.t2s_steps, options.choice(), options.guide(), draws
        )

    def run(self, planned: Sequence[Sentence], prompts: Sequence[Tensor | None], draws: RowDraws) -> Made:
        """See TextToTokens."""
        codes_PQ = [None if prompt is None else prompt[:, None] for prompt in prompts]
        made = self.generate(self.conditions(planned, codes_PQ), draws)
        rows = zip(made.codes_BTQ[..., 0], planned, strict=True)
        return Made([codes_T[: one.frames] for codes_T, one in rows], made.evaluations)

    def _tokens(self, request: SpeakRequest) -> list[int]:
        encode, prompt = self._front_end.encode, request.prompt
        if prompt is None:
            return encode(request.text, request.language, request.phones)
        if request.phones is not None:
            raise ValueError(
                "phones are given with a voice prompt, whose phones are not known; give the text alone"
            )
        return encode(f"{prompt.text} {request.text}", request.language or prompt.language)

    def _frames(self, request: SpeakRequest) -> int:
        """Frames to generate: as wanted, else as much longer than the prompt as foretold, else as foretold."""
        rate, hop, options = self.writes.sample_rate, self.writes.hop_length, self._options
        text, prompt = request.text, request.prompt
        if request.duration_s is not None:
            frames = float(round(request.duration_s * self.writes.frame_rate))
        elif prompt is not None:
            frames = math.ceil(prompt_length(prompt, rate) / hop) / options.speed
            frames *= self._foretold(text, self._size(text, request.language or prompt.language))
            frames /= self._foretold(prompt.text or "", self._size(prompt.text or "", prompt.language))
        else:
            tokens = self._front_end.encode(text, request.language, request.phones)
            frames = self._foretold(text, len(tokens)) / options.speed
        frames += 1e-6  # 10.999... frames are 11
        if not 1 <= frames < options.max_frames + 1:
            raise ValueError(
                f"text {_start(text)!r} asks for {int(frames)} frames; allowed are 1 to {options.max_frames}"
            )
        return int(frames)

    def _foretold(self, text: str, size: int) -> float:
        """Frames of a sentence of `size` bytes or tokens at the dataset's mean speed."""
        options = self._options
        words = options.frames_per_word * word_count(text)
        return size * options.frames_per_token + words + options.frames_per_sentence

    def _size(self, text: str, language: str | None) -> int:
        """Measure of text that the length of speech is proportional to."""
        if self._options.length_by == "bytes":
            return len(text.encode())
        return len(self._front_end.encode(text, language))


def text_stage(
    module: nn.Module, front_end: TextFrontEnd, wanted: TokenIdentity, options: Mapping[str, Json]
) -> TextStage:
    """The stage that other families' cascades start from. ValueError for parts or options that do not fit."""
    return _stage(module, front_end, wanted, replaced(TextOptions(), options, "the options of maskgct_t2s"))


def semantic_text_stage(
    module: nn.Module, front_end: TextFrontEnd, wanted: TokenIdentity, options: Mapping[str, Json]
) -> TextStage:
    """The same with the defaults of a network that writes semantic tokens."""
    what = "the options of maskgct_semantic_t2s"
    return _stage(module, front_end, wanted, replaced(SemanticTextOptions(), options, what))


def _stage(
    module: nn.Module, front_end: TextFrontEnd, wanted: TokenIdentity, options: TextOptions
) -> TextStage:
    assert isinstance(module, MaskGCTT2S)
    return TextStage(module, front_end, wanted, options)


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
