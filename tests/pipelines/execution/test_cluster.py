"""ray_cluster.yaml and docs/cluster.md against Ray's own schema check, the settings there against ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
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


def test_starting_ray_moves_nothing_and_adds_our_packages_alone(tmp_path: Path, monkeypatch) -> None:
    import ray

    from pipelines.execution.cluster import start

    found: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(REPOSITORY)
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(ray, "init", lambda **options: found.update(options, cwd=Path.cwd()))
    start({})
    job = found["job_config"]
    assert found["cwd"] == tmp_path
    assert job._runtime_env_has_working_dir()
    assert job._get_proto_job_config().py_driver_sys_path == [str(REPOSITORY)]
    assert os.environ["PYTHONSAFEPATH"] == "1"


@pytest.mark.ray
def test_prepare_runs_among_hostile_modules_and_finds_relative_paths(
    tmp_path: Path, speech_folder: Path
) -> None:
    folder = tmp_path / "a b%41é"
    shutil.copytree(speech_folder, folder / "recordings")
    for name in ("numpy", "ray", "pyarrow", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('hostile')\n")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-P", "-m", "speechmill", "prepare", "recordings", "dataset"]
    done = subprocess.run(
        [*command, "--set", "codec.name=pcm-16khz"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["dataset"] == str(folder / "dataset")
    assert (folder / "dataset" / "_delta_log").is_dir()
