"""On PYTHONPATH, this breaks decoding as a bug in a codec library would: from within, in the decoder's process.

A WAV file whose first samples spell one of `FAULTS` ends the process, hangs it, or makes it take memory without end.
Each time is written to the file that SPEECHMILL_CHAOS_FAULTS names. Files without such a mark are decoded as ever.

While the file that SPEECHMILL_CHAOS_STORAGE names exists, opening a WAV file fails with the error that it spells.
SPEECHMILL_CHAOS_AHEAD_S makes this another machine, whose clock is so many seconds ahead.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = ("chaos:crash", "chaos:hang", "chaos:memory")
_HEAD_BYTES = 256


def _fail(fault: str) -> None:
    with Path(os.environ["SPEECHMILL_CHAOS_FAULTS"]).open("a") as log:
        log.write(fault + "\n")
    if fault == "chaos:crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while fault == "chaos:hang":
        time.sleep(1)
    hoard = []
    while True:
        hoard.append(b"\x01" * (64 << 20))


def _break_soundfile() -> None:
    import soundfile

    class SoundFile(soundfile.SoundFile):
        def __init__(self, file: Any, *arguments: Any, **more: Any) -> None:
            at = file.tell()
            head = file.read(_HEAD_BYTES)
            file.seek(at)
            for fault in FAULTS:
                if fault.encode() in head:
                    _fail(fault)
            super().__init__(file, *arguments, **more)

    soundfile.SoundFile = SoundFile


def _break_storage(state: Path) -> None:
    opened = io.open

    def fail(file: Any, *arguments: Any, **more: Any) -> Any:
        if str(file).endswith(".wav") and state.exists():
            code = getattr(errno, state.read_text())
            raise OSError(code, os.strerror(code), str(file))
        return opened(file, *arguments, **more)

    io.open = fail


def _be_another_machine(ahead_s: float) -> None:
    now, name = time.time, socket.gethostname()
    time.time = lambda: now() + ahead_s
    socket.gethostname = lambda: f"{name}-ahead"


if "pipelines.audio.decoder_process" in sys.orig_argv and "SPEECHMILL_CHAOS_FAULTS" in os.environ:
    _break_soundfile()
if "pipelines.audio.decoder_process" in sys.orig_argv and "SPEECHMILL_CHAOS_STORAGE" in os.environ:
    _break_storage(Path(os.environ["SPEECHMILL_CHAOS_STORAGE"]))
if "pipelines" in sys.orig_argv and "SPEECHMILL_CHAOS_AHEAD_S" in os.environ:
    _be_another_machine(float(os.environ["SPEECHMILL_CHAOS_AHEAD_S"]))
