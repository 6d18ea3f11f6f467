"""Two ranks train what one process trains: same batches, same draws, the mean over all positions."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch
from trainers.loop import train
from trainers.loop_config import LoopConfig
from trainers.optim import OptimConfig

CONFIG = LoopConfig(
    max_steps=6,
    batches_per_step=4,
    validate_every=2,
    ema_decay=0.9,
    optim=OptimConfig(lr=0.01, weight_decay=0.1),
)
# Both trainings in one pair of processes: starting torch takes longer than training.
RANK = """
import importlib.util, sys
from dataclasses import replace
from pathlib import Path
import torch
import torch.distributed as dist

def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

here, folder, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
families, waveforms = loaded("families", here / "conftest.py"), loaded("waveforms", here / "test_waveform_objective.py")
parallel = loaded("parallel", here / "test_parallel.py")
dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
# Rank 0 alone starts as the single process does: the other one must be given its weights.
torch.manual_seed(rank)
batches = families.open_toy(folder / "train.parquet")
for steps, sharding in ((2, "none"), (4, "fsdp"), (6, "fsdp")):
    objective = families.Bigram(families.BigramConfig(), families.BigramSettings(), families.INFO)
    config = replace(parallel.CONFIG, max_steps=steps, sharding=sharding)
    parallel.train(objective, batches, config, directory=folder / "two", validation=batches)
waveforms.on_rank(folder)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_replicated_then_sharded_equal_one_process(
    bigram, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    """The checkpoint of one arrangement is continued by the other; with one optimiser, and with two."""
    train(bigram(), batches, CONFIG, directory=tmp_path / "one", validation=batches)
    waveforms = _waveforms()
    waveforms.alone(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", RANK, str(Path(__file__).parent), str(tmp_path)]
    ranks = [subprocess.Popen([*words, str(rank)], cwd=tmp_path, env=environment) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    together, single = _newest(tmp_path / "two"), _newest(tmp_path / "one")
    assert together["best"] == pytest.approx(single["best"], rel=1e-5)
    assert_close(together, single, ("objective", "ema"))
    together, single = _newest(tmp_path / "waves-two"), _newest(tmp_path / "waves-one")
    assert together["step"] == single["step"] == 4
    assert_close(together, single, ("objective",))


def _waveforms() -> Any:
    path = Path(__file__).with_name("test_waveform_objective.py")
    spec = importlib.util.spec_from_file_location("waveforms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _newest(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    return load(latest)


def assert_close(together: dict[str, Any], single: dict[str, Any], parts: tuple[str, ...]) -> None:
    for part in parts:
        assert together[part].keys() == single[part].keys()
        for name, weight in single[part].items():
            torch.testing.assert_close(together[part][name], weight, rtol=1e-4, atol=1e-5)


def test_a_group_that_cannot_be_shared_evenly_is_refused(
    bigram, batches: Batches[CodesBatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.parallel import Parallel

    monkeypatch.setattr(Parallel, "current", staticmethod(lambda: Parallel(rank=0, world=2)))
    with pytest.raises(ValueError, match="batches_per_step is 1: must be a multiple of the 2 workers"):
        train(bigram(), batches, LoopConfig(max_steps=1), directory=tmp_path)
