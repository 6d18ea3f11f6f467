"""MaskGCT without semantic tokens: text -> codebook 0 -> all codebooks -> waveform.

After choiHkk/maskgct@6048485. Differences: rows have their own lengths, prompts and random streams; a row without a
voice prompt has no prompt at all (`no_prompt: pad_frame` gives it the reference's one frame of padding).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes
from models.manifest import Parts
from models.maskgct.options import PRESETS, MaskGCTOptions
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.sampling import generate_s2a
from models.maskgct.stages import Sentence, TextStage
from models.maskgct.t2s import MaskGCTT2S
from models.prompt import PerPrompt, Prompt, prompt_codes
from models.sampling.draws import RowDraws, row_seeds
from models.settings import replaced, with_preset
from models.system import Capability, SpeakRequest, Speech, System, refuse_source, rows_of
from models.text.front_ends import TextFrontEnd


class MaskGCTSystem(System):
    """Text, with or without a voice prompt, to speech."""

    name = "maskgct"
    capabilities: frozenset[Capability] = frozenset({"speak"})

    def __init__(
        self, codec: Codec, front_end: TextFrontEnd, t2s: MaskGCTT2S, s2a: MaskGCTS2A, options: MaskGCTOptions
    ) -> None:
        """ValueError for parts that do not fit together."""
        self.codec, self.front_end, self.options = codec, front_end, options
        self.t2s, self.s2a = t2s.eval(), s2a.eval()
        self.speak({})
        config = s2a.config
        if config.codebook_size != codec.codebook_size:
            raise ValueError(
                f"s2a has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
            )
        if config.text_vocab_size < front_end.vocab_size:
            raise ValueError(
                f"s2a has a text table of {config.text_vocab_size} rows; "
                f"the text front end needs {front_end.vocab_size}"
            )
        if config.n_codebooks != codec.n_codebooks:
            raise ValueError(f"s2a has {config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")

    def speak(self, options: Mapping[str, Json]) -> SpeakTask:
        """Text to speech with `options` in place of the system's own; ValueError for one that it does not have."""
        return SpeakTask(self, _replaced(self.options, options))


def build(parts: Parts) -> MaskGCTSystem:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    t2s, s2a = parts.generators["t2s"], parts.generators["s2a"]
    assert isinstance(t2s, MaskGCTT2S)
    assert isinstance(s2a, MaskGCTS2A)
    assert parts.text is not None
    options = _replaced(MaskGCTOptions(), parts.options)
    return MaskGCTSystem(parts.codec, parts.text, t2s, s2a, options)


def _replaced(base: MaskGCTOptions, options: Mapping[str, Json]) -> MaskGCTOptions:
    what = "the options of maskgct"
    return replaced(base, with_preset(PRESETS, options, what), what)


@dataclass(frozen=True)
class PreparedSpeech:
    """A checked request."""

    sentence: Sentence
    prompt: Prompt | None


class SpeakTask:
    """Text to speech with its options bound."""

    def __init__(self, system: MaskGCTSystem, options: MaskGCTOptions) -> None:
        self._system, self._options = system, options
        self._text = TextStage(system.t2s, system.front_end, system.codec.identity, options)
        self._prompt_codes = PerPrompt(lambda prompt: prompt_codes(prompt, system.codec).T)
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def prepare(self, request: SpeakRequest) -> PreparedSpeech:
        """Tokenise and decide the length. ValueError with one line for a request that cannot be spoken."""
        refuse_source(request, "maskgct")
        return PreparedSpeech(self._text.prepare(request), request.prompt)

    @torch.no_grad()
    def run(self, prepared: Sequence[PreparedSpeech], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Speak prepared sentences together; the prompt is not part of the result."""
        system, options, device = self._system, self._options, self._text.device
        prompts = [None if one.prompt is None else self._prompt_codes(one.prompt) for one in prepared]
        conditions = self._text.conditions([one.sentence for one in prepared], prompts)
        draws = RowDraws([row_seeds(one, 1)[0] for one in generators], device)
        first = self._text.generate(conditions, draws)
        steps = options.steps_of(system.codec.n_codebooks)
        choice, guidance = options.choice(), options.guide_s2a()
        full = generate_s2a(system.s2a, conditions, first.codes_BTQ, steps, choice, guidance, draws)
        lengths_B = torch.tensor(list(conditions.lengths), device=device)
        wave = system.codec.decode(Codes(full.codes_BTQ.transpose(1, 2), lengths_B))
        evaluations = first.evaluations + full.evaluations
        return [Speech(row, "length", evaluations) for row in rows_of(wave)]
