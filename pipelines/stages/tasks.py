"""Rows for speech tasks (`models.tasks`), made from the waveforms of utterances before the codec.

What is mixed into an utterance comes from folders of recordings, never from other rows: a row follows from its id, the
seed and those folders alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pyarrow as pa

from catalog.reasons import Reason
from models.identity import TokenIdentity
from models.tasks import EDITING, TaskName
from pipelines.audio.containers import AudioError, Samples
from pipelines.audio.decode import decode
from pipelines.rows import EDIT, PROMPT_SAMPLES, Part, Row, explode, reject, samples_array, waves, with_column
from pipelines.sources.attributes import AUDIO
from pipelines.speech.mixtures import mixed, other_voice, segment_of, without_part
from pipelines.stages.write import split_of

_NOISY = ("ns", "sr", "nse")
_LEAST_EDIT_S = 1.0


@dataclass(frozen=True)
class TaskSettings:
    """Further rows for speech tasks, of the split `derived`: one per task and utterance that is trained on."""

    names: tuple[TaskName, ...]
    noise: str = ""
    """Folder of recordings of noise, for ns, sr and nse."""
    voices: str = ""
    """Folder of recordings of other voices, for tse. A recording in a folder with the speaker's name is not his."""
    share: float = 1.0
    """Of the utterances that a task is made of."""
    noise_db: tuple[float, float] = (0.0, 20.0)
    """How much louder than the noise the speech is: least and most."""
    voice_db: tuple[float, float] = (2.5, 6.0)
    """The same over the other voice; the published way scales that by 0.5 to 0.75."""
    edit_share: tuple[float, float] = (0.1, 0.7)
    """Of the utterance that is to be said anew: least and most."""
    drop_context: float = 0.125
    """Share of the edits without what stands before, and as many without what stands behind."""
    semitones: tuple[float, float] = (2.0, 6.0)
    """How far, up or down, the voice is moved that svc brings back: least and most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in get_args(TaskName):
                raise ValueError(f"names holds {name!r}; known: {', '.join(get_args(TaskName))}")
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names is {list(self.names)}; it must name at least one task, each once")
        for folder, tasks in (("noise", _NOISY), ("voices", ("tse",))):
            needing = [name for name in self.names if name in tasks]
            if needing and not getattr(self, folder):
                raise ValueError(f"task {needing[0]} needs {folder}: a folder of recordings")
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name in ("share", "drop_context"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        for name in ("noise_db", "voice_db", "edit_share", "semitones"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is {[least, most]}; the least must not be above the most")
        if not 0 < self.edit_share[0] <= self.edit_share[1] <= 1:
            raise ValueError(f"edit_share is {list(self.edit_share)}; it must be above 0 and at most 1")


class _Made(NamedTuple):
    """A task's row: what is to be said, and the recording that it is made from."""

    target: Samples
    prompt: Samples
    edit: tuple[int, int] | None = None


class TasksStage:
    """Each accepted row of the split train -> the row, and a row `<id>#<task>` for each task, right behind it.

    Such a row has the recording, speaker and text of its utterance, `task`, the split `derived`, and in flight
    `prompt_samples` and `edit_frames`, of which the codec makes `prompt_codes`. Utterances under a second are not
    edited. A recording of a folder that cannot be decoded rejects the row that was to hear it.
    """

    def __init__(self, settings: TaskSettings, codec: TokenIdentity, validation: float, seed: int) -> None:
        """`validation` and `seed` decide the split of recordings whose source does not. ValueError for a folder
        without recordings."""
        edits = [name for name in settings.names if name in EDITING]
        if edits and codec.chunk_frames:
            raise ValueError(f"task {edits[0]}: {codec.name} codes overlapping chunks, which are not edited")
        self._settings, self._rate, self._hop = settings, codec.sample_rate, codec.hop_length
        self._validation, self._seed = validation, seed
        self._noise, self._voices = (
            recordings(Path(folder)) if folder else [] for folder in (settings.noise, settings.voices)
        )
        self._decoded = lru_cache(maxsize=64)(lambda path: decode(path, self._rate).samples)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rejected rows, those of other splits, and noisy copies get none."""
        if "task" not in table.column_names:
            table = with_column(table, "task", pa.nulls(len(table)))
        parts: list[Part] = []
        made: list[_Made | None] = []
        verdicts: dict[int, tuple[str, str]] = {}
        for row, (utterance, wave) in enumerate(zip(_utterances(table), waves(table), strict=True)):
            parts.append(Part(row, wave))
            made.append(None)
            if wave is None:
                continue
            for name in self._tasks(utterance):
                draws = self._draws(utterance, name)
                try:
                    found = self._make(name, wave, utterance["speaker"], draws)
                except AudioError as error:
                    verdicts[len(parts)] = (Reason.UNREADABLE.value, f"tasks: {error}")
                    found = _Made(wave, wave)
                if found is not None:
                    changes = {"id": f"{utterance['id']}#{name}", "task": name, "split": "derived"}
                    parts.append(Part(row, found.target, changes))
                    made.append(found)
        kept = [None if row in verdicts else one for row, one in enumerate(made)]
        prompts = samples_array([None if one is None else one.prompt for one in kept])
        edits = pa.array([None if one is None else one.edit for one in kept], pa.list_(pa.int32()))
        table = reject(explode(table, parts), verdicts)
        return table.append_column(PROMPT_SAMPLES, prompts).append_column(EDIT, edits)

    def _tasks(self, utterance: Row) -> list[TaskName]:
        """The tasks that get a row of it."""
        split = utterance["split"] or split_of(utterance["recording_id"], self._validation, self._seed)
        if utterance["task"] is not None or split != "train":
            return []
        share = self._settings.share * 2**64
        return [name for name in self._settings.names if self._number(utterance, f"{name} drawn") < share]

    def _draws(self, utterance: Row, name: TaskName) -> np.random.Generator:
        return np.random.default_rng(self._number(utterance, name))

    def _number(self, utterance: Row, what: str) -> int:
        text = f"{self._settings.seed}:{utterance['id']}#{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

    def _make(
        self, name: TaskName, wave: Samples, speaker: str | None, draws: np.random.Generator
    ) -> _Made | None:
        settings = self._settings
        if name in EDITING:
            return self._edited(name, wave, draws)
        if name == "svc":
            moved = float(draws.uniform(*settings.semitones)) * (1 if draws.random() < 0.5 else -1)
            return _Made(wave, other_voice(wave, self._rate, moved))
        if name == "tse":
            mixture, speech, _ = self._mixed(wave, self._others(speaker), settings.voice_db, draws)
            return _Made(speech, mixture)
        mixture, speech, noise = self._mixed(wave, self._noise, settings.noise_db, draws)
        return _Made(speech if name == "ns" else noise, mixture)

    def _edited(self, name: TaskName, wave: Samples, draws: np.random.Generator) -> _Made | None:
        settings, frames = self._settings, -(-len(wave) // self._hop)
        if len(wave) < _LEAST_EDIT_S * self._rate:
            return None
        if name == "nse":
            wave = self._mixed(wave, self._noise, settings.noise_db, draws)[0]
        size = max(1, round(float(draws.uniform(*settings.edit_share)) * frames))
        first = int(draws.integers(frames - size + 1))
        last = first + size
        side = draws.random()
        if side < settings.drop_context:
            first = 0
        elif side < 2 * settings.drop_context:
            last = frames
        return _Made(wave, without_part(wave, first * self._hop, last * self._hop), (first, last))

    def _mixed(
        self, wave: Samples, paths: Sequence[Path], ratio_db: tuple[float, float], draws: np.random.Generator
    ) -> tuple[Samples, Samples, Samples]:
        path = paths[int(draws.integers(len(paths)))]
        try:
            sound = self._decoded(path)
        except AudioError as error:
            raise AudioError(error.reason, f"{path}: {error}") from error
        return mixed(wave, segment_of(sound, len(wave), draws), float(draws.uniform(*ratio_db)))

    def _others(self, speaker: str | None) -> list[Path]:
        """Recordings of other voices. AudioError if there is none but the speaker's."""
        found = [path for path in self._voices if speaker is None or path.parent.name != speaker]
        if not found:
            raise AudioError(Reason.UNREADABLE, f"voices has no recording of another voice than {speaker}")
        return found


def recordings(folder: Path) -> list[Path]:
    """The sound files below a folder, in order. ValueError if there is none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO and path.is_file())
    if not found:
        raise ValueError(f"{folder} holds no recordings; give a folder of sound files")
    return found


def recordings_digest(folder: Path) -> str:
    """sha256 of the names and sizes of a folder's recordings. ValueError as `recordings`."""
    found = hashlib.sha256()
    for path in recordings(folder):
        found.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return found.hexdigest()


def _utterances(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.select(["id", "recording_id", "speaker", "split", "task"]).to_pylist()
    return rows
