"""Trains the voice of bench_voice from a carried folder, and takes its weights from one machine to another.

Needs torch, transformers and pyarrow alone, so that a bare GPU machine runs it. A carried folder holds `t2s.json` and
`s2a.json` (resolved settings), `train-*.parquet` and `validation-*.parquet`, and `held_out.json` (sentences with their
phones). Weights travel in half precision, without the optimiser's moments, which start anew: twelve bytes fewer a
parameter. Of a run with averaged weights, the averages travel.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.progress import Bar
from models.checkpoints import Record, Values
from models.settings import frozen
from models.system import SpeakRequest, System
from models.system_files import load_system, save_system
from trainers.checkpoint import PARTS, Checkpoints, load
from trainers.console import console_hooks
from trainers.data import Batches
from trainers.draws import generator_at
from trainers.ema import load as load_averages
from trainers.loop import train as run_loop
from trainers.loop_config import Hooks, LoopConfig, Outcome, chain
from trainers.objectives import DataInfo, Objective, Sample, objective_class
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig
from trainers.store import Store

ROLES = ("t2s", "s2a")
EARLIER = (0.25, 0.5)
"""Shares of the training after which the system is judged, too."""
PIECE_BYTES = 15 << 20
LOSSES = "losses.jsonl"
OPTIONS: Mapping[str, Any] = {"t2s_steps": 24, "s2a_steps": [8, 4, 1], "s2a_guidance": 0.0}
BATCH = 16


class Carried:
    """Settings and rows of one network, from a carried folder."""

    def __init__(self, folder: Path, role: str) -> None:
        self.plan: Record = json.loads((folder / f"{role}.json").read_text(encoding="utf-8"))
        self.data = DataInfo.from_record(self.plan["data"])
        self.family = objective_class(self.plan["family"])
        self.settings = self.family.settings(**self.plan["objective"])
        self._folder, self._seed = folder, self.plan["loop"]["seed"]

    def objective(self) -> Objective[Any]:
        """A new network."""
        torch.manual_seed(self._seed)
        model = self.family.model_config(**self.plan["model"])
        return self.family(model, self.settings, self.data)  # type: ignore[call-arg, arg-type]

    def batches(self, split: str) -> Batches[Any]:
        """Batches of a split. ValueError for other rows than those that the settings were resolved for."""
        needs = self.family.needs(self.settings, self.data)
        files = sorted(self._folder.glob(f"{split}-*.parquet"))
        store = Store.read(files, signed=False, columns=needs.required, nullable=needs.optional)
        if store.digest != self.plan["rows"][split]:
            raise ValueError(
                f"{self._folder}: the rows of {split} are not those of {self.plan['family']}'s settings"
            )
        collate = self.family.collator(self.settings, self.data)
        return Batches(store, BatchConfig(**self.plan["batch"]), self._seed, collate, needs)

    def loop(self, minutes: float, minutes_of: str) -> LoopConfig:
        """Settings of a training that keeps all its checkpoints."""
        given = {**self.plan["loop"], "optim": OptimConfig(**frozen(self.plan["loop"]["optim"]))}
        return LoopConfig(**{**given, "max_minutes": minutes, "minutes_of": minutes_of, "keep_last": 1 << 20})

    @property
    def identity(self) -> Values:
        """All that a continued run must share, besides the loop's."""
        names = ("family", "model", "objective", "batch", "rows")
        return {**{name: self.plan[name] for name in names}, "codec": self.data.codec_sha256}


def train(
    carried: Path,
    runs: Path,
    role: str,
    minutes: float,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train `role` until it has had `minutes` in all (processor time on a CPU), going on from what is in `runs`."""
    told = Carried(carried, role)
    (runs / role).mkdir(parents=True, exist_ok=True)
    bar = Bar()

    def note(step: int, metrics: Mapping[str, float], _samples: Sequence[Sample]) -> None:
        with (runs / role / LOSSES).open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"step": step, "validation_loss": round(metrics["validation_loss"], 4)}) + "\n"
            )

    outcome = run_loop(
        told.objective(),
        told.batches("train"),
        told.loop(minutes, "processor" if device.type == "cpu" else "wall"),
        directory=runs / role,
        validation=told.batches("validation"),
        hooks=chain(console_hooks(bar), Hooks(on_validate=note)),
        identity=told.identity,
        device=device,
        stop_requested=stop,
    )
    bar.close()
    return outcome


def nearest(runs: Path, role: str, share: float) -> Path:
    """The checkpoint at `share` of the steps. ValueError where there is none."""
    found = Checkpoints(runs / role).all()
    if not found:
        raise ValueError(f"{runs / role} holds no checkpoint; train first")
    wanted = share * step_of(found[-1])
    return min(found, key=lambda path: abs(step_of(path) - wanted))


def step_of(checkpoint: Path) -> int:
    """The number of updates before it."""
    return int(checkpoint.stem.removeprefix("step-"))


def system_of(carried: Path, checkpoints: Mapping[str, Path], device: torch.device) -> System:
    """The system of two checkpoints, by their averaged weights."""
    with tempfile.TemporaryDirectory() as folder:
        parts = {role: Path(folder) / role for role in ROLES}
        for role, part in parts.items():
            told = Carried(carried, role)
            objective, state = told.objective(), load(checkpoints[role], required=PARTS)
            objective.load_state_dict(state["objective"])
            if state["ema"] is not None:
                load_averages(objective, state["ema"])
            part.mkdir()
            objective.export(part)
            if role == "t2s":
                options = {**objective.statistics(told.batches("train").store), **OPTIONS}
                text = json.loads((part / "text.json").read_text(encoding="utf-8"))
                codec = told.data.codec
        save_system(
            Path(folder) / "system", "maskgct", codec=codec, generators=parts, text=text, options=options
        )
        return load_system(Path(folder) / "system", device)


def speak(system: System, sentences: Sequence[Values], seed: int = 0) -> dict[str, Tensor]:
    """Id -> 16-bit samples (T,) of sentences with `id`, `text` and `phones`, without a voice prompt."""
    task: Any = system.speak({})
    found: dict[str, Tensor] = {}
    for at in range(0, len(sentences), BATCH):
        batch = sentences[at : at + BATCH]
        rows = [task.prepare(SpeakRequest(one["text"], "en", tuple(one["phones"]))) for one in batch]
        said = task.run(rows, [generator_at(seed, one["id"]) for one in batch])
        for one, speech in zip(batch, said, strict=True):
            wave_T = speech.wave.wave_BT[0, : int(speech.wave.lengths_B[0])].float().cpu()
            found[one["id"]] = (wave_T.clamp(-1, 1) * 32767).round().to(torch.int16)
    return found


def losses(runs: Path, role: str) -> list[Values]:
    """`step` and `validation_loss` of each validation of a role."""
    path = runs / role / LOSSES
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def minutes_of(checkpoint: Path) -> float:
    """Minutes of training before a checkpoint."""
    return float(load(checkpoint)["elapsed_s"]) / 60


def said(
    carried: Path, runs: Path, share: float, device: torch.device, sentences: Sequence[Values]
) -> tuple[str, Record]:
    """A name of the system at a share of its training, its steps and minutes, and the waves of `sentences` by id."""
    checkpoints = {role: nearest(runs, role, share) for role in ROLES}
    steps = {role: step_of(path) for role, path in checkpoints.items()}
    minutes = sum(minutes_of(path) for path in checkpoints.values())
    waves = speak(system_of(carried, checkpoints, device), sentences) if sentences else {}
    return "-".join(map(str, steps.values())), {"steps": steps, "minutes": round(minutes, 2), "waves": waves}


def held_out(carried: Path) -> list[Values]:
    """Sentences with `id`, `set`, `text` and `phones`."""
    found: list[Values] = json.loads((carried / "held_out.json").read_text(encoding="utf-8"))
    return found


def pack(checkpoint: Path, folder: Path, name: str) -> list[Path]:
    """Write what goes on from a checkpoint into pieces `name-NN.part`."""
    state = load(checkpoint, required=PARTS)
    weights = state["objective"] | {
        key: value for key, value in (state["ema"] or {}).items() if key != "updates"
    }
    kept = {key: state[key] for key in PARTS if key not in ("objective", "optimizers", "ema")}
    kept |= {
        "objective": {
            key: value.half() if value.is_floating_point() else value for key, value in weights.items()
        },
        "optimizers": {key: {**value, "state": {}} for key, value in state["optimizers"].items()},
        "updates": None if state["ema"] is None else state["ema"]["updates"],
    }
    return write_pieces(kept, folder, name)


def unpack(folder: Path, name: str, runs: Path) -> Path | None:
    """The checkpoint of pieces that `pack` wrote, in `runs`; None where there are none or `runs` is further."""
    kept = read_pieces(folder, name)
    checkpoints = Checkpoints(runs / name, 1 << 20)
    latest = checkpoints.latest()
    if kept is None or (latest is not None and step_of(latest) >= kept["step"]):
        return None
    updates = kept.pop("updates")
    weights = {
        key: value.float() if value.is_floating_point() else value for key, value in kept["objective"].items()
    }
    averages = None if updates is None else {**weights, "updates": updates}
    return checkpoints.save({**kept, "objective": weights, "ema": averages}, kept["step"], best=False)


def write_pieces(values: Values, folder: Path, name: str) -> list[Path]:
    """Tensors and plain values as files of at most `PIECE_BYTES`."""
    buffer = io.BytesIO()
    torch.save(dict(values), buffer)
    data = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*.part"):
        old.unlink()
    paths = []
    for at, start in enumerate(range(0, len(data), PIECE_BYTES)):
        paths.append(folder / f"{name}-{at:02d}.part")
        paths[-1].write_bytes(data[start : start + PIECE_BYTES])
    return paths


def read_pieces(folder: Path, name: str) -> Record | None:
    """Values that `write_pieces` wrote; None where there are no pieces. ValueError where one is missing or damaged."""
    paths = sorted(folder.glob(f"{name}-*.part"))
    if not paths:
        return None
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        for path in paths:
            file.write(path.read_bytes())
        file.flush()
        try:
            return load(Path(file.name))
        except (ValueError, OSError) as error:
            raise ValueError(f"{folder}/{name}-*.part: a piece is missing or damaged") from error
