"""A family's manifest: its trainable networks, systems, codecs and published checkpoint formats.

`models/<family>/family.py` holds one `Family`; `models.families` lists them all. Nothing else names a family.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from models.building import built
from models.checkpoints import Json, StateReader

if TYPE_CHECKING:
    from models.cascade import TextStage, TextToTokens
    from models.codecs.interface import Codec
    from models.identity import TokenIdentity
    from models.system import System
    from models.text.front_ends import TextFrontEnd

Row: TypeAlias = Mapping[str, Tensor]
"""The inputs of one row by name, without a batch axis and without padding."""


@dataclass(frozen=True)
class Padding:
    """Padding that a batch gets beyond what its rows need; results must not depend on it."""

    extra: int = 0
    """Positions more than the longest row has."""
    side: Literal["left", "right"] = "right"
    """Only where the network allows padding on either side."""
    junk: int = 0
    """The value (a code or token id) that stands at padding."""


@dataclass(frozen=True)
class Example:
    """A tiny configuration and the inputs of a few rows of different lengths, for contract tests and benchmarks."""

    config: Any
    rows: tuple[Row, ...]
    batch: Callable[[Sequence[Row], Padding], dict[str, Tensor]]
    """Rows -> the keyword arguments of the module's `forward`."""
    part: Callable[[Tensor, Row], Tensor]
    """One row of the output -> its valid part, as long as that row alone would give."""
    hide: Callable[[Row], Row] | None = None
    """Changes what the network must not see (hidden codes, later positions) and nothing else."""
    no_gradient: tuple[str, ...] = ()
    """Parameters that learn from a loss of their own, not through the output of `forward`."""


TextStageMaker: TypeAlias = (
    "Callable[[nn.Module, TextFrontEnd, TokenIdentity, Mapping[str, Json]], TextToTokens[Any]]"
)


@dataclass(frozen=True)
class Trainable:
    """A network that an objective trains. `name` is what fit configurations and stored generators say."""

    name: str
    config: type[Any]
    """Frozen dataclass."""
    module: Callable[[Any], nn.Module]
    """config -> network; usually the class itself."""
    example: Callable[[], Example] | None = None
    """None for codecs: what they promise is tested through `models.codecs.interface`."""
    text_stage: TextStageMaker | None = None
    """Makes the first stage of a cascade of it; None for a network that is none."""


@dataclass(frozen=True)
class Format:
    """A kind of published checkpoint."""

    files: Callable[[Path], tuple[Mapping[str, Json], Mapping[str, Tensor]]]
    """A file or directory as released -> the reference's configuration and state dict. No code in it is run."""
    convert: Callable[[Mapping[str, Json], StateReader], nn.Module]
    """Build our module with those weights; every key must be taken or ignored by name."""
    produces: str
    """The trainable whose weights these are, `codec`, or `parts`: networks of several kinds, which nothing stores but
    `models.interop` loads."""
    save: Callable[[nn.Module, Path], None] | None = None
    """Write a codec directory; None for a trainable, which becomes a generator directory."""
    write: Callable[[nn.Module, Path, Mapping[str, int], int], None] | None = None
    """Write a network as a file that `files` reads: (network, path, symbol map, step). ValueError for one that the
    layout cannot hold. None: nothing writes it."""
    symbols: Callable[[Path], Mapping[str, int]] | None = None
    """The symbol map (phone -> text token) that a file or directory holds, empty if it holds none. None: the format has
    no place for one."""

    def converted(self, config: Mapping[str, Json], source: str, state: Mapping[str, Tensor]) -> nn.Module:
        """`convert` of weights that `source` names, where the configuration's sizes are not absurd for them.

        ValueError as from `convert`.
        """
        return built(lambda: self.convert(config, StateReader(source, state)), state.values())


@dataclass(frozen=True)
class FormatGroup:
    """One name for the formats of a program that writes several kinds of network alike."""

    formats: tuple[str, ...]
    format_of: Callable[[Path], str]
    """The one of `formats` that a file or directory is in. ValueError if it is in none."""


@dataclass(frozen=True)
class ForeignKey:
    """A setting of another program's configuration file."""

    theirs: str
    """Dotted; `models.size` is the key `size` of every entry of `models`."""
    ours: str
    """What becomes of it, in the words of the documented table; "" for a key that is read and not used."""
    note: str
    """How its value is translated, or why it is not used."""


@dataclass(frozen=True)
class ConvertedConfig:
    """Our settings that say what another program's configuration file says."""

    fits: Mapping[str, Mapping[str, Json]]
    """Fit configurations by the name of their file."""
    options: Mapping[str, Json]
    """Sampling options of the assembled system."""
    ignored: Mapping[str, str]
    """Given keys that have no meaning here -> why."""


@dataclass(frozen=True)
class ForeignConfig:
    """A kind of configuration file of another program."""

    keys: tuple[ForeignKey, ...]
    """Every key that is understood."""
    convert: Callable[[Mapping[str, Json], Collection[str]], ConvertedConfig]
    """(the file, further keys to ignore) -> our settings. ValueError names an unknown key or a value that has no
    counterpart."""


@dataclass(frozen=True)
class Bundle:
    """A released directory: which format lies where in it, and the system that they make."""

    system: str
    parts: Mapping[str, tuple[str, str]]
    """Role -> (format, path inside the directory)."""


@dataclass(frozen=True)
class Parts:
    """Loaded parts that a system is built of."""

    generators: Mapping[str, nn.Module]
    """By role."""
    codecs: Mapping[str, Codec]
    """By role; the one that makes the waveform is `codec`."""
    text_stages: Mapping[str, TextStage[object]]
    """By role, of the generators that can begin a cascade."""
    text: TextFrontEnd | None
    options: Mapping[str, Json]
    device: torch.device

    @property
    def codec(self) -> Codec:
        """The codec that makes the waveform. ValueError if there is none."""
        if "codec" not in self.codecs:
            raise ValueError("the system has no codec; it needs one in the role 'codec'")
        return self.codecs["codec"]


@dataclass(frozen=True)
class SystemKind:
    """A way to put parts together. `roles` maps each role to the trainables that may fill it."""

    build: Callable[[Parts], System]
    roles: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()
    """Roles that may be left empty."""
    codec_roles: tuple[str, ...] = ()
    """Roles of codecs besides the one that makes the waveform; a role that is not filled is that one's, too."""
    trained_on: Mapping[str, str] = field(default_factory=dict)
    """Role of the codec whose codes a generator was trained on, by the generator's role, where that is not `codec`."""
    text_roles: tuple[str, ...] = ()
    """Roles that read text; a system in which one of them is filled has a text front end."""
    text_options: str = ""
    """The option under which those of the text stage stand; "" if they are the system's own."""


CodecLoader: TypeAlias = "Callable[[Path, str | torch.device], Codec]"


@dataclass(frozen=True)
class Family:
    """Everything that the rest of the program knows of a family."""

    name: str
    trainables: tuple[Trainable, ...] = ()
    systems: Mapping[str, SystemKind] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)
    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    format_groups: Mapping[str, FormatGroup] = field(default_factory=dict)
    configs: Mapping[str, ForeignConfig] = field(default_factory=dict)
    """Configuration files of published programs, by the program."""
    codecs: Mapping[str, CodecLoader] = field(default_factory=dict)
    """`kind` of a codec directory -> its loader."""
    codec_examples: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """By a name of their own: each writes the directory of a tiny codec, for contract tests and benchmarks."""
