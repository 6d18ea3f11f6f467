"""A training configuration of another program becomes configurations of ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from catalog.command import UsageError
from catalog.files import write_text
from catalog.strict_yaml import format_yaml, parse_yaml
from models.checkpoints import Record
from models.families import foreign_config
from models.manifest import ForeignKey
from trainers.settings import load_fit


def import_config(
    program: str, path: Path, output: Path, dataset: str | None = None, ignore: Collection[str] = ()
) -> Record:
    """Write `output`/NAME.yaml for each network that the file at `path` describes; `fit` reads them.

    `dataset` becomes their `data.dataset`; without it they stand for `datasets/NAME-OF-THE-FILE`. Returns the files,
    the keys that were ignored with the reason, and options for `assemble`. UsageError for an unknown program, a file
    that is no YAML, an unknown key (unless it is in `ignore`), a value without a counterpart, and a file that is there.
    """
    try:
        known = foreign_config(program)
        given = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(given, dict):
            raise ValueError("it is no mapping of keys")
        converted = known.convert(given, ignore)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    files = [output / f"{name}.yaml" for name in converted.fits]
    for file in files:
        if file.exists():
            raise UsageError(f"{file} is there already; give another folder with --output")
    output.mkdir(parents=True, exist_ok=True)
    for file, fit in zip(files, converted.fits.values(), strict=True):
        data = {"dataset": dataset or f"datasets/{path.stem}", **_section(fit["data"])}
        head = f"# From {path.name} of {program}.\n"
        write_text(file, head + format_yaml({**fit, "data": data}))
        load_fit(file)
    options = [f"options.{name}={value}" for name, value in converted.options.items()]
    return {"files": [str(file) for file in files], "ignored": dict(converted.ignored), "assemble": options}


def table_of_keys(keys: Collection[ForeignKey]) -> str:
    """The Markdown table that documents them."""
    rows = [f"| `{key.theirs}` | {_ours(key)} | {key.note} |" for key in keys]
    return "\n".join(["| theirs | ours | |", "|---|---|---|", *rows])


def _ours(key: ForeignKey) -> str:
    name, of, job = key.ours.partition(" of ")
    return f"`{name}`{of}{job}" if key.ours else "ignored"


def _section(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)
    return value
