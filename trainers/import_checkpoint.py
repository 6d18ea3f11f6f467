"""A published checkpoint becomes a registered generator or codec."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from catalog.command import JobError, UsageError, require_absolute_under_ray_job
from catalog.models import promote, register
from models.checkpoints import Record, state_digest
from models.families import checkpoint_format, format_groups, format_of
from models.generators import save_generator
from models.text.front_ends import PhonemeFrontEnd
from models.text.symbols import SymbolTable
from models.text.treatment import Treatment


def import_checkpoint(source: str, path: Path, name: str, alias: str | None, uri: str) -> Record:
    """Convert `path`, a file or folder as released, of the format `source` and register it as `name`.

    The symbol map that it holds becomes the generator's text front end. UsageError for an unknown format; JobError
    names missing files and what is wrong with a state dict: keys not consumed, missing, or of other shapes.
    """
    require_absolute_under_ray_job(tracking_uri=uri)
    if source not in format_groups():
        _known(source)
    try:
        source = format_of(source, path)
        published = checkpoint_format(source)
        if published.produces == "parts":
            raise UsageError(
                f"{source} is of several networks: models.interop loads it, nothing registers it"
            )
        config, state = published.files(path)
        module = published.converted(config, source, state)
        symbols = published.symbols(path) if published.symbols is not None else {}
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise JobError(f"{path} is no {source}: {error}") from error
    record = {"family": published.produces, "source": source, "weights_sha256": state_digest(state)}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        if published.save is not None:
            published.save(module, directory)
        else:
            save_generator(module, published.produces, directory)
            if symbols:
                _write_text(symbols, path, directory)
        (directory / "import.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        version = register(directory, name, tracking_uri=uri, tags=record)
    if alias is not None:
        promote(name, version, alias, uri)
    parameters = sum(p.numel() for p in module.parameters())
    found = {"parameters": parameters, "symbols": len(symbols)}
    return {**record, **found, "name": name, "version": version, "alias": alias}


def _known(source: str) -> None:
    try:
        checkpoint_format(source)
    except ValueError as error:
        groups = ", ".join(sorted(format_groups()))
        raise UsageError(f"{error} (or a program, whose format is recognised: {groups})") from error


def _write_text(symbols: Mapping[str, int], path: Path, directory: Path) -> None:
    """`text.json`: phones by the file's own map, so that the network speaks as it was trained."""
    table = SymbolTable(str(path), dict(symbols), max(symbols.values()) + 1, spelled=False)
    description = PhonemeFrontEnd(table, Treatment()).save(directory)
    description.pop("espeak_ng", None)  # nobody knows which one made its phones
    (directory / "text.json").write_text(json.dumps(description) + "\n", encoding="utf-8")
