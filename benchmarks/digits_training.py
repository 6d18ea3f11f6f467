"""Trains a family's networks within a wall-clock budget and assembles systems from them, also as they were earlier."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.digits_corpus import REPOSITORY, whisper
from benchmarks.digits_families import DigitsFamily
from models.system import System
from models.system_files import load_system
from trainers.assemble import AssembleSettings, write_system
from trainers.checkpoint import Checkpoints, load
from trainers.fit import fit, resolve
from trainers.loop_config import Outcome
from trainers.run import build, export
from trainers.settings import FitSettings, load_fit

CONFIGS = REPOSITORY / "configs" / "digits"
EARLIER = (0.25, 0.5)
"""Shares of the training after which the systems are judged, too."""
NO_REGISTRY = "sqlite:///none.db"
"""Parts are directories, so no registry is opened."""


@dataclass(frozen=True)
class Trained:
    """A trained network of one role."""

    settings: FitSettings
    steps: int
    minutes: float
    validation_loss: float | None
    parameters: int

    @property
    def export(self) -> Path:
        """The weights of the lowest validation loss, as `assemble` takes them."""
        return self.settings.directory / "export"


def train(family: DigitsFamily, work: Path, dataset: str, minutes: float) -> dict[str, Trained]:
    """Train every network for its share of `minutes`; one that was trained so long already is left as it is."""
    return {
        role: _train(CONFIGS / network.config, work / family.name / role, dataset, minutes * network.share)
        for role, network in family.networks.items()
    }


def _train(config: Path, output: Path, dataset: str, minutes: float) -> Trained:
    overrides = [
        f"data.dataset={dataset}",
        f"output={output}",
        f"loop.max_minutes={minutes}",
        "loop.minutes_of=processor",
        "loop.keep_last=100000",  # for the curve over time; thinned out at the end
        "tracking.enabled=false",
    ]
    settings = load_fit(config, overrides)
    result = fit(settings)
    if result["stopped"] == "interrupted":
        raise KeyboardInterrupt
    checkpoints = Checkpoints(output / "checkpoints").all()
    for path in _not_needed(checkpoints):
        path.unlink()
    weights = [load_file(path) for path in sorted((output / "export").rglob("*.safetensors"))]
    return Trained(
        settings,
        steps=_step(checkpoints[-1]),
        minutes=load(checkpoints[-1])["elapsed_s"] / 60,
        validation_loss=result["validation_loss"],
        parameters=sum(tensor.numel() for state in weights for tensor in state.values()),
    )


def system_at(
    family: DigitsFamily, work: Path, trained: Mapping[str, Trained], codec: str, share: float
) -> System:
    """The system of the weights at `share` of the training; at 1 those of the lowest validation loss."""
    folder = work / family.name / f"system-{round(100 * share)}"
    parts = {"semantic": str(work / "cells")} if family.units else {}
    for role, (other, other_role) in family.borrowed.items():
        parts[role] = str(work / other / other_role / "export")
    for role, one in trained.items():
        parts[role] = str(one.export if share == 1 else _export_earlier(one, share, folder / "runs" / role))
    for name in ("system", "semantic"):  # the latter is what write_system makes of the cells
        shutil.rmtree(folder / name, ignore_errors=True)
    settings = AssembleSettings(semantic={"features": str(whisper())} if family.units else {})
    write_system(folder / "system", family.system, parts, codec, settings, uri=NO_REGISTRY)
    return load_system(folder / "system")


def _export_earlier(one: Trained, share: float, directory: Path) -> Path:
    """Export the weights of the checkpoint nearest to `share` of the steps into a run directory of their own."""
    checkpoint = _nearest(Checkpoints(one.settings.directory / "checkpoints").all(), share)
    source = resolve(one.settings.data)
    outcome = Outcome(_step(checkpoint), 0, "interrupted", checkpoint, None, None)
    elsewhere = one.settings.model_copy(update={"output": directory})
    export(elsewhere, source, build(elsewhere, source), outcome)
    return directory / "export"


def _not_needed(checkpoints: Sequence[Path]) -> list[Path]:
    """All but the newest and those of the curve. After a doubled budget, today's half is the first quarter."""
    kept = {checkpoints[-1], *(_nearest(checkpoints, share) for share in EARLIER)}
    return [path for path in checkpoints if path not in kept]


def _nearest(checkpoints: Sequence[Path], share: float) -> Path:
    wanted = share * _step(checkpoints[-1])
    return min(checkpoints, key=lambda path: abs(_step(path) - wanted))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))
