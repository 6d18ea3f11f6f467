"""VALL-E's system: text and a voice prompt -> the first level until it stops -> the other levels -> waveform.

After e-c-k-e-r/vall-e (2023-08). Differences: keys and values are kept; rows have their own lengths, prompts and
random streams, and say why they end.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes, Wave
from models.layers.masks import pad_rows
from models.manifest import Parts
from models.prompt import PerPrompt, Prompt, check_prompt, prompt_codes
from models.sampling.autoregressive import Continuation
from models.sampling.draws import RowDraws, row_seeds
from models.settings import replaced
from models.system import Capability, SpeakRequest, Speech, System, rows_of
from models.text.front_ends import TextFrontEnd
from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR
from models.valle.options import ValleOptions
from models.valle.sampling import Conditions, generate_first_level, generate_other_levels


class ValleSystem(System):
    """Text, with or without a voice prompt, to speech."""

    name = "valle"
    capabilities: frozenset[Capability] = frozenset({"speak"})

    def __init__(
        self,
        codec: Codec,
        front_end: TextFrontEnd,
        ar: ValleAR,
        nar: ValleNAR | None,
        options: ValleOptions,
    ) -> None:
        """ValueError for parts that do not fit together. Without `nar` the first level is all that is heard."""
        self.codec, self.front_end, self.options = codec, front_end, options
        self.ar, self.nar = ar.eval(), None if nar is None else nar.eval()
        self.device = ar.separator_D.device
        for role, network in {"ar": ar, "nar": nar}.items():
            if network is not None:
                self._check(role, network)
        if nar is not None and nar.config.n_codebooks > codec.n_codebooks:
            raise ValueError(f"nar has {nar.config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")

    def speak(self, options: Mapping[str, Json]) -> SpeakTask:
        """Text to speech with `options` in place of the system's own; ValueError for one that it does not have."""
        return SpeakTask(self, replaced(self.options, options, "the options of valle"))

    def _check(self, role: str, network: ValleAR | ValleNAR) -> None:
        config, codec, front_end = network.config, self.codec, self.front_end
        if config.codebook_size != codec.codebook_size:
            raise ValueError(
                f"{role} has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
            )
        # Published text tables have as many rows as a codebook.
        if config.text_vocab_size < front_end.vocab_size:
            raise ValueError(
                f"{role} has a text table of {config.text_vocab_size} rows; "
                f"the text front end needs {front_end.vocab_size}"
            )


def build(parts: Parts) -> ValleSystem:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    ar, nar = parts.generators["ar"], parts.generators.get("nar")
    assert isinstance(ar, ValleAR)
    assert nar is None or isinstance(nar, ValleNAR)
    assert parts.text is not None
    options = replaced(ValleOptions(), parts.options, "the options of valle")
    return ValleSystem(parts.codec, parts.text, ar, nar, options)


@dataclass(frozen=True)
class PreparedSpeech:
    """A checked request."""

    tokens: tuple[int, ...]
    first_level_tokens: tuple[int, ...]
    """What the first network reads: the same, or with the prompt's text before it."""
    max_frames: int
    prompt: Prompt | None


class SpeakTask:
    """Text to speech with its options bound."""

    def __init__(self, system: ValleSystem, options: ValleOptions) -> None:
        self._system, self._options = system, options
        self._prompt_codes = PerPrompt(lambda prompt: prompt_codes(prompt, system.codec).T)
        self._frame_rate = system.codec.identity.frame_rate
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def prepare(self, request: SpeakRequest) -> PreparedSpeech:
        """Tokenise and bound the length. ValueError with one line for a request that cannot be spoken."""
        options, prompt = self._options, request.prompt
        if not request.text.strip():
            raise ValueError("text is empty; there is nothing to speak")
        if prompt is not None:
            check_prompt(prompt, options.max_prompt_s, needs_text=options.prompt_use == "continue")
        elif options.prompts == "required":
            raise ValueError("there is no prompt; a recording of the voice is required (prompts)")
        tokens = self._system.front_end.encode(request.text, request.language, request.phones)
        first = self._with_prompt_text(request) if options.prompt_use == "continue" and prompt else tokens
        if len(first) > options.max_text_tokens:
            raise ValueError(
                f"text {_start(request.text)!r} has {len(first)} tokens; "
                f"the most is {options.max_text_tokens} (max_text_tokens)"
            )
        return PreparedSpeech(tuple(tokens), tuple(first), self._max_frames(request, len(tokens)), prompt)

    @torch.no_grad()
    def run(self, prepared: Sequence[PreparedSpeech], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Speak prepared sentences together; the prompt is not part of the result."""
        system = self._system
        nothing = torch.zeros(0, system.codec.n_codebooks, dtype=torch.int64, device=system.device)
        prompts = [
            nothing if one.prompt is None else self._prompt_codes(one.prompt).to(system.device)
            for one in prepared
        ]
        draws = RowDraws([row_seeds(one, 1)[0] for one in generators], system.device)
        first = self._first_level(prepared, prompts, draws)
        codes_BTQ, lengths_B, levels = self._other_levels(
            prepared, prompts, [one.tokens_N for one in first], draws
        )
        wave = system.codec.decode(Codes(codes_BTQ.transpose(1, 2), lengths_B))
        return [
            Speech(_without_padding(row, len(one.tokens_N)), one.finish_reason, one.evaluations + levels)
            for row, one in zip(rows_of(wave), first, strict=True)
        ]

    def _first_level(
        self, prepared: Sequence[PreparedSpeech], prompts: Sequence[Tensor], draws: RowDraws
    ) -> list[Continuation]:
        ar, maximum = self._system.ar, [one.max_frames for one in prepared]
        given = self._conditions(
            [one.first_level_tokens for one in prepared], prompts, ar.config.prompt_levels
        )
        search = self._options.search(ar.config.codebook_size, maximum, self._frame_rate, draws)
        before_BT, mask_BT = None, None
        if self._options.prompt_use == "continue":
            before_BT, mask_BT = pad_rows([prompt_PQ[:, 0] for prompt_PQ in prompts])
        return generate_first_level(
            ar, given, search, max(maximum), before_BT, mask_BT, run=self._options.step
        )

    def _other_levels(
        self,
        prepared: Sequence[PreparedSpeech],
        prompts: Sequence[Tensor],
        known: Sequence[Tensor],
        draws: RowDraws,
    ) -> tuple[Tensor, Tensor, int]:
        """Codes (B, T, Q), frames (B,) of at least 1, and the passes that it took."""
        nar = self._system.nar
        one_more = [row if len(row) else row.new_zeros(1) for row in known]
        known_BT, mask_BT = pad_rows(one_more)
        lengths_B = mask_BT.sum(1)
        if nar is None:
            return known_BT[..., None], lengths_B, 0
        given = self._conditions([one.tokens for one in prepared], prompts, nar.config.prompt_levels)
        codes_BTQ = generate_other_levels(
            nar, given, known_BT[..., None], lengths_B.tolist(), self._options.levels(), draws
        )
        return codes_BTQ, lengths_B, nar.config.n_codebooks - 1

    def _conditions(
        self, texts: Sequence[Sequence[int]], prompts: Sequence[Tensor], prompt_levels: int
    ) -> Conditions:
        text_BL, text_mask_BL = pad_rows(
            [torch.tensor(tokens, dtype=torch.int64, device=self._system.device) for tokens in texts]
        )
        prompt_BPQ, prompt_mask_BP = pad_rows([prompt_PQ[:, :prompt_levels] for prompt_PQ in prompts])
        return Conditions(text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP)

    def _with_prompt_text(self, request: SpeakRequest) -> list[int]:
        assert request.prompt is not None
        if request.phones is not None:
            raise ValueError(
                "phones are given with a voice prompt to continue, whose phones are not known; give the text alone"
            )
        language = request.language or request.prompt.language
        if request.prompt.language and language != request.prompt.language:
            raise ValueError(
                f"the prompt is in {request.prompt.language!r} and the text in {language!r}; "
                "only a prompt of the same language can be continued"
            )
        return self._system.front_end.encode(f"{request.prompt.text} {request.text}", language)

    def _max_frames(self, request: SpeakRequest, n_tokens: int) -> int:
        """The most frames: those of the given length, else by the text."""
        options = self._options
        if request.duration_s is None:
            return options.frames(n_tokens)
        frames = round(request.duration_s * self._frame_rate)
        if not 1 <= frames <= options.max_ar_steps:
            raise ValueError(
                f"duration_s is {request.duration_s:g}, which is {frames} frames; "
                f"allowed are 1 to {options.max_ar_steps} (max_ar_steps)"
            )
        return frames


def _without_padding(wave: Wave, frames: int) -> Wave:
    """Nothing where the network stopped at once."""
    return wave if frames else Wave(wave.wave_BT[:, :0], torch.zeros_like(wave.lengths_B), wave.sample_rate)


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
