"""ray_cluster.yaml and docs/cluster.md against Ray's own schema check, the settings there against ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
CLUSTER = REPOSITORY / "ray_cluster.yaml"
DOCUMENTED = re.findall(
    r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "cluster.md").read_text("utf-8"), re.DOTALL
)


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


def test_ray_accepts_the_documented_cluster_on_premises() -> None:
    (found,) = (text for text in DOCUMENTED if "provider:" in text)
    config = yaml.safe_load(found)
    _validate(config)
    assert config["provider"]["type"] == "local"


def test_documented_settings_are_settings(tmp_path: Path) -> None:
    from catalog.config import load_config
    from pipelines.prepare.settings import PrepareSettings
    from pipelines.prepare.steps import layout_of

    (found,) = (text for text in DOCUMENTED if "resources:" in text and "provider:" not in text)
    (tmp_path / "prepare.yaml").write_text(found, encoding="utf-8")
    settings = load_config(PrepareSettings, tmp_path / "prepare.yaml", ["transcribe.model=large-v3"])
    nodes = [{"CPU": 16.0, "GPU": 1.0}] * 8
    claims = layout_of(settings, nodes).claims
    assert {name: claim.workers for name, claim in claims.items()} == {
        "codec": 8,
        "transcribe": 8,
        "decode": 48,
        "write": 1,
    }
