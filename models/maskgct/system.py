"""MaskGCT without semantic tokens: text -> codebook 0 -> all codebooks -> waveform.

After choiHkk/maskgct@6048485. Differences: rows have their own lengths, prompts and random streams; a row without a
voice prompt has no prompt at all (`no_prompt: pad_frame` gives it the reference's one frame of padding).
Shapes: B rows, L text tokens, P prompt frames, T frames, Q codebooks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes
from models.layers.masks import length_mask
from models.manifest import Parts
from models.maskgct.options import MaskGCTOptions
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.sampling import Conditions, generate_s2a, generate_t2s
from models.maskgct.t2s import MaskGCTT2S
from models.prompt import Prompt, PromptCodes, check_prompt, prompt_length
from models.sampling.draws import RowDraws, row_seeds
from models.settings import replaced
from models.system import Capability, SpeakRequest, Speech, System, rows_of
from models.text.front_ends import TextFrontEnd


class MaskGCTSystem(System):
    """Text, with or without a voice prompt, to speech."""

    name = "maskgct"
    capabilities: frozenset[Capability] = frozenset({"speak"})

    def __init__(
        self, codec: Codec, front_end: TextFrontEnd, t2s: MaskGCTT2S, s2a: MaskGCTS2A, options: MaskGCTOptions
    ) -> None:
        self.codec, self.front_end, self.options = codec, front_end, options
        self.t2s, self.s2a = t2s.eval(), s2a.eval()
        self.device = next(t2s.parameters()).device
        for name, config in (("t2s", t2s.config), ("s2a", s2a.config)):
            if config.codebook_size != codec.codebook_size:
                raise ValueError(
                    f"{name} has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
                )
            # Published text tables are padded to round sizes.
            if config.text_vocab_size < front_end.vocab_size:
                raise ValueError(
                    f"{name} has a text table of {config.text_vocab_size} rows; "
                    f"the text front end needs {front_end.vocab_size}"
                )
        if s2a.config.n_codebooks != codec.n_codebooks:
            raise ValueError(f"s2a has {s2a.config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")

    def speak(self, options: Mapping[str, Json]) -> SpeakTask:
        """Text to speech with `options` in place of the system's own; ValueError for one that it does not have."""
        return SpeakTask(self, replaced(self.options, options, "the options of maskgct"))


def build(parts: Parts) -> MaskGCTSystem:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    t2s, s2a = parts.generators["t2s"], parts.generators["s2a"]
    assert isinstance(t2s, MaskGCTT2S)
    assert isinstance(s2a, MaskGCTS2A)
    assert parts.text is not None
    options = replaced(MaskGCTOptions(), parts.options, "the options of maskgct")
    return MaskGCTSystem(parts.codec, parts.text, t2s, s2a, options)


@dataclass(frozen=True)
class Sentence:
    """A checked request."""

    tokens: tuple[int, ...]
    """Of the prompt's text and the sentence."""
    prompt: Prompt | None
    frames: int


class SpeakTask:
    """Text to speech with its options bound."""

    def __init__(self, system: MaskGCTSystem, options: MaskGCTOptions) -> None:
        self._system, self._options = system, options
        self._prompt_codes = PromptCodes(system.codec)
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
        return Sentence(tuple(tokens), prompt, self._frames(request))

    @torch.no_grad()
    def run(self, prepared: Sequence[Sentence], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Speak prepared sentences together; the prompt is not part of the result."""
        system, options = self._system, self._options
        device, lengths = system.device, [sentence.frames for sentence in prepared]
        text_BL, text_mask_BL = _padded([torch.tensor(sentence.tokens) for sentence in prepared], device)
        prompt_BPQ, prompt_mask_BP = _padded([self._prompt(one.prompt) for one in prepared], device)
        conditions = Conditions(text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, lengths)
        draws = RowDraws([row_seeds(one, 1)[0] for one in generators], device)
        choice, guidance = options.choice(), options.guide()
        first = generate_t2s(system.t2s, conditions, options.t2s_steps, choice, guidance, draws)
        steps = options.steps_of(system.codec.n_codebooks)
        known_BT1 = first.codes_BTQ
        full = generate_s2a(system.s2a, conditions, known_BT1, steps, choice, guidance, draws)
        codes = Codes(full.codes_BTQ.transpose(1, 2), torch.tensor(lengths, device=device))
        evaluations = first.evaluations + full.evaluations
        return [Speech(wave, "length", evaluations) for wave in rows_of(system.codec.decode(codes))]

    def _tokens(self, request: SpeakRequest) -> list[int]:
        encode, prompt = self._system.front_end.encode, request.prompt
        if prompt is None:
            return encode(request.text, request.language, request.phones)
        if request.phones is not None:
            raise ValueError(
                "phones are given with a voice prompt, whose phones are not known; give the text alone"
            )
        return encode(f"{prompt.text} {request.text}", request.language or prompt.language)

    def _prompt(self, prompt: Prompt | None) -> Tensor:
        """Codes (P, Q); without a prompt none, or the published frame of padding."""
        codec = self._system.codec
        if prompt is not None:
            return self._prompt_codes(prompt).T
        frames = 1 if self._options.no_prompt == "pad_frame" else 0
        return torch.full((frames, codec.n_codebooks), codec.codebook_size)

    def _frames(self, request: SpeakRequest) -> int:
        """Frames to generate: the wanted ones, else as long a byte as in the prompt, else a constant a token."""
        codec, options, text, prompt = self._system.codec, self._options, request.text, request.prompt
        if request.duration_s is not None:
            frames = float(round(request.duration_s * codec.sample_rate / codec.hop_length))
        elif prompt is not None:
            prompt_frames = math.ceil(prompt_length(prompt, codec.sample_rate) / codec.hop_length)
            frames = prompt_frames / len((prompt.text or "").encode()) * len(text.encode()) / options.speed
        else:
            tokens = self._system.front_end.encode(text, request.language, request.phones)
            frames = len(tokens) * options.frames_per_token / options.speed
        if not 1 <= frames < options.max_frames + 1:
            raise ValueError(
                f"text {_start(text)!r} asks for {int(frames)} frames; allowed are 1 to {options.max_frames}"
            )
        return int(frames)


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def _padded(rows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (n, ...) of different n as (B, N, ...) and their mask (B, N)."""
    padded = pad_sequence([row.to(device) for row in rows], batch_first=True)
    return padded, length_mask(torch.tensor([len(row) for row in rows], device=device), padded.shape[1])
