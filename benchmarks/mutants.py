"""Small wrong changes to a file or folder, each of which some test should notice: which survive (`make mutants`).

    python -m benchmarks.mutants models/sampling/masked.py --tests tests/models/sampling [--children 1] [--sample 60]

mutmut works on a copy of the tracked files in a temporary folder; nothing in the working tree changes. Survivors are
printed as differences, the last line is JSON: mutants made and tried, killed, survived, without tests, and
timeout, which on a busy machine says little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("catalog", "models", "pipelines", "trainers")
_STATUS = {"segfault": "killed"}
_NAMES = """
import pathlib, sys
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    for mutant in mutate_file_contents(name, path.read_text()).mutant_names:
        print(get_mutant_name(path, mutant))
"""


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="mutants") as scratch:
        copy = Path(scratch)
        copy_tracked(copy)
        configure(copy, given.what, given.tests)
        made = mutants(copy, given.what)
        tried = made if given.sample is None else random.Random(0).sample(made, min(given.sample, len(made)))
        mutmut(copy, given.log, "run", "--max-children", str(given.children), *tried)
        found = {name: status for name, status in results(copy).items() if name in set(tried)}
        for name, status in found.items():
            if status == "survived":
                print(mutmut(copy, None, "show", name), flush=True)
    counts = Counter(_STATUS.get(status, status) for status in found.values())
    print(
        json.dumps(
            {"what": given.what, "tests": given.tests, "made": len(made), "tried": len(found), **counts}
        )
    )
    return 0 if found else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", help="file or folder of one of " + ", ".join(PACKAGES))
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files or folders; default: all")
    parser.add_argument("--children", type=int, default=1, help="processes; each runs tests")
    parser.add_argument("--sample", type=int, help="try so many, drawn with seed 0; default: all")
    parser.add_argument("--log", type=Path, help="file for what mutmut says")
    given = parser.parse_args()
    given.what = given.what.rstrip("/")
    if not (ROOT / given.what).exists() or given.what.split("/")[0] not in PACKAGES:
        parser.error(f"{given.what}: no file or folder of {', '.join(PACKAGES)}")
    return given


def copy_tracked(target: Path) -> None:
    """Every file that git knows, as it is in the working tree."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def configure(copy: Path, what: str, tests: list[str]) -> None:
    """Settings of mutmut, in the copy's pyproject.toml."""
    package = what.split("/")[0]
    others = sorted(path.name for path in copy.iterdir() if path.name not in (package, "tests"))
    lines = {
        "source_paths": [package],
        "only_mutate": [what if what.endswith(".py") else f"{what}/*"],
        "also_copy": others,
        "pytest_add_cli_args_test_selection": tests,
        "process_isolation": "forkserver",  # imports torch once, not for each mutant
        "pytest_add_cli_args": ["-m", "not slow and not ray", "-p", "no:cacheprovider"],
    }
    with (copy / "pyproject.toml").open("a") as file:
        file.write(
            "\n[tool.mutmut]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        )


def mutants(copy: Path, what: str) -> list[str]:
    """Names of all that mutmut would try, in the order of files and lines."""
    files = [copy / what] if what.endswith(".py") else sorted((copy / what).rglob("*.py"))
    names = [str(file.relative_to(copy)) for file in files]
    return subprocess.check_output([sys.executable, "-c", _NAMES, *names], cwd=copy, text=True).split()


def mutmut(copy: Path, log: Path | None, *words: str) -> str:
    """Run it; JobError-like text and exit 1 where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode:
        sys.exit(f"mutmut {' '.join(words)} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def results(copy: Path) -> dict[str, str]:
    """Status by mutant."""
    lines = mutmut(copy, None, "results", "--all", "true").splitlines()
    pairs = (line.strip().rpartition(": ") for line in lines if "__mutmut_" in line)
    return {name: status for name, _, status in pairs}


if __name__ == "__main__":
    sys.exit(main())
