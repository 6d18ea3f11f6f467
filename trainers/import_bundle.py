"""A released directory of several networks becomes a registered system."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from catalog.command import JobError, require_absolute_under_ray_job
from catalog.models import promote, register
from catalog.pyfunc import system_signature
from models.checkpoints import Json, Record, read_json, state_digest
from models.families import bundles, checkpoint_format, system_kind
from models.generators import save_generator
from models.manifest import Bundle
from models.semantic.directory import save_directory
from models.semantic.repcodec import RepCodec
from models.semantic.source import TokenizerSource
from models.system_files import capabilities, save_system
from trainers.assemble import PYFUNC

STATISTICS = "wav2vec2bert_stats.pt"


@dataclass(frozen=True)
class Further:
    """Parts that a release does not hold."""

    w2v_bert: str = ""
    """Directory or hub id of the network whose features its semantic tokenizer reads; empty: the published one."""
    layer: int = TokenizerSource.layer
    statistics: Path | None = None
    """Of these features; None: `wav2vec2bert_stats.pt` of the release, if it is there."""
    phones: Path | None = None
    """JSON file of phone -> id; None: the system cannot speak."""


def import_bundle(
    source: str, path: Path, further: Further, name: str, alias: str | None, uri: str
) -> Record:
    """Convert all networks below `path` and register the system that they make as `name`.

    JobError names a part that is missing or wrong. `notes` of the result say what the system lacks, and why.
    """
    require_absolute_under_ray_job(tracking_uri=uri)
    bundle, notes = bundles()[source], []
    kind = system_kind(bundle.system)
    with tempfile.TemporaryDirectory() as folder:
        place, system = Path(folder) / "parts", Path(folder) / "system"
        text = _text(further.phones, place)
        if text is None:
            notes.append("no --phones FILE with the ids of its phones: it converts voices and cannot speak")
        left_out = kind.text_roles if text is None else ()
        parts = {role: place / role for role in bundle.parts if role not in left_out}
        digests = {role: _convert(bundle, role, path, further, target) for role, target in parts.items()}
        if _statistics(path, further) is None:
            notes.append(
                f"no {STATISTICS}: features are not normalised, and its tokens are not those of the release"
            )
        try:
            save_system(
                system,
                bundle.system,
                codec=str(parts["codec"]),
                generators={role: target for role, target in parts.items() if role in kind.roles},
                text=text,
                codecs={role: str(parts[role]) for role in kind.codec_roles},
            )
        except (ValueError, OSError) as error:
            raise JobError(f"the parts of {path} do not make a system: {error}") from error
        can = capabilities(system)
        record = {"family": bundle.system, "source": source, "weights_sha256": digests}
        tags = {"family": bundle.system, "source": source}
        version = register(
            system, name, tracking_uri=uri, tags=tags, pyfunc_script=PYFUNC, signature=system_signature(can)
        )
    if alias is not None:
        promote(name, version, alias, uri)
    return {**record, "capabilities": can, "notes": notes, "name": name, "version": version, "alias": alias}


def _convert(bundle: Bundle, role: str, path: Path, further: Further, target: Path) -> str:
    """Write one part as a directory of ours; the digest of its published weights."""
    source, inside = bundle.parts[role]
    published = checkpoint_format(source)
    try:
        config, state = published.files(path / inside)
        digest = state_digest(state)
        module = published.converted(config, source, state)
        if published.save is not None:
            published.save(module, target)
        elif role in system_kind(bundle.system).codec_roles:
            _save_tokenizer(module, path, further, target)
        else:
            save_generator(module, published.produces, target)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise JobError(f"{path / inside} is no {source}: {error}") from error
    return digest


def _save_tokenizer(module: nn.Module, path: Path, further: Further, target: Path) -> None:
    assert isinstance(module, RepCodec)
    statistics = str(_statistics(path, further) or "")
    source = TokenizerSource(str(path), further.w2v_bert, statistics, further.layer)
    save_directory(module, source, target)


def _statistics(path: Path, further: Further) -> Path | None:
    if further.statistics is not None:
        return further.statistics
    return path / STATISTICS if (path / STATISTICS).is_file() else None


def _text(phones: Path | None, folder: Path) -> dict[str, Json] | None:
    """The text front end of a table of phones; Amphion's files hold it under `vocab`."""
    folder.mkdir(parents=True)
    if phones is None:
        return None
    try:
        table = read_json(phones)
    except (ValueError, OSError) as error:
        raise JobError(f"--phones {phones}: {error}") from error
    inner = table.get("vocab", table)
    symbols = folder / "phones.json"
    symbols.write_text(json.dumps(inner, ensure_ascii=False), encoding="utf-8")
    return {"kind": "phonemes", "symbols": str(symbols)}
