"""Two ranks train what one process trains: same batches, same draws, the mean over all positions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch
from trainers.loop import train
from trainers.loop_config import LoopConfig
from trainers.optim import OptimConfig

RANK = """
import importlib.util, sys
from pathlib import Path
import torch
import torch.distributed as dist
from trainers.data import collate_codes, open_batches
from trainers.loop import train
from trainers.loop_config import LoopConfig
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig

spec = importlib.util.spec_from_file_location("families", sys.argv[1])
families = importlib.util.module_from_spec(spec)
sys.modules["families"] = families
spec.loader.exec_module(families)
folder = Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=int(sys.argv[3]), world_size=2)
# Rank 0 alone starts as the single process does: the other one must be given its weights.
torch.manual_seed(int(sys.argv[3]))
config = BatchConfig(frames_threshold=200, max_samples=8)
batches = open_batches([folder / "train.parquet"], config, 0, collate_codes, codebook_size=16)
optim = OptimConfig(lr=0.01, weight_decay=0.1)
for steps, sharding in ((2, "none"), (4, "fsdp"), (6, "fsdp")):
    config = LoopConfig(
        max_steps=steps, batches_per_step=4, validate_every=2, ema_decay=0.9, optim=optim, sharding=sharding
    )
    objective = families.Bigram(families.BigramConfig(), families.BigramSettings(), families.INFO)
    outcome = train(objective, batches, config, directory=folder / "two", validation=batches)
dist.destroy_process_group()
"""


def test_two_ranks_replicated_then_sharded_equal_one_process(
    bigram, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    """The checkpoint of one arrangement is continued by the other."""
    config = LoopConfig(
        max_steps=6,
        batches_per_step=4,
        validate_every=2,
        ema_decay=0.9,
        optim=OptimConfig(lr=0.01, weight_decay=0.1),
    )
    train(bigram(), batches, config, directory=tmp_path / "one", validation=batches)
    families = Path(__file__).with_name("conftest.py")
    words = [sys.executable, "-c", RANK, str(families), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ranks = [subprocess.Popen([*words, str(rank)], env=environment) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    latest = Checkpoints(tmp_path / "two").latest()
    assert latest is not None
    together, single = load(latest), load(Checkpoints(tmp_path / "one").all()[-1])
    assert together["best"] == pytest.approx(single["best"], rel=1e-5)
    for part in ("objective", "ema"):
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
