"""Settings of `evaluate`, and the identity of its judges."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field

from models.semantic.speaker import RESEMBLYZER
from pipelines.execution.requests import RequestSettings
from pipelines.speech.transcription import check_model
from pipelines.speech.transcription.interface import TranscribeSettings

_WEIGHTS = ("*.bin", "*.safetensors", "*.json", "*.txt")
_SPEED_ONLY = ("model", "which", "batch_size")
"""Fields of TranscribeSettings that change no text, besides the model, which its files identify."""


class EvaluateSettings(RequestSettings):
    """As those of `synthesize`; `seed` is the first of `seeds` consecutive ones."""

    seeds: int = Field(
        3, ge=3, le=100, description="draws of each sentence, one a folder: seed-0, seed-1, ..."
    )
    transcribe: TranscribeSettings | None = Field(
        None, description="the recogniser; without transcribe.model there are no word errors"
    )
    speaker: str | None = Field(
        RESEMBLYZER,
        min_length=1,
        description="encoder of speaker vectors: resemblyzer, a directory, a hub id; null: none",
    )
    dnsmos: bool = True
    language: str = Field("en", min_length=1, description="ISO 639-1 code of rows that do not say theirs")
    resamples: int = Field(2000, ge=100, description="of sentences, for the 95 % intervals")

    @property
    def all_seeds(self) -> range:
        """`seed` and those after it."""
        return range(self.seed, self.seed + self.seeds)


@dataclasses.dataclass(frozen=True)
class Judges:
    """The judges that are there. Judgements of different judges do not stand in one table."""

    recogniser: dict[str, object] | None
    speaker: dict[str, object] | None
    dnsmos: dict[str, object] | None
    left_out: tuple[str, ...]
    """One line for each judge that is not there."""

    @property
    def recogniser_name(self) -> str | None:
        """Engine, model and the beginning of the digest of its files; None without a recogniser."""
        if self.recogniser is None:
            return None
        return f"{self.recogniser['name']} {str(self.recogniser['weights_sha256'])[:12]}".strip()

    @property
    def identity(self) -> dict[str, object]:
        """All that a judgement depends on besides the recordings and the text."""
        return {"recogniser": self.recogniser, "speaker": self.speaker, "dnsmos": self.dnsmos}


def judges_of(settings: EvaluateSettings) -> Judges:
    """Find the judges that the settings name, without loading any; one that is not installed is left out by name.

    UsageError for a recogniser's directory that lacks a file.
    """
    left_out: list[str] = []
    recogniser = None if settings.transcribe is None else _recogniser(settings.transcribe)
    if recogniser is None:
        left_out.append("word and character errors: no recogniser, give --set transcribe.model=DIRECTORY")
    speaker = _speaker(settings.speaker) if settings.speaker else None
    if speaker is None:
        why = f"{RESEMBLYZER} is not installed" if settings.speaker else "no speaker encoder is set"
        left_out.append(f"speaker similarity: {why}")
    dnsmos = _package("speechmos") if settings.dnsmos else None
    if dnsmos is None:
        left_out.append(f"DNSMOS: {'speechmos is not installed' if settings.dnsmos else 'it is off'}")
    return Judges(recogniser, speaker, dnsmos, tuple(left_out))


def _recogniser(settings: TranscribeSettings) -> dict[str, object]:
    check_model(settings)
    kept = {key: value for key, value in dataclasses.asdict(settings).items() if key not in _SPEED_ONLY}
    weights = _digest(Path(settings.model).expanduser())
    return {"name": settings.text_source, "weights_sha256": weights, "normalizer": "whisper"} | kept


def _speaker(model: str) -> dict[str, object] | None:
    if model == RESEMBLYZER:
        return _package(RESEMBLYZER)
    return {"name": Path(model).name, "weights_sha256": _digest(Path(model).expanduser())}


def _package(name: str) -> dict[str, object] | None:
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return {"name": name, "version": version(name)}
    except PackageNotFoundError:
        return {"name": name, "version": ""}


def _digest(folder: Path) -> str:
    """sha256 over names and contents of a model's files; "" for one that a hub has."""
    if not folder.is_dir():
        return ""
    hashed = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            hashed.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return hashed.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
