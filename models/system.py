"""Systems: parts that speak, convert voices or encode together, as tasks whose options are bound.

A task is made once (`system.speak(options)`), prepares each request without running a network (`prepare` refuses in
one line) and runs prepared requests in batches. No result for a row depends on the other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch

from models.checkpoints import Json
from models.codecs.interface import Codec, Wave
from models.prompt import Prompt

Capability = Literal["speak", "convert", "encode"]
Request = TypeVar("Request", contravariant=True)
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SpeakRequest:
    """A sentence to speak."""

    text: str
    language: str | None = None
    phones: tuple[str, ...] | None = None
    """Given phones instead of those of the text."""
    prompt: Prompt | None = None
    duration_s: float | None = None
    """None: the system's rule."""
    source: Wave | None = None
    """The recording that a speech task works on (`models.tasks`), for systems that have such tasks."""
    edit_s: tuple[float, float] | None = None
    """The part of `source`, in seconds, that is to be said anew."""


def refuse_source(request: SpeakRequest, name: str) -> None:
    """ValueError for a request that names a source: the system `name` has no speech tasks, and would speak as usual."""
    if request.source is not None or request.edit_s is not None:
        given = "source" if request.source is not None else "edit_s"
        raise ValueError(f"{given} is given, but {name} has no speech tasks; it speaks text")


@dataclass(frozen=True)
class ConvertRequest:
    """A recording whose content is to be said in the voice of `reference`."""

    source: Wave
    reference: Prompt


@dataclass(frozen=True)
class Speech:
    """One row of speech."""

    wave: Wave
    finish_reason: Literal["length", "stop", "loop"]
    """`length`: the requested length, or the maximum; `stop`: the model ended; `loop`: cut, it repeated itself."""
    evaluations: int
    """Forward passes of the networks for this row's batch."""


class Task(Protocol[Request, Prepared, Result]):
    """One capability of a system with its options bound."""

    options: Mapping[str, Json]
    """Complete, defaults included."""

    def prepare(self, request: Request) -> Prepared:
        """Check a request and do what needs no network. ValueError with one line if it cannot be done."""

    def run(self, prepared: Sequence[Prepared], generators: Sequence[torch.Generator]) -> list[Result]:
        """One result for each prepared request; `generators` has one for each, and no other randomness is used."""


class System:
    """Parts that work together. A subclass offers what it can; the rest is refused with one line."""

    name: str
    """The system kind, e.g. `maskgct`."""
    codec: Codec
    """Makes the waveform."""
    capabilities: frozenset[Capability] = frozenset()

    @property
    def sample_rate(self) -> int:
        """Of the speech it makes, Hz."""
        return self.codec.sample_rate

    def speak(self, options: Mapping[str, Json]) -> Task[SpeakRequest, Any, Speech]:
        """Text to speech. ValueError for an option that it does not have or a system that cannot speak."""
        raise ValueError(self._cannot("speak", options))

    def convert(self, options: Mapping[str, Json]) -> Task[ConvertRequest, Any, Speech]:
        """Voice conversion. ValueError as `speak`."""
        raise ValueError(self._cannot("convert", options))

    def encode(self, options: Mapping[str, Json]) -> Task[Wave, Any, Any]:
        """Waveform to latents. ValueError as `speak`."""
        raise ValueError(self._cannot("encode", options))

    def synthesize(
        self,
        texts: Sequence[str],
        prompts: Sequence[Prompt | None] | None = None,
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        target_lengths: Sequence[int | None] | None = None,
        **options: Json,
    ) -> list[Wave]:
        """Speak `texts`, each in the voice of its prompt if it has one: `speak` in one call.

        `generator` is one for all rows (each takes one seed from it) or one per row. `target_lengths` are frames of the
        codec; None follows the system's rule. ValueError for a row that cannot be spoken. Returns one Wave of one row
        for each text, the prompt not included.
        """
        task = self.speak(options)
        frame_s = 1 / self.codec.identity.frame_rate
        given = list(prompts) if prompts is not None else [None] * len(texts)
        wanted = list(target_lengths) if target_lengths is not None else [None] * len(texts)
        prepared = [
            task.prepare(
                SpeakRequest(text, prompt=prompt, duration_s=None if frames is None else frames * frame_s)
            )
            for text, prompt, frames in zip(texts, given, wanted, strict=True)
        ]
        generators = [generator] * len(texts) if isinstance(generator, torch.Generator) else list(generator)
        if len(generators) != len(texts):
            raise ValueError(
                f"{len(generators)} generators for {len(texts)} texts; give one, or one per text"
            )
        return [speech.wave for speech in task.run(prepared, generators)]

    def _cannot(self, what: Capability, options: Mapping[str, Json]) -> str:  # noqa: ARG002
        can = ", ".join(sorted(self.capabilities)) or "nothing"
        return f"{self.name} cannot {what}; it can {can}"


def rows_of(wave: Wave) -> list[Wave]:
    """A batch of waveforms as one Wave a row, without padding, on the CPU."""
    return [
        Wave(
            wave.wave_BT[row : row + 1, : int(samples)].cpu(),
            wave.lengths_B[row : row + 1].cpu(),
            wave.sample_rate,
        )
        for row, samples in enumerate(wave.lengths_B)
    ]
