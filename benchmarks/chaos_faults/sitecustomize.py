"""On PYTHONPATH, this breaks decoding as a bug in a codec library would: from within, in the decoder's process.

A WAV file whose first samples spell one of `FAULTS` ends the process, hangs it, or makes it take memory without end.
Each time is written to the file that SPEECHMILL_CHAOS_FAULTS names. Files without such a mark are decoded as ever.
"""

from __future__ import annotations

import os
import signal
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


if "pipelines.audio.decoder_process" in sys.orig_argv and "SPEECHMILL_CHAOS_FAULTS" in os.environ:
    _break_soundfile()
