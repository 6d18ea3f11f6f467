"""A trained network becomes a file of a published program."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from catalog.command import JobError, UsageError
from catalog.files import written_aside
from catalog.models import resolve
from models.checkpoints import Record
from models.families import checkpoint_format, format_groups, writable_formats
from models.generators import load_generator
from models.text.front_ends import PhonemeFrontEnd, text_front_end


def export_checkpoint(source: str, path: Path, wanted: str | None, uri: str) -> Record:
    """Write the generator `source`, a directory or models:/ URI, to `path` in the format `wanted`.

    None takes the one format that there is for such a network. The file is read back, and its weights compared, before
    it is there. UsageError for a format that does not fit; JobError for a network that the format cannot hold.
    """
    directory = resolve(source, uri)
    family, module = load_generator(directory)
    name = _format(family, wanted)
    published = checkpoint_format(name)
    assert published.write is not None
    symbols = _symbols(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_aside(path) as aside:
            published.write(module, aside, symbols, _step(directory))
            config, state = published.files(aside)
            _compare(module, published.converted(config, str(path), state))
    except ValueError as error:
        raise JobError(f"{source} cannot be written as {name}: {error}") from error
    return {"family": family, "format": name, "path": str(path), "symbols": len(symbols)}


def _format(family: str, wanted: str | None) -> str:
    can = writable_formats(family)
    if not can:
        raise UsageError(f"no published format is written from a {family}")
    groups = {name: [one for one in group.formats if one in can] for name, group in format_groups().items()}
    meant = can if wanted is None else groups.get(wanted) or [one for one in can if one == wanted]
    if not meant:
        names = [*can, *(name for name, formats in groups.items() if formats)]
        raise UsageError(f"--format {wanted}: a {family} is written as {' or '.join(names)}")
    return meant[0]


def _symbols(directory: Path) -> dict[str, int]:
    """The phones of its text front end and their ids; none where it does not read phones."""
    path = directory / "text.json"
    if not path.is_file():
        return {}
    front_end = text_front_end(json.loads(path.read_text(encoding="utf-8")), directory)
    return dict(front_end.symbols) if isinstance(front_end, PhonemeFrontEnd) else {}


def _step(directory: Path) -> int:
    path = directory / "training.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["step"]) if path.is_file() else 0


def _compare(module: torch.nn.Module, read: torch.nn.Module) -> None:
    """ValueError for a tensor whose values did not come back; tables may have got more rows."""
    state = read.state_dict()
    for name, tensor in module.state_dict().items():
        rows = tuple(slice(size) for size in tensor.shape)
        if name not in state or not torch.equal(state[name][rows], tensor.float()):
            raise ValueError(f"{name} does not come back from the file")
