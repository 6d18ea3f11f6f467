"""Two Ray Train workers train what one process trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.codec_sources import load_codec
from trainers.__main__ import main

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def fit(
    tmp_path: Path, make_dataset: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    codec = load_codec("mill-16khz@1")
    identity = {name: getattr(codec, name) for name in ("name", "edition", "weights_sha256")}
    uri = make_dataset(n_codebooks=8, codebook_size=codec.codebook_size, **identity)
    settings = {
        "family": "maskgct_t2s",
        "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16},
        "data": {"dataset": uri, "batch": {"max_samples": 8}},
        "loop": {"max_steps": 6, "batches_per_step": 2, "validate_every": 3, "log_every": 1, "samples": 0},
        "max_failures": 0,
        "tracking": {"enabled": False},
    }
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(settings))

    def call(name: str, *overrides: str) -> tuple[int, Any, str]:
        words = ["fit", str(path), "--set", f"output={tmp_path / name}"]
        code = main([*words, *(word for override in overrides for word in ("--set", override))])
        out, err = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, err

    return call


def test_two_workers_equal_one_process(ray_session: None, fit: Callable[..., tuple[int, Any, str]]) -> None:
    _, alone, _ = fit("alone")
    code, half, error = fit("workers", "workers=2", "loop.max_steps=3")
    assert (code, half["steps"]) == (0, 3), error
    # Begun by workers, ended by one process.
    code, together, _ = fit("workers", "workers=0")
    assert (code, together["steps"]) == (0, 6)
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-4)


def test_more_workers_than_the_cluster_has_are_refused(
    ray_session: None, fit: Callable[..., tuple[int, Any, str]]
) -> None:
    code, _, error = fit("workers", "workers=64", "loop.batches_per_step=64")
    assert code == 1
    assert "64 workers need 64 CPU, the cluster has 2: lower workers or worker_cpus" in error
