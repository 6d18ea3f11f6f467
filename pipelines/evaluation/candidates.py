"""Sentences spoken several times, of which the judges keep the best: the worker of `synthesize` with `candidates`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from catalog.command import UsageError
from catalog.files import write_bytes
from models.semantic.speaker import RESEMBLYZER
from pipelines.evaluation.judge import Judge
from pipelines.evaluation.settings import EvaluateSettings, Judges, judges_of
from pipelines.execution.requests import RequestSettings
from pipelines.rows import Row
from pipelines.speech.transcription.interface import TranscribeSettings
from pipelines.stages.speak import Speak
from pipelines.stages.system import row_seed, write

if TYPE_CHECKING:
    from models.checkpoints import Json

Scorer = Literal["words", "characters", "dnsmos", "speaker"]
NOTED = ("candidate", "candidates", "score")


class SynthesizeSettings(RequestSettings):
    """Settings of `synthesize`; the judges are those of `evaluate`."""

    candidates: int = Field(
        1, ge=1, le=64, description="times that each sentence is spoken; the best is kept"
    )
    scorer: tuple[Scorer, ...] = Field(
        (),
        description="what is best: words, characters (fewest errors), dnsmos, speaker (likeness to the prompt); "
        "a later one decides between equals",
    )
    transcribe: TranscribeSettings | None = Field(None, description="the recogniser of words and characters")
    speaker: str = Field(
        RESEMBLYZER, min_length=1, description="encoder of speaker vectors, as of `evaluate`"
    )
    language: str = Field("en", min_length=1, description="ISO 639-1 code of rows that do not say theirs")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The way to find the best of several candidates; see SynthesizeSettings."""

    candidates: int
    scorer: tuple[Scorer, ...]
    settings: EvaluateSettings
    judges: Judges

    @property
    def identity(self) -> Mapping[str, object]:
        """All that decides which one is kept."""
        return {"candidates": self.candidates, "scorer": self.scorer, "judges": self.judges.identity}


def choice_of(settings: SynthesizeSettings) -> Choice | None:
    """The choice that settings mean, None for one candidate. UsageError without a scorer, or where its judge is not."""
    if settings.candidates == 1:
        return None
    if not settings.scorer:
        raise UsageError(
            f"candidates is {settings.candidates}: scorer must say which one is kept, for example scorer=[characters]"
        )
    hears = {"words", "characters"} & set(settings.scorer)
    if hears and (settings.transcribe is None or not settings.transcribe.model):
        raise UsageError(f"scorer {min(hears)} needs a recogniser: give --set transcribe.model=DIRECTORY")
    judging = EvaluateSettings.model_validate(
        {
            "transcribe": settings.transcribe if hears else None,
            "speaker": settings.speaker if "speaker" in settings.scorer else None,
            "dnsmos": "dnsmos" in settings.scorer,
            "language": settings.language,
        }
    )
    judges = judges_of(judging)
    there = {"dnsmos": judges.dnsmos, "speaker": judges.speaker}
    for name in settings.scorer:
        if name in there and there[name] is None:
            package = "speechmos" if name == "dnsmos" else settings.speaker
            raise UsageError(f"scorer {name}: {package} is not installed")
    return Choice(settings.candidates, settings.scorer, judging, judges)


class SpeakBest(Speak):
    """Speaks each row several times, every time with a seed of its own, and writes the best.

    The first candidate is what the row is with one candidate. Of equals the first is kept; one that cannot be judged is
    kept only if none can.
    """

    def __init__(
        self,
        model: str,
        device: str,
        seed: int,
        options: Mapping[str, Json],
        choice: Choice,
        judge: Callable[[Sequence[Row]], list[Row]] | None = None,
    ) -> None:
        """`judge` stands in for that of `choice`."""
        super().__init__(model, device, seed, options)
        self._choice = choice
        self._judge = judge or Judge(choice.settings, choice.judges, device).judge

    def answers(self, ready: Sequence[tuple[Row, object]]) -> list[Row]:
        """See SystemStage."""
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder) / str(number) for number in range(len(ready))]
            made = [self._spoken(ready, places, number) for number in range(self._choice.candidates)]
            found = []
            for (row, _), place, rows in zip(ready, places, zip(*made, strict=True), strict=True):
                number, score = self._best(row, [Path(one["output"]) for one in rows])
                found.append(_kept(rows[number], place, Path(row["output"])) | self._note(number, score))
            return found

    def _spoken(self, ready: Sequence[tuple[Row, object]], places: Sequence[Path], number: int) -> list[Row]:
        """One candidate of every row, written into the row's place."""
        seeds = [row_seed(self.seed, f"{row['id']}#{number}" if number else row["id"]) for row, _ in ready]
        spoken = self.run(ready, [torch.Generator().manual_seed(seed) for seed in seeds])
        for place in places:
            place.mkdir(exist_ok=True)
        return [write(place / f"{number}.wav", one) for place, one in zip(places, spoken, strict=True)]

    def _best(self, row: Row, waves: Sequence[Path]) -> tuple[int, Row | None]:
        """Number and score of the candidate that is kept."""
        about = {
            "text": row["text"],
            "language": row["language"] or self._choice.settings.language,
            "prompt": row["prompt"],
            "reference": None,
        }
        judged = self._judge([about | {"id": str(n), "wave": str(wave)} for n, wave in enumerate(waves)])
        scores = [score_of(figures, self._choice.scorer) for figures in judged]
        known = [(rank(score), number) for number, score in enumerate(scores) if score is not None]
        number = min(known)[1] if known else 0
        return number, scores[number]

    def _note(self, number: int, score: Row | None) -> Row:
        return {"candidate": number, "candidates": self._choice.candidates, "score": json.dumps(score)}


def score_of(figures: Row, scorer: Sequence[Scorer]) -> Row | None:
    """The scores of a judged candidate, by name; None for one that lacks a judgement. Errors are rates."""
    if figures.get("reason"):
        return None
    score: Row = {}
    for name in scorer:
        if name in ("words", "characters"):
            edits = figures[name]
            errors = edits["substitutions"] + edits["deletions"] + edits["insertions"]
            score[name] = errors / max(1, edits["length"])
        else:
            score[name] = figures.get("speaker_similarity" if name == "speaker" else name)
        if score[name] is None:
            return None
    return score


def rank(score: Row) -> tuple[float, ...]:
    """Orders scores, the best first."""
    return tuple(value if name in ("words", "characters") else -value for name, value in score.items())


def _kept(row: Row, place: Path, output: Path) -> Row:
    """Put the WAV file of a candidate where it belongs, and drop all candidates."""
    write_bytes(output, Path(row["output"]).read_bytes())
    shutil.rmtree(place)
    return row | {"output": str(output)}
