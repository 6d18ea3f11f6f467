"""Systems: a codec, generators and a text front end that speak together, and the directory that holds one."""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

from models.codecs import load_codec
from models.codecs.interface import Codec, Wave
from models.prompt import Prompt
from models.text.front_ends import text_front_end

__all__ = ["SYSTEMS", "Prompt", "System", "load_system", "save_system"]

SYSTEMS: dict[str, str] = {"maskgct": "models.maskgct.system:MaskGCTSystem"}
"""Family -> `module:class`; the class is built by `Class.load(...)`."""

_KEYS = ("family", "codec", "codec_identity", "text", "generators", "options")
_IDENTITY = ("name", "edition", "weights_sha256", "sample_rate", "hop_length", "n_codebooks", "codebook_size")


class System(Protocol):
    """What speaks. No result for a row depends on the other rows."""

    codec: Codec

    def check(
        self, text: str, prompt: Prompt | None, target_length: int | None = None, **sampling: Any
    ) -> None:
        """Raise ValueError with one line if `synthesize` would refuse this row."""

    def synthesize(
        self,
        texts: Sequence[str],
        prompts: Sequence[Prompt | None] | None = None,
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        target_lengths: Sequence[int | None] | None = None,
        **sampling: Any,
    ) -> list[Wave]:
        """One Wave of one row for each text."""


def save_system(
    directory: Path,
    family: str,
    *,
    codec: str,
    generators: Mapping[str, Path],
    text: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a system directory: `system.json` and copies of the generator directories, of the tokenizer's files and
    of a codec that is a directory.

    ValueError if the parts do not fit together; nothing is left behind then.
    """
    system = _system_class(family)
    directory.mkdir(parents=True)
    try:
        loaded = load_codec(codec)
        if Path(codec).is_dir():
            shutil.copytree(codec, directory / "codec")
            codec = "codec"
        else:
            codec = f"{loaded.name}@{loaded.edition}"
        for name, source in generators.items():
            shutil.copytree(source, directory / name)
        description = {
            "family": family,
            "codec": codec,
            "codec_identity": _identity(loaded),
            "text": text_front_end(text).save(directory),
            "generators": {name: name for name in generators},
            "options": dict(options or {}),
        }
        path = directory / "system.json"
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        system.load(directory, description, loaded, torch.device("cpu"))
    except BaseException:
        shutil.rmtree(directory)
        raise


def load_system(directory: Path | str, device: str | torch.device = "cpu") -> System:
    """Load what `save_system` wrote. ValueError names what is missing, unknown or does not fit."""
    folder = Path(directory)
    path = folder / "system.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no system directory: it has no system.json")
    description = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in _KEYS if key not in description]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    source = description["codec"]
    codec = load_codec(str(folder / source) if (folder / source).is_dir() else source, device)
    now = _identity(codec)
    changed = [key for key, value in description["codec_identity"].items() if now.get(key) != value]
    if changed:
        was, key = description["codec_identity"][changed[0]], changed[0]
        raise ValueError(f"{folder}: codec {source} has {key} {now.get(key)}; the system was made with {was}")
    system: System = _system_class(description["family"]).load(
        folder, description, codec, torch.device(device)
    )
    return system


def _system_class(family: str) -> Any:
    if family not in SYSTEMS:
        raise ValueError(f"unknown system family {family!r}; known: {', '.join(SYSTEMS)}")
    module, name = SYSTEMS[family].split(":")
    return getattr(import_module(module), name)


def _identity(codec: Codec) -> dict[str, Any]:
    return {key: getattr(codec, key) for key in _IDENTITY}
