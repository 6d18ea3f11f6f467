"""Contents of a built wheel: every sub-package and the data beside the code. An editable install would hide a gap."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("pipelines", "models", "trainers", "catalog")


def test_wheel_holds_every_module_and_the_codec(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "speechmill.py"):
        shutil.copy(REPOSITORY / name, source / name)
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
    ]
    subprocess.run([*pip, str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.safetensors", "*.json", "*.css", "*.js")
        for path in (source / package).rglob(pattern)
    }
    assert any(name.endswith("model.safetensors") for name in wanted)
    assert wanted | {"speechmill.py"} <= held
