"""A Ray of a job's own: deaths are said in one line, nothing is written into the home directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
JOB = """
import os, signal, sys, time
from catalog import command
from pipelines.execution import cluster

class Job:
    name, help = "job", ""
    def configure(self, parser): pass
    def run(self, _):
        with cluster.session():
            import ray
            node = ray._private.worker._global_node
            pids = {kind: found[0].process.pid for kind, found in node.all_processes.items() if found}
            victim, number = sys.argv[1:]
            os.kill(pids.get(victim, os.getpid()), int(number))
            ray.get(ray.remote(num_cpus=0)(lambda: time.sleep(600)).remote())

sys.exit(command.main("speechmill", [Job()], ["job"]))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "code", "line"),
    [
        ("raylet", signal.SIGKILL, 1, "speechmill: the raylet of Ray has ended (signal 9)"),
        ("gcs_server", signal.SIGKILL, 1, "speechmill: the control service of Ray has ended (signal 9)"),
        ("this", signal.SIGTERM, 143, "speechmill: terminated"),
    ],
)
def test_a_death_is_said_in_one_line(
    tmp_path: Path, victim: str, number: signal.Signals, code: int, line: str
) -> None:
    """Also where HOME is no folder and TMPDIR is too long for Ray's sockets."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = clean | {"HOME": "/dev/null/nobody", "TMPDIR": str(long), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", JOB, victim, str(int(number))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "SIGTERM received" not in done.stderr
    assert "Traceback" not in done.stderr
