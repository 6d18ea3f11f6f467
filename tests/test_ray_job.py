"""`prepare` and `embed` submitted to a real Ray head with its job server, as on a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(
    " " in sys.executable, reason="Ray gives the interpreter of a submitted job to a shell unquoted"
)


@dataclass(frozen=True)
class Head:
    """A running head: where its job server is, and the environment its clients need."""

    address: str
    environment: dict[str, str]

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        # A submitted job's directory is uploaded: the checkout without what git ignores.
        command = [str(BIN / "ray"), "job", "submit", "--working-dir", str(REPOSITORY), "--", "python", "-m"]
        for _ in range(20):
            done = subprocess.run(
                [*command, *words],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            # The head answers before its node's agent, which runs the jobs, has started.
            if "No available agent" not in done.stdout + done.stderr:
                break
        return done


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    # Unix socket paths are limited to 107 bytes, which pytest's own temp dirs exceed.
    temp = Path("/tmp") / f"rayjob-{os.getpid()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    # The defaults are taken when another Ray runs on the machine, such as the session's own.
    names = ("dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    free = {name: _free_port() for name in names}
    dashboard = free["dashboard-port"]
    ports = ["--port=0", *(f"--{name}={port}" for name, port in free.items())]
    start = [str(BIN / "ray"), "start", "--head", "--num-cpus=2", *ports, f"--temp-dir={temp}"]
    subprocess.run(["ray", "get-auth-token", "--generate"], env=environment, capture_output=True, check=True)
    started = subprocess.run(start, env=environment, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        address = f"http://127.0.0.1:{dashboard}"
        yield Head(address, environment | {"RAY_API_SERVER_ADDRESS": address})
    finally:
        _stop(temp)
        shutil.rmtree(temp, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _stop(temp: Path) -> None:
    """Stop this head's processes only: `ray stop` would end those of every Ray on the machine."""
    mine = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and any(str(temp) in word for word in process.info["cmdline"] or [])
    ]
    for process in mine:
        process.kill()
    psutil.wait_procs(mine, timeout=20)


@pytest.mark.ray
@pytest.mark.slow
def test_prepare_runs_as_a_submitted_job(head: Head, speech_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    done = head.submit(
        "pipelines", "prepare", str(speech_folder), str(output), "--set", "codec.name=pcm-16khz"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r'\{"dataset": .*"recordings": 6, "utterances": 6, "rejected": 0', done.stdout)

    from catalog.datasets import Dataset

    assert Dataset.open(str(output)).totals().utterances == 6


@pytest.mark.ray
@pytest.mark.slow
def test_embed_runs_as_a_submitted_job(
    head: Head, speech_folder: Path, semantic_parts: dict[str, Any], tmp_path: Path
) -> None:
    """With the words of the extractor that it takes the place of; the model is in a configuration."""
    folders = {name: tmp_path / name for name in ("audio", "embedding", "json")}
    shutil.copytree(speech_folder, folders["audio"])
    parts = {"model" if name == "tokenizer" else name: value for name, value in semantic_parts.items()}
    config = tmp_path / "embed.yaml"
    config.write_text(yaml.safe_dump({"embedder": parts}), encoding="utf-8")
    words = [word for name, folder in folders.items() for word in (f"--{name}-dir", str(folder))]
    done = head.submit("pipelines", "embed", *words, "--device", "cpu", "--config", str(config))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r'\{"output": .*"files": 6, "new_files": 6, "rejected": 0', done.stdout)
    assert len(json.loads((folders["json"] / "success_total_audio.json").read_text())) == 6
    assert len(list(folders["embedding"].rglob("*.npy"))) == 6
