"""Checkpoints hold everything needed to continue bit-exactly; they appear whole or not at all.

A directory of checkpoints: `step-00001200.pt` (the newest few), `best.pt` (lowest validation loss). Random
state needs no place in them: every draw is seeded by (seed, position in the data), see `trainers/loop.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from catalog.files import written_aside
from models.checkpoints import Json, Record, Values

BEST = "best.pt"
PARTS = ("objective", "optimizers", "ema", "step", "position", "elapsed_s", "best", "identity", "extra")
"""What a checkpoint of the loop holds at least."""


class Checkpoints:
    """The checkpoints under one directory."""

    def __init__(self, directory: Path, keep_last: int = 2) -> None:
        self.directory, self.keep_last = directory, keep_last

    def all(self) -> list[Path]:
        """Checkpoints by step, oldest first, without `best.pt`."""
        return sorted(self.directory.glob("step-*.pt"))

    def latest(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        return next(reversed(self.all()), None)

    def newest_good(self) -> tuple[Path, Record] | None:
        """The newest checkpoint that can be read, and its state. ValueError if there are some and none can be read."""
        problems = []
        for path in reversed(self.all()):
            try:
                return path, load(path)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(
                f"{problems[0]}, nor is an earlier one; delete {self.directory} to start the run over"
            )
        return None

    def clean(self) -> list[str]:
        """Rename damaged checkpoints to `*.damaged` and delete what unfinished writes left; one line for each damage.

        Only for the process that owns the run directory, before the training starts.
        """
        lines = []
        for path in self.directory.glob(".*.pt.*.tmp"):
            path.unlink(missing_ok=True)
        best = self.directory / BEST
        for path in [*reversed(self.all()), *([best] if best.exists() else [])]:
            try:
                load(path)
            except ValueError as error:
                path.rename(path.with_name(f"{path.name}.damaged"))
                lines.append(f"{error}; it is kept as {path.name}.damaged, and the one before it is used")
        return lines

    def best(self) -> Path | None:
        """The checkpoint of the lowest validation loss, else the newest."""
        path = self.directory / BEST
        return path if path.exists() else self.latest()

    def save(self, state: Values, step: int, *, best: bool) -> Path:
        """Write `state` aside, flush it, rename it; drop all but the newest `keep_last`.

        OSError names the file if the disk does not take it.
        """
        path = self.directory / f"step-{step:08d}.pt"
        try:
            with written_aside(path) as aside, aside.open("wb") as file:
                torch.save(dict(state), file)
        except (OSError, RuntimeError) as error:  # torch hides why a write failed
            cause = error if isinstance(error, OSError) else error.__context__ or error
            reason = getattr(cause, "strerror", None) or "the disk is full or failing"
            raise OSError(f"cannot write checkpoint {path}: {reason}") from error
        if best:
            self._link_best(path)
        for old in self.all()[: -self.keep_last]:
            old.unlink()
        return path

    def _link_best(self, path: Path) -> None:
        with written_aside(self.directory / BEST) as aside:
            try:
                os.link(path, aside)
            except OSError:  # file systems without hard links
                shutil.copyfile(path, aside)


def load(path: Path, map_location: str | torch.device = "cpu", required: Sequence[str] = ()) -> Record:
    """Read a checkpoint; only tensors and plain values are allowed in it.

    ValueError names a file that is damaged (the archive's checksums are verified), is no checkpoint or lacks a part.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (
        RuntimeError, EOFError, ValueError, IndexError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not a readable checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds {type(state).__name__}")
    missing = [key for key in required if key not in state]
    if missing:
        raise ValueError(f"{path} is not a checkpoint of a training: it lacks {', '.join(missing)}")
    return state


def check_identity(
    path: Path, saved: Values, wanted: Values, legacy: Mapping[str, Json] | None = None
) -> None:
    """Refuse to continue a run with other settings. ValueError names every key that differs, with both values.

    `legacy`: by dotted key of the objective, what a checkpoint means that was written before the key was added.
    """
    new = _flat(wanted)
    added = {f"objective.{key}": value for key, value in (legacy or {}).items()}
    old = {key: value for key, value in added.items() if key in new} | _flat(saved)
    differing = [
        f"{key} was {json.dumps(old.get(key))}, is {json.dumps(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differing:
        moved = (
            "; if the dataset was moved, make its old path a link to the new one and name the old one"
            if old.get("data.dataset") != new.get("data.dataset")
            else ""
        )
        raise ValueError(
            f"{path} was made with other settings: {'; '.join(differing)}. "
            f"Continue with the same ones, or start in another output directory{moved}"
        )


def _flat(mapping: Values, prefix: str = "") -> Record:
    found: Record = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
