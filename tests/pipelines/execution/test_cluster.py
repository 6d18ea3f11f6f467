"""ray_cluster.yaml and docs/cluster.md against Ray's own schema check, the settings there against ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from catalog.command import JobError
from pipelines.execution import cluster as execution

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


@pytest.fixture
def own_ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray's module, whose session here, if there is one, stays, and an environment that the test may change."""
    import ray

    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return ray


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (2, 3), (3, 3)])
def test_ray_that_is_late_is_started_again(
    own_ray: Any, monkeypatch: pytest.MonkeyPatch, failures: int, tries: int
) -> None:
    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        begun.append(options)
        if len(begun) <= failures:
            raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(own_ray, "init", init)
    if failures == 3:
        with pytest.raises(JobError, match=r"^Ray did not start in 3 tries of 30 s"):
            execution.start({"include_dashboard": False})
    else:
        execution.start({"include_dashboard": False})
    assert len(begun) == tries
    assert all(options["include_dashboard"] is False for options in begun)
    assert all(options["log_to_driver"] is False for options in begun)


def test_ray_that_fails_otherwise_is_not_tried_again(own_ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def init(**_: Any) -> None:
        begun.append(1)
        raise ConnectionError("no cluster there")

    monkeypatch.setattr(own_ray, "init", init)
    with pytest.raises(ConnectionError, match="no cluster there"):
        execution.start({})
    assert len(begun) == 1


def test_sockets_of_ray_have_short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 39)
    with execution._short_folder() as options:
        assert options == {}
    monkeypatch.setenv("RAY_TMPDIR", "/" + "ü" * 20)  # bytes count
    with execution._short_folder() as options:
        folder = Path(options["_temp_dir"])
        assert folder.is_dir()
        assert len(str(folder)) <= 40
        (folder / "session").mkdir()
    assert not folder.exists()
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(
        JobError, match=r"^/ü+: too long .* \(at most 40 bytes\), and /tmp cannot be written: full; set"
    ):
        execution._short_folder().__enter__()


def refuse(*_: object, **__: object) -> None:
    raise OSError(28, "full")


def test_what_is_written_past_python_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with execution._silent_stderr():
        os.write(2, b"noise of native code")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


class Node:
    """Ray's node of this process, with the processes that it started."""

    def __init__(self, head: bool = True, **processes: subprocess.Popen[bytes]) -> None:
        self.head = head
        self.all_processes = {kind: [SimpleNamespace(process=one)] for kind, one in processes.items()}
        self.killed: list[dict[str, Any]] = []

    def kill_all_processes(self, **how: Any) -> None:
        self.killed.append(how)


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", f"import os, sys; {code}"], stdin=subprocess.PIPE)


@pytest.mark.parametrize(
    ("dead", "code", "said"),
    [
        ("raylet", "os.kill(os.getpid(), 9)", "the raylet of Ray has ended (signal 9)"),
        ("gcs_server", "sys.exit(3)", "the control service of Ray has ended (exit code 3)"),
    ],
)
def test_a_ray_that_dies_ends_the_job_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dead: str, code: str, said: str
) -> None:
    import ray

    codes: list[int] = []
    ended, alive = process(code), process("sys.stdin.read()")
    ended.wait()
    other = {"raylet": "gcs_server", "gcs_server": "raylet"}[dead]
    node = Node(**{other: alive, dead: ended})
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    monkeypatch.setattr(os, "_exit", lambda code: (codes.append(code), watch._done.set()))
    watch = execution._Watch()
    watch._thread.join()
    alive.communicate()
    assert codes == [1]
    assert node.killed == [{"check_alive": False, "allow_graceful": False}]
    assert capsys.readouterr().err == (
        f"speechmill: {said}, often for want of memory; what was committed stays, run the same command again\n"
    )


@pytest.mark.parametrize("head", [True, False])
def test_a_ray_that_lives_or_is_a_clusters_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], head: bool
) -> None:
    import ray

    one = process("sys.stdin.read()" if head else "")
    if not head:
        one.wait()
    monkeypatch.setattr(ray._private.worker, "_global_node", Node(head, raylet=one))
    watch = execution._Watch()
    watch.stop()
    one.communicate()
    assert not watch._thread.is_alive()
    assert capsys.readouterr().err == ""


def test_nodes_that_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    found = [
        {"Alive": True, "Resources": {"CPU": 4, "memory": 1e9}},
        {"Alive": False, "Resources": {"CPU": 8}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    assert execution.nodes() == [{"CPU": 4.0, "GPU": 0.0}, {"CPU": 2.0, "GPU": 1.0}]


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
