"""The one registry: every family's manifest, and finding what they hold by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from models.autoencoder8d.family import FAMILY as AUTOENCODER8D
from models.codecs.dac.family import FAMILY as DAC
from models.codecs.maskgct_acoustic.family import FAMILY as MASKGCT_ACOUSTIC
from models.codecs.mill.family import FAMILY as MILL
from models.codecs.speechtokenizer.family import FAMILY as SPEECHTOKENIZER
from models.codecs.transformers.family import FAMILY as TRANSFORMERS
from models.flow_matching.family import FAMILY as FLOW_MATCHING
from models.manifest import (
    Bundle,
    CodecLoader,
    Family,
    ForeignConfig,
    Format,
    FormatGroup,
    SystemKind,
    Trainable,
)
from models.maskgct.family import FAMILY as MASKGCT
from models.semantic.family import FAMILY as SEMANTIC
from models.soundstorm.family import FAMILY as SOUNDSTORM
from models.toktts.family import FAMILY as TOKTTS
from models.valle.family import FAMILY as VALLE

FAMILIES: tuple[Family, ...] = (
    MASKGCT,
    AUTOENCODER8D,
    SOUNDSTORM,
    FLOW_MATCHING,
    VALLE,
    TOKTTS,
    SEMANTIC,
    MILL,
    DAC,
    MASKGCT_ACOUSTIC,
    SPEECHTOKENIZER,
    TRANSFORMERS,
)

T = TypeVar("T")


def trainable(name: str) -> Trainable:
    """The trainable network of that name; ValueError naming the known ones otherwise."""
    return _found("model family", name, {one.name: one for family in FAMILIES for one in family.trainables})


def family_of(trainable_name: str) -> Family:
    """The family that has a trainable of that name; ValueError as `trainable`."""
    known = {one.name: family for family in FAMILIES for one in family.trainables}
    return _found("model family", trainable_name, known)


def system_kind(name: str) -> SystemKind:
    """The kind of system of that name; ValueError naming the known ones otherwise."""
    return _found("system family", name, _merged(family.systems for family in FAMILIES))


def checkpoint_format(name: str) -> Format:
    """The published checkpoint format of that name; ValueError naming the known ones otherwise."""
    return _found("checkpoint source", name, _merged(family.formats for family in FAMILIES))


def format_of(name: str, path: Path) -> str:
    """The format that `name`, which may stand for several of a program, means for what is at `path`.

    ValueError if that is none of them; a name that is unknown comes back as it is.
    """
    group = format_groups().get(name)
    return name if group is None else group.format_of(path)


def format_groups() -> dict[str, FormatGroup]:
    """Names that stand for several formats."""
    return _merged(family.format_groups for family in FAMILIES)


def writable_formats(trainable_name: str) -> list[str]:
    """The published formats that a trainable's networks can be written in."""
    formats = _merged(family.formats for family in FAMILIES)
    return [name for name, one in formats.items() if one.write is not None and one.produces == trainable_name]


def foreign_config(program: str) -> ForeignConfig:
    """The configuration files of that program; ValueError naming the known ones otherwise."""
    return _found(
        "program", program, {key: one for family in FAMILIES for key, one in family.configs.items()}
    )


def bundles() -> dict[str, Bundle]:
    """Released directories by name."""
    return _merged(family.bundles for family in FAMILIES)


def codec_loader(kind: str) -> CodecLoader:
    """Reads codec directories of that kind; ValueError naming the known ones otherwise."""
    return _found("codec kind", kind, _merged(family.codecs for family in FAMILIES))


def codec_kinds() -> tuple[str, ...]:
    """The kinds that `codec_loader` knows."""
    return tuple(_merged(family.codecs for family in FAMILIES))


def codec_examples() -> dict[str, Callable[[Path], None]]:
    """Tiny codecs: name -> what writes the directory of one."""
    return _merged(family.codec_examples for family in FAMILIES)


def _merged(parts: Iterable[Mapping[str, T]]) -> dict[str, T]:
    merged: dict[str, T] = {}
    for part in parts:
        twice = sorted(merged.keys() & part.keys())
        assert not twice, f"two families claim {twice}"
        merged |= part
    return merged


def _found(what: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}{hint}")
    return known[name]
