"""Systems of two stages: text becomes content tokens, content tokens become speech in the voice of a reference.

The first stage is optional: without it the content tokens come from a recording, which is voice conversion. Families
meet here without importing each other: a family offers stages, a system kind puts them together, and stages whose
tokens differ are refused when the system is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from models.checkpoints import Json
from models.codecs.interface import Codec, Wave
from models.identity import TokenIdentity
from models.prompt import PerPrompt, Prompt, check_prompt, prompt_samples
from models.sampling.draws import RowDraws, row_seeds
from models.settings import with_preset
from models.system import Capability, ConvertRequest, SpeakRequest, Speech, System, refuse_source, rows_of

Planned = TypeVar("Planned")
Voice = TypeVar("Voice")


@dataclass(frozen=True)
class Made:
    """Sequences of one stage, one per row, and the passes through networks that they took."""

    tokens: list[Tensor]
    """Each (T,) int64."""
    evaluations: int


class TextToTokens(Protocol[Planned]):
    """Text to content tokens, with its options bound."""

    writes: TokenIdentity
    options: Mapping[str, Json]

    def prepare(self, request: SpeakRequest) -> Planned:
        """Check a request and decide its length, without a network. ValueError with one line."""

    def run(self, planned: Sequence[Planned], prompts: Sequence[Tensor | None], draws: RowDraws) -> Made:
        """Content tokens of each row; `prompts` are the content tokens (P,) of the voice prompts."""


class TokensToSpeech(Protocol[Voice]):
    """Content tokens and a voice to speech, with its options bound."""

    reads: TokenIdentity
    options: Mapping[str, Json]
    sample_rate: int
    """Of the recordings that `content` and `voice` take, Hz."""
    device: torch.device
    max_prompt_s: float
    max_source_s: float
    """The longest recording that is converted at once; `models.windows` takes longer ones."""

    def content(self, wave_T: Tensor) -> Tensor:
        """Content tokens (T,) int64 of a recording, float32 samples at `sample_rate`."""

    def voice(self, wave_T: Tensor) -> Voice:
        """All that is needed of a reference recording, encoded once."""

    def content_of(self, voice: Voice) -> Tensor:
        """The content tokens (P,) of the reference."""

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """A batch of waveforms, and the passes through networks."""


TextStage: TypeAlias = Callable[[TokenIdentity, Mapping[str, Json]], TextToTokens[Planned]]
"""(tokens that are wanted, options) -> the stage. ValueError if it writes other tokens or has no such option."""
Presets: TypeAlias = Mapping[str, Mapping[str, Json]]
"""Sets of options by name."""
SpeechStage: TypeAlias = Callable[[Mapping[str, Json]], TokensToSpeech[Voice]]
"""Options -> the stage. ValueError for an option that it does not have."""


class Cascade(System, Generic[Planned, Voice]):
    """A speech stage, and before it a text stage if there is one.

    Options are those of the speech stage; those of the text stage stand under `text`. `preset` names a set of both.
    """

    def __init__(
        self,
        name: str,
        codec: Codec,
        speech: SpeechStage[Voice],
        text: TextStage[Planned] | None = None,
        options: Mapping[str, Json] | None = None,
        presets: Presets | None = None,
    ) -> None:
        """`options` are the system's own defaults, `presets` further sets of options by name.

        What a preset says of a text stage holds where there is one. ValueError for stages or options that do not fit.
        """
        self.name, self.codec = name, codec
        self._speech, self._text = speech, text
        self._presets = presets or {}
        if text is None:
            self._presets = {name: without(one, "text") for name, one in self._presets.items()}
        self._options = dict(options or {})
        can: tuple[Capability, ...] = ("convert",) if text is None else ("convert", "speak")
        self.capabilities = frozenset(can)
        if text is not None:
            self.speak({})
        self.convert({})

    def speak(self, options: Mapping[str, Json]) -> SpeakTask[Planned, Voice]:
        """See System. Without a text stage it is refused."""
        if self._text is None:
            raise ValueError(self._cannot("speak", options))
        speech, text = self._stages(options)
        assert text is not None
        return SpeakTask(speech, text)

    def convert(self, options: Mapping[str, Json]) -> ConvertTask[Voice]:
        """See System."""
        return ConvertTask(self._stages(options)[0])

    def _stages(
        self, options: Mapping[str, Json]
    ) -> tuple[TokensToSpeech[Voice], TextToTokens[Planned] | None]:
        base = without(self._options, "preset") if "preset" in options else self._options
        what = f"the options of {self.name}"
        base, options = (with_preset(self._presets, given, what) for given in (base, options))
        own, others = base.get("text", {}), options.get("text", {})
        speech = self._speech(without({**base, **options}, "text"))
        if self._text is None:
            if others:
                raise ValueError(f"{self.name} has no text stage; it takes no options under 'text'")
            return speech, None
        if not isinstance(own, Mapping) or not isinstance(others, Mapping):
            raise ValueError(f"the option 'text' of {self.name} must hold the options of its text stage")
        text = self._text(speech.reads, {**own, **others})
        if text.writes != speech.reads:
            raise ValueError(
                f"the text stage writes tokens of {text.writes.source}, "
                f"the speech stage of {self.name} reads those of {speech.reads.source}"
            )
        return speech, text


def without(options: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """`options` but for one."""
    return {key: value for key, value in options.items() if key != name}


@dataclass(frozen=True)
class PlannedSpeech(Generic[Planned]):
    """A checked request to speak."""

    text: Planned
    prompt: Prompt | None


class SpeakTask(Generic[Planned, Voice]):
    """Text to speech through both stages."""

    def __init__(self, speech: TokensToSpeech[Voice], text: TextToTokens[Planned]) -> None:
        self._speech, self._text, self._voices = speech, text, _voices(speech)
        self.options: Mapping[str, Json] = {**speech.options, "text": dict(text.options)}

    def prepare(self, request: SpeakRequest) -> PlannedSpeech[Planned]:
        """See Task."""
        refuse_source(request, "the system")
        return PlannedSpeech(self._text.prepare(request), request.prompt)

    @torch.no_grad()
    def run(
        self, prepared: Sequence[PlannedSpeech[Planned]], generators: Sequence[torch.Generator]
    ) -> list[Speech]:
        """See Task."""
        voices = [None if one.prompt is None else self._voices(one.prompt) for one in prepared]
        contents = [None if voice is None else self._speech.content_of(voice) for voice in voices]
        draws = _draws(generators, self._speech)
        made = self._text.run([one.text for one in prepared], contents, draws)
        wave, evaluations = self._speech.run(made.tokens, voices, draws)
        return [Speech(row, "length", made.evaluations + evaluations) for row in rows_of(wave)]


@dataclass(frozen=True)
class PlannedConversion:
    """A checked request to convert."""

    source_T: Tensor
    """At the speech stage's rate."""
    reference: Prompt


class ConvertTask(Generic[Voice]):
    """Voice conversion: the content tokens of one recording in the voice of another."""

    def __init__(self, speech: TokensToSpeech[Voice]) -> None:
        self._speech, self._voices = speech, _voices(speech)
        self.options: Mapping[str, Json] = dict(speech.options)

    def prepare(self, request: ConvertRequest) -> PlannedConversion:
        """See Task."""
        check_prompt(request.reference, self._speech.max_prompt_s, needs_text=False, what="reference")
        longest_s, source = self._speech.max_source_s, Prompt(request.source)
        check_prompt(source, longest_s, needs_text=False, what="source", option="max_source_s")
        return PlannedConversion(prompt_samples(source, self._speech.sample_rate), request.reference)

    @torch.no_grad()
    def run(
        self, prepared: Sequence[PlannedConversion], generators: Sequence[torch.Generator]
    ) -> list[Speech]:
        """See Task."""
        voices = [self._voices(one.reference) for one in prepared]
        tokens = [self._speech.content(one.source_T) for one in prepared]
        wave, evaluations = self._speech.run(tokens, voices, _draws(generators, self._speech))
        # A partial last frame becomes a whole one; the source's own length is kept.
        lengths = [len(one.source_T) * wave.sample_rate // self._speech.sample_rate for one in prepared]
        lengths_B = torch.minimum(torch.tensor(lengths), wave.lengths_B.cpu())
        cut = Wave(wave.wave_BT.cpu(), lengths_B, wave.sample_rate)
        return [Speech(row, "length", evaluations) for row in rows_of(cut)]


def _voices(speech: TokensToSpeech[Voice]) -> PerPrompt[Voice]:
    return PerPrompt(lambda prompt: speech.voice(prompt_samples(prompt, speech.sample_rate)))


def _draws(generators: Sequence[torch.Generator], speech: TokensToSpeech[Voice]) -> RowDraws:
    return RowDraws([row_seeds(one, 1)[0] for one in generators], speech.device)
