"""ray_cluster.yaml against Ray's own schema check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).resolve().parent.parent / "ray_cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))


def _validate(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_ray_accepts_the_cluster(cluster: dict[str, Any]) -> None:
    _validate(cluster)
    types = cluster["available_node_types"]
    assert set(types) == {"head", "cpu_worker", "gpu_worker"}
    assert types["gpu_worker"]["resources"]["GPU"] >= 1
    assert "GPU" not in types["head"]["resources"]


def test_rays_check_refuses_an_unknown_key(cluster: dict[str, Any]) -> None:
    import jsonschema

    cluster["available_node_typos"] = {}
    with pytest.raises(jsonschema.ValidationError, match="available_node_typos"):
        _validate(cluster)
