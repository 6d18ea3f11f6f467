"""Generators, a codec and a text front end become a registered system that speaks."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from catalog.command import JobError, UsageError, require_absolute_under_ray_job
from catalog.config import Settings, load_config
from catalog.models import promote, register, resolve
from catalog.outward import say
from catalog.pyfunc import system_signature
from models.checkpoints import Json, Record, Values, read_json
from models.codec_sources import load_codec
from models.codecs.interface import Codec
from models.families import system_kind
from models.generators import CONFIG, load_generator
from models.identity import TokenIdentity
from models.manifest import SystemKind
from models.semantic.directory import save_directory
from models.semantic.hubert import UNITS
from models.semantic.repcodec import RepCodec
from models.semantic.source import TokenizerSource
from models.settings import dataclass_from
from models.system_files import capabilities, save_system
from models.text.front_ends import comparable, located
from models.text.verbalize import EDITION
from trainers.adapter import base_of
from trainers.lineage import exact, system_tags
from trainers.model_card import model_card
from trainers.objectives import DataInfo

PYFUNC = Path(__file__).with_name("pyfunc.py")


class AssembleSettings(Settings):
    """Settings of a system besides its parts."""

    options: Record = Field(default_factory=dict, description="sampling defaults of the system")
    text: Record | None = Field(
        default=None, description="text front end; the one the generators were trained with if absent"
    )
    semantic: Record = Field(
        default_factory=dict,
        description="features, statistics, layer and metric of a RepCodec, or features of cells, given as a part",
    )


def assemble(
    family: str,
    given: Mapping[str, str],
    codec: str,
    name: str,
    alias: str | None,
    overrides: Sequence[str] = (),
    *,
    uri: str,
    dry_run: bool = False,
) -> Record:
    """Build a system of the kind `family` of its parts and register it as `name`.

    `given` maps roles to directories or models:/ URIs; roles of further codecs take codec sources. What the parts
    measured of their training data (frames of a token and a sentence) become options unless the settings say otherwise.
    UsageError for a role that the system does not have or lacks; JobError names parts that do not fit: another codec,
    another text front end, other sizes.
    """
    settings = load_config(AssembleSettings, None, overrides)
    require_absolute_under_ray_job(tracking_uri=uri)
    with tempfile.TemporaryDirectory() as folder:
        system = Path(folder) / "system"
        result = write_system(system, family, given, codec, settings, uri=uri)
        if dry_run:
            return result
        parts = result["generators"]
        records = {role: _record(system / role) for role in parts}
        tags = system_tags(system, parts, records)
        card = model_card(system, name, parts, records)
        signature = system_signature(capabilities(system))
        version = register(
            system,
            name,
            tracking_uri=uri,
            tags=tags,
            pyfunc_script=PYFUNC,
            signature=signature,
            description=card,
        )
    if alias is not None:
        promote(name, version, alias, uri)
    return {**result, "name": name, "version": version, "alias": alias, "model": f"models:/{name}/{version}"}


def write_system(
    directory: Path,
    family: str,
    given: Mapping[str, str],
    codec: str,
    settings: AssembleSettings,
    *,
    uri: str,
) -> Record:
    """Write the system directory that `assemble` registers; returns what the parts decided. Errors as `assemble`."""
    kind = _kind(family, given)
    codecs = {
        role: _tokenizer(source, settings.semantic, directory.with_name(role), uri)
        for role, source in given.items()
        if role in kind.codec_roles
    }
    generators = {role: exact(source, uri) for role, source in given.items() if role not in codecs}
    parts = {role: resolve(source, uri) for role, source in generators.items()}
    records = {role: _record(part) for role, part in parts.items()}
    for role, record in records.items():
        trained_on = kind.trained_on.get(role, "codec")
        _check_codecs(f"{role} {generators[role]}", record, trained_on, {"codec": codec, **codecs})
    readers = {role: part for role, part in parts.items() if role in kind.text_roles}
    text = (settings.text or common_text(readers, generators)) if readers else None
    options = _options(kind, records, settings.options)
    found = {role: base_of(part, f"{role} {generators[role]}", uri) for role, part in parts.items()}
    bases = {role: base for role, base in found.items() if base is not None}
    try:
        save_system(
            directory,
            family,
            codec=codec,
            generators=parts,
            text=text,
            options=options,
            codecs=codecs,
            bases=bases,
        )
    except ValueError as error:
        raise JobError(f"the parts do not make a system: {error}") from error
    return {
        "family": family,
        "codec": codec,
        "text": text,
        "options": options,
        "generators": dict(generators),
    }


def _tokenizer(source: str, features: Values, directory: Path, uri: str) -> str:
    """The source of a further codec; a RepCodec and k-means cells are made one, with their features, in `directory`."""
    place = resolve(source, uri) if source.startswith("models:") else Path(source)
    described = read_json(place / CONFIG) if (place / CONFIG).is_file() else {}
    trained, cells = described.get("family") == "repcodec", described.get("kind") == UNITS
    if not trained and not cells:
        return source
    try:
        module = load_generator(place)[1] if trained else place
        assert isinstance(module, RepCodec | Path)
        given = dataclass_from(TokenizerSource, {"tokenizer": source, **features}, "semantic")
        save_directory(module, given, directory)
    except (ValueError, OSError) as error:
        raise JobError(f"{source}: {error}") from error
    return str(directory)


def _record(generator: Path) -> Record:
    """Record of its training; empty for an imported checkpoint. ValueError for one that is damaged."""
    path = generator / "training.json"
    found = dict(read_json(path)) if path.is_file() else {}
    for name in ("data", "codecs", "statistics"):
        if not isinstance(found.get(name, {}), Mapping):
            raise ValueError(f"{path}: {name} is {found[name]!r:.60}; it must be an object")
    return found


def _check_codecs(what: str, record: Values, trained_on: str, given: Mapping[str, str]) -> None:
    """Codes mean nothing to another codec, nor to other weights of the same one.

    `trained_on` is the role of the codec of the data, `given` has the sources by role.
    """
    if "data" not in record:
        return
    try:
        data = DataInfo.from_record(record["data"])
        made = {trained_on: (data.codec, data.codec_sha256)}
        for role, fields in record.get("codecs", {}).items():
            identity = TokenIdentity(**fields)
            made[role] = (identity.source, identity.weights_sha256)
        for role, (source, weights) in made.items():
            _check_codec(what, source, weights, load_codec(given.get(role, given["codec"])), role)
    except (TypeError, AttributeError) as error:
        raise JobError(f"{what}: its training.json does not describe codecs: {error}") from error
    except ValueError as error:
        raise JobError(str(error)) from error


def _check_codec(what: str, source: str, weights: str, found: Codec, role: str) -> None:
    now = found.identity
    # A codec that was given as a directory is known by its weights.
    if now.source != source and not (weights and weights == now.weights_sha256):
        hint = "" if role == "codec" else f"; --part {role}=SOURCE gives another one"
        raise JobError(f"{what} was trained on codes of {source}: the codec is {now.source}{hint}")
    if now.weights_sha256 != weights:
        raise JobError(
            f"{what} was trained on codes of {source} with the weights {weights[:12]}: "
            f"the weights of {now.source} are now {now.weights_sha256[:12]}"
        )


def _options(kind: SystemKind, records: Mapping[str, Values], given: Values) -> Record:
    """Statistics of the training data of the first part that has some, overridden by the given options.

    Frames a token, a word and a sentence are one measurement: who gives the first replaces all.
    """
    options: Record = {}
    for role, record in [(role, records[role]) for role in kind.roles if role in records]:
        place = kind.text_options if role in kind.text_roles else ""
        measured = {key: round(value, 3) for key, value in record.get("statistics", {}).items()}
        chosen = given.get(place, {}) if place else given
        if "frames_per_token" in chosen:
            measured = {key: value for key, value in measured.items() if not key.startswith("frames_per_")}
        if place and measured:
            options.setdefault(place, measured)
        elif not options.keys() & measured:
            options |= measured
    for key, value in given.items():
        inner = options.get(key)
        options[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return options


def _kind(family: str, given: Mapping[str, str]) -> SystemKind:
    try:
        kind = system_kind(family)
    except ValueError as error:
        raise UsageError(str(error)) from error
    roles = [*kind.roles, *kind.codec_roles]
    for role in given:
        if role not in roles:
            raise UsageError(
                f"--part {role}: a {family} system has no such part; its parts: {', '.join(roles)}"
            )
    for role in kind.roles:
        if role not in given and role not in kind.optional:
            raise UsageError(f"a {family} system needs --part {role}=SOURCE; its parts: {', '.join(roles)}")
    return kind


def common_text(parts: Mapping[str, Path], generators: Mapping[str, str]) -> dict[str, Json]:
    """The front end of all generators, with absolute paths of its files; `generators` names them in messages.

    Of several editions of the spoken forms it states the oldest, and says so in one line. JobError where generators
    were trained with front ends that differ otherwise.
    """
    found: dict[str, dict[str, Json]] = {}
    digests: dict[str, str] = {}
    for role, part in parts.items():
        if not (part / "text.json").is_file():
            raise UsageError(
                f"{role} {generators[role]} does not say its text front end: give --set text.kind=..."
            )
        found[role] = dict(read_json(part / "text.json"))
        digests[role] = _digest(part / str(found[role]["source"])) if "source" in found[role] else ""
    first, *others = found.items()
    for role, description in others:
        if comparable(description) != comparable(first[1]):
            raise JobError(
                f"text front ends differ: {first[0]} has {first[1]}, {role} has {description}; "
                "--set text.kind=... (and the rest of it) speaks with another one"
            )
        if digests[role] != digests[first[0]]:
            raise JobError(
                f"text front ends differ: {first[0]} and {role} were trained with other tokenizer files"
            )
    editions = {role: _edition(description) for role, description in found.items()}
    if len(set(editions.values())) > 1:
        each = ", ".join(f"{role} on edition {edition}" for role, edition in editions.items())
        say(f"numbers are said by edition {EDITION} of the spoken forms; {each}: some may be known otherwise")
    oldest = min(found, key=lambda role: int(editions[role]))
    return located(found[oldest], parts[oldest])


def _edition(description: Mapping[str, Json]) -> str:
    """Edition of the spoken forms: the first where none is recorded."""
    return str(description.get("spoken_forms", "1"))


def _digest(tokenizer: Path) -> str:
    """sha256 of a tokenizer's files, by name."""
    files = sorted(path for path in tokenizer.rglob("*") if path.is_file())
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
