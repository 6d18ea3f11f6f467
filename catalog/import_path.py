"""The import path of child processes; standard library only."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def import_path() -> list[str]:
    """Folders for a child's PYTHONPATH, so that it imports our packages from where this process does.

    That is their folder only if this process found them through `sys.path`: an editable installation finds them by
    itself, and what else lies in a checkout must not hide installed packages. Empty entries of PYTHONPATH, which mean
    the working directory, are left out.
    """
    root = Path(__file__).resolve().parents[1]
    ours = [str(root)] if any(Path(entry or ".").resolve() == root for entry in sys.path) else []
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return list(dict.fromkeys([*ours, *given]))
