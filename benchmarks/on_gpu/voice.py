"""Training of the voice of bench_voice from a carried folder, its weights written in pieces.

The first networks take half of the time each. What was carried beside the shards as pieces (`bench_voice carry` after
`join`) is gone on from. The sentences of our own are said by the system as it was at earlier shares of the training,
too; the newest one is judged where the recogniser is, from the pieces.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import voice_training as voice
from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from trainers.checkpoint import Checkpoints

SPEAKING_S, SPARE_S = 45, 20


def run(machine: Machine, carried: Path | None, out: Path) -> Mapping[str, Json]:
    """Steps, minutes and validation losses of both networks; the pieces in `out` are named."""
    if carried is None:
        return {"left out": "there is no --voice FOLDER, which `bench_voice carry` makes"}
    with tempfile.TemporaryDirectory() as runs:  # not in `out`: checkpoints are too large to be carried away
        return _run(machine, carried, out, Path(runs))


def _run(machine: Machine, carried: Path, out: Path, runs: Path) -> Mapping[str, Json]:
    found: dict[str, Json] = {}
    written: list[Path] = []
    for at, role in enumerate(voice.ROLES):
        earlier = voice.unpack(carried, role, runs)
        latest = Checkpoints(runs / role).latest()
        done = 0.0 if latest is None else voice.minutes_of(latest)
        share_s = (machine.left_s() - SPEAKING_S - SPARE_S) / (len(voice.ROLES) - at)
        outcome = voice.train(
            *(carried, runs, role, done + max(share_s, 1.0) / 60, machine.device),
            stop=lambda: machine.left_s() < SPARE_S,
        )
        newest = voice.nearest(runs, role, 1)
        found[role] = {
            "steps": outcome.step,
            "minutes": round(voice.minutes_of(newest), 2),
            "went on from": None if earlier is None else voice.step_of(earlier),
            "losses": [dict(one) for one in voice.losses(runs, role)],
        }
        written += voice.pack(newest, out, role)
    sentences = [one for one in voice.held_out(carried) if one["set"] == "own"]
    for share in voice.EARLIER:
        if machine.left_s() > SPARE_S:
            some = sentences[: 2 if machine.small else None]
            name, said = voice.said(carried, runs, share, machine.device, some)
            written += voice.write_pieces(said, out, f"said-{name}")
    return {**found, "pieces": [path.name for path in written]}
