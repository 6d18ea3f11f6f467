"""The end of worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

_STUCK_AT_EXIT = """
import atexit, ctypes, sys
library = ctypes.CDLL(None)
library.on_exit(ctypes.cast(library.pause, ctypes.c_void_p), None)
from pipelines.execution.ray_stream import end_without_destructors
end_without_destructors()
atexit.register(print, "Python's own handlers ran")
sys.exit(3)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="handlers with a status are glibc's")
def test_a_process_whose_destructors_hang_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _STUCK_AT_EXIT],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "Python's own handlers ran\n")
