"""The import path of child processes; standard library only."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any


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


def own_packages_only(job_config: type[Any]) -> Any:
    """A `ray.job_config.JobConfig` whose workers import our packages from where they lie, and nothing from where the
    job runs; other children of this process neither, from now on.

    A `numpy.py` among somebody's recordings would be run otherwise: Ray 2.60 puts the driver's working directory on its
    workers' import path unless a job brings a directory of its own, and interpreters do so that it starts with `-c` and
    `-m`. The driver does not move elsewhere for that: another thread may be resolving a relative path.
    """
    paths = import_path()
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}
    brings_a_directory = {"_runtime_env_has_working_dir": lambda _self: True}
    options = {"runtime_env": {"py_executable": python}} if (python := _quoted_python()) else {}
    return type("OwnPackagesOnly", (job_config,), brings_a_directory)(_py_driver_sys_path=paths, **options)


def _quoted_python() -> str | None:
    """This interpreter for a shell, where it must be quoted: Ray 2.60 gives workers that have an environment of their
    own, as Ray Train's do, to a shell as it is, and waits for them for ever.
    """
    python = shlex.quote(sys.executable)
    return python if python != sys.executable and _starts_ray() else None


def own_token() -> bool:
    """Draw the token of a Ray that this process starts; False where it attaches to another.

    Ray would write one into the home directory, for everyone to read; this one ends with the job.
    """
    local = _starts_ray()
    if local and not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return local


def _starts_ray() -> bool:
    return os.environ.get("RAY_ADDRESS", "local") == "local"
