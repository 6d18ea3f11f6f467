"""System directories: `system.json` beside the parts that it names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from models.adapters import BASE, read_adapter
from models.cascade import TextStage
from models.checkpoints import Json, read_json
from models.codec_sources import codec_directory, load_codec, load_levels
from models.codecs.interface import Codec
from models.families import system_kind, trainable
from models.generators import WEIGHTS
from models.identity import TokenIdentity
from models.manifest import Parts, SystemKind
from models.shared_weights import load_shared
from models.system import Capability, System
from models.text.front_ends import TextFrontEnd, text_front_end

DESCRIPTION = "system.json"
_KEYS = ("family", "codec", "codec_identity", "text", "generators", "options")


def save_system(
    directory: Path,
    family: str,
    *,
    codec: str,
    generators: Mapping[str, Path],
    text: Mapping[str, Json] | None,
    options: Mapping[str, Json] | None = None,
    codecs: Mapping[str, str] | None = None,
    bases: Mapping[str, Path] | None = None,
) -> None:
    """Write a system directory: `system.json` and copies of the generator directories, of the tokenizer's files and
    of codecs that are directories.

    `codecs` are further codecs by role, `bases` the generator directories of those roles that an adapter fills.
    ValueError if the parts do not fit together; nothing is left behind then.
    """
    system_kind(family)
    directory.mkdir(parents=True)
    try:
        for name, source in generators.items():
            shutil.copytree(source, directory / name)
        for name, source in (bases or {}).items():
            shutil.copytree(source, directory / name / BASE)
        main = _copy_codec(codec, directory, "codec")
        description: dict[str, Json] = {
            "family": family,
            "codec": main[0],
            "codec_identity": main[1],
            "text": None if text is None else text_front_end(text).save(directory),
            "generators": {name: name for name in generators},
            "options": dict(options or {}),
        }
        others = {role: _copy_codec(source, directory, role) for role, source in (codecs or {}).items()}
        if others:
            description["codecs"] = {
                role: {"codec": at, "identity": who} for role, (at, who) in others.items()
            }
        description["digests"] = {file: _sha256(directory / file) for file in _files(directory)}
        _write(directory, description)
        system = load_system(directory)
        description["capabilities"] = sorted(system.capabilities)
        description["sample_rate"] = system.sample_rate
        _write(directory, description)
    except BaseException as error:
        shutil.rmtree(directory)
        if isinstance(error, ValueError):
            raise ValueError(_of_given(str(error), directory, generators)) from error
        raise


def _of_given(message: str, directory: Path, generators: Mapping[str, Path]) -> str:
    """The message with the directories that were given in the place of their copies, which are gone."""
    for name, source in generators.items():
        message = message.replace(str(directory / name), str(source))
    return message.removeprefix(f"{directory}: ")


def read_description(directory: Path) -> Mapping[str, Json]:
    """`system.json` of a system directory. ValueError for a folder that is none, or lacks a key.

    `capabilities` names what the system can do; directories from before it was written can speak.
    """
    path = directory / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"{directory} is no system directory: it has no {DESCRIPTION}")
    description = read_json(path)
    missing = [key for key in _KEYS if key not in description]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return {"capabilities": ["speak"], **description}


def capabilities(directory: Path) -> list[str]:
    """Names of what a system can do, from its description alone."""
    found = read_description(directory)["capabilities"]
    if not isinstance(found, list):
        raise ValueError(f"{directory / DESCRIPTION}: capabilities is {found!r}; it must be a list")
    return [str(one) for one in found]


def require(directory: Path, capability: Capability) -> None:
    """Refuse a system that cannot do something, without loading it. ValueError with one line."""
    can, family = capabilities(directory), read_description(directory)["family"]
    if capability not in can:
        raise ValueError(f"a {family} system cannot {capability}; it can {', '.join(can)}")


def load_system(directory: Path | str, device: str | torch.device = "cpu") -> System:
    """Load what `save_system` wrote. ValueError names what is missing, unknown or does not fit."""
    folder = Path(directory)
    description = read_description(folder)
    digests = _mapping(description.get("digests", {}))
    _check_digests(folder, digests)
    kind = system_kind(str(description["family"]))
    codecs = {"codec": _load_codec(folder, description["codec"], description["codec_identity"], device)}
    for role, entry in _mapping(description.get("codecs", {})).items():
        given = _mapping(entry)
        codecs[role] = _load_codec(folder, given["codec"], given["identity"], device)
    names, generators = _load_generators(
        folder, str(description["family"]), kind, description["generators"], digests, device
    )
    text = None if description["text"] is None else _front_end(folder, _mapping(description["text"]))
    if text is None and any(role in generators for role in kind.text_roles):
        raise ValueError(f"{folder}: a {description['family']} system needs a text front end")
    options = _mapping(description["options"])
    stages = _text_stages(names, generators, text)
    return kind.build(Parts(generators, codecs, stages, text, options, torch.device(device)))


def _load_generators(
    folder: Path,
    family: str,
    kind: SystemKind,
    paths: Json,
    digests: Mapping[str, Json],
    device: str | torch.device,
) -> tuple[dict[str, str], dict[str, nn.Module]]:
    """The trainable's name and the module of each role."""
    names: dict[str, str] = {}
    found: dict[str, nn.Module] = {}
    given = _mapping(paths)
    for role, allowed in kind.roles.items():
        if role not in given:
            if role in kind.optional:
                continue
            raise ValueError(f"{folder}: a {family} system needs the generator {role!r}")
        part = _inside(folder, given[role])
        base = part if read_adapter(part) is None else part / BASE
        known = digests.get((base / WEIGHTS).relative_to(folder).as_posix())
        name, module = load_shared(part, device, None if known is None else str(known))
        if name not in allowed:
            raise ValueError(f"{folder}: generator {role} is a {name}; it must be a {' or '.join(allowed)}")
        names[role], found[role] = name, module
    unknown = sorted(given.keys() - kind.roles.keys())
    if unknown:
        raise ValueError(
            f"{folder}: a {family} system has no part {unknown[0]!r}; its parts: {', '.join(kind.roles)}"
        )
    return names, found


def _text_stages(
    names: Mapping[str, str], generators: Mapping[str, nn.Module], text: TextFrontEnd | None
) -> dict[str, TextStage[object]]:
    """Stages that can begin a cascade, by role."""
    makers = {role: trainable(name).text_stage for role, name in names.items()}
    return {
        role: partial(maker, generators[role], text)
        for role, maker in makers.items()
        if maker is not None and text is not None
    }


def _copy_codec(source: str, directory: Path, role: str) -> tuple[str, dict[str, Json]]:
    """The entry of a codec in `system.json`: its source, as a folder inside `directory` where it was a directory."""
    loaded = load_codec(source)
    identity = _identity(loaded)
    place = codec_directory(source)
    if place is not None:
        shutil.copytree(place, directory / role)
        return role, identity
    return f"{loaded.name}@{loaded.edition}", identity


def _load_codec(folder: Path, source: Json, identity: Json, device: str | torch.device) -> Codec:
    # A codec's name has no slash; anything else is a folder of the system's own.
    inside = folder / str(source)
    named = str(source) if not inside.is_dir() and Path(str(source)).name == source else None
    described = _mapping(identity)
    levels = described.get("n_codebooks")
    if not isinstance(levels, int):
        raise ValueError(f"{folder / DESCRIPTION}: a codec's identity lacks the number n_codebooks")
    codec = load_levels(named or str(_inside(folder, source)), levels, device)
    now = _identity(codec)
    for key, was in described.items():
        if now.get(key) != was:
            raise ValueError(
                f"{folder}: codec {source} has {key} {now.get(key)}; the system was made with {was}"
            )
    return codec


def _front_end(folder: Path, description: Mapping[str, Json]) -> TextFrontEnd:
    """The text front end, whose files are the system's own: never a hub's, never another folder's."""
    if "source" in description:
        _inside(folder, description["source"])
    return text_front_end(description, folder)


def _inside(folder: Path, part: Json) -> Path:
    """A folder of the system directory. ValueError for one that is absent or leads out of it."""
    path = folder / str(part)
    if not isinstance(part, str) or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / DESCRIPTION}: the part {part!r} is not inside the system's directory")
    if not path.is_dir():
        raise ValueError(f"{folder / DESCRIPTION}: the part {part!r} is not there")
    return path


def _files(folder: Path) -> list[str]:
    """The files of the parts: a flipped bit in a size or a symbol map changes the speech as one in a weight does."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _check_digests(folder: Path, digests: Mapping[str, Json]) -> None:
    """ValueError naming a file that is not what `save_system` wrote."""
    for file, digest in digests.items():
        path = folder / file
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if _sha256(path) != digest:
            raise ValueError(f"{path} is damaged: its sha256 is not the one in {DESCRIPTION}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(codec: Codec) -> dict[str, Json]:
    names = (field.name for field in dataclasses.fields(TokenIdentity))
    return {name: getattr(codec, name) for name in names if hasattr(codec, name)}


def _mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{DESCRIPTION}: {value!r} must be an object")
    return value


def _write(directory: Path, description: Mapping[str, Json]) -> None:
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
