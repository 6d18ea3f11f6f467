"""`python -m catalog list|show|history|verify|compact|vacuum|promote`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog import command, models, upkeep
from catalog.command import JobError, UsageError
from catalog.datasets import Dataset
from catalog.outward import printable, without_secrets


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Mapping[str, object] | None]


def main(argv: Sequence[str] | None = None, program: str = "catalog") -> int:
    """Run one command and return the exit code; `program` is its name in messages."""
    return command.main(program, COMMANDS, argv)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=_location, help="also list the datasets in and below this folder"
    )
    _tracking_argument(parser)


def _list(arguments: argparse.Namespace) -> Mapping[str, object]:
    found = models.list_models(models.tracking_uri(arguments.tracking_uri))
    for one in found:
        print(f"model    {one.name:30} {one.version:4}  {', '.join(one.aliases)}")
    datasets, unreadable = [], []
    for log in sorted(_folder(arguments.folder).rglob("_delta_log")) if arguments.folder else []:
        try:
            dataset = Dataset.open(log.parent)
            datasets.append({"dataset": dataset.uri, **_numbers(dataset)})
        except JobError as error:  # damaged, or someone else's Delta table
            unreadable.append({"folder": str(log.parent), "error": str(error)})
            print(printable(f"unread   {error}"))
            continue
        uri = printable(dataset.uri)
        print(f"dataset  {uri:30} {dataset.version:4}  {datasets[-1]['hours']:.2f} h")
    return {
        "models": [dataclasses.asdict(one) for one in found],
        "datasets": datasets,
        "unreadable": unreadable,
    }


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        type=_location,
        help="a dataset, or a registered model as models:/name@alias or models:/name/3",
    )
    parser.add_argument("--version", type=int, help="of the dataset; default: the newest")
    _tracking_argument(parser)


def _show(arguments: argparse.Namespace) -> Mapping[str, object]:
    if arguments.what.startswith("models:/"):
        uri = models.tracking_uri(arguments.tracking_uri)
        shown = dataclasses.asdict(models.describe(arguments.what, uri))
        shown["directory"] = str(models.resolve(arguments.what, uri))
    else:
        dataset = Dataset.open(arguments.what, arguments.version)
        shown = {
            "dataset": dataset.uri,
            **_numbers(dataset),
            "codec": dataset.codec.as_dict(),
            "settings": dict(dataset.settings),
            "settings_digest": dataset.settings_digest,
        }
    for key, value in shown.items():
        print(printable(without_secrets(f"{key:16} {value}")))
    return shown


def _history(arguments: argparse.Namespace) -> Mapping[str, object]:
    dataset = Dataset.open(arguments.dataset)
    entries = upkeep.history(dataset)
    for one in entries:
        state = "" if one["readable"] else "  files are gone"
        print("{version:6}  {time}  {job:8} +{added} -{removed} files  {rows} rows".format(**one) + state)
    return {"dataset": dataset.uri, "versions": entries}


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _dataset_argument(parser)
    parser.add_argument("--version", type=int, help="default: the newest")


def _verify(arguments: argparse.Namespace) -> Mapping[str, object]:
    dataset = Dataset.open(arguments.dataset, arguments.version, damaged=True)
    shown = {
        "dataset": dataset.uri,
        "version": dataset.version,
        "codec": f"{dataset.codec.name}@{dataset.codec.edition}",
        "files": len(dataset.shards()),
    }
    print("{dataset}: version {version}, codec {codec}, {files} files".format(**shown))
    problems = []
    for problem in upkeep.problems(dataset):
        print(printable(f"{problem.path or dataset.uri}: {problem.what}"))
        problems.append(dataclasses.asdict(problem))
    if problems:
        print(json.dumps({**shown, "problems": problems}))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise JobError(f"{dataset.uri}: {count} in version {dataset.version}; see standard output")
    return {**shown, **dataclasses.asdict(dataset.totals()), "problems": []}


def _compact_arguments(parser: argparse.ArgumentParser) -> None:
    _dataset_argument(parser)
    parser.add_argument(
        "--target-mib",
        type=float,
        default=upkeep.DEFAULT_TARGET_BYTES / 2**20,
        help="size of a new file (default: 128)",
    )


def _compact(arguments: argparse.Namespace) -> Mapping[str, object]:
    dataset = Dataset.open(arguments.dataset)
    if not 0 < arguments.target_mib < math.inf:
        raise UsageError(f"--target-mib {arguments.target_mib:g}: must be a number above 0")
    result = upkeep.compact(dataset, max(1, int(arguments.target_mib * 2**20)))
    return {"dataset": dataset.uri, **dataclasses.asdict(result)}


def _vacuum_arguments(parser: argparse.ArgumentParser) -> None:
    _dataset_argument(parser)
    parser.add_argument(
        "--retention-hours",
        type=float,
        default=upkeep.DEFAULT_RETENTION_H,
        help="keep what left the table more recently than this (default: 168)",
    )
    parser.add_argument("--dry-run", action="store_true", help="name what would go, delete nothing")


def _vacuum(arguments: argparse.Namespace) -> Mapping[str, object]:
    result = upkeep.vacuum(Dataset.open(arguments.dataset), arguments.retention_hours, arguments.dry_run)
    verb = "would become" if arguments.dry_run else "are now"
    print(f"versions that {verb} unreadable: {result['unreadable_versions'] or 'none'}")
    return result


def _promote_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name/version, name@alias or models:/ before either")
    parser.add_argument("alias", help="the alias to point at that version, for example champion")
    _tracking_argument(parser)


def _promote(arguments: argparse.Namespace) -> Mapping[str, object]:
    uri = models.tracking_uri(arguments.tracking_uri)
    found = models.describe(arguments.model, uri)
    models.promote(found.name, found.version, arguments.alias, uri)
    return {"model": found.name, "version": found.version, "alias": arguments.alias}


def _dataset_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=_location, help="folder or URI of the dataset")


def _tracking_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")


def _location(text: str) -> str:
    """An argument that is not empty: for Path that would be the working directory."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; must be a folder or URI")
    return text


def _folder(location: str) -> Path:
    if not Path(location).is_dir():
        raise UsageError(f"{location}: no such folder")
    return Path(location)


def _numbers(dataset: Dataset) -> dict[str, object]:
    for problem in upkeep.missing_files(dataset)[:1]:
        raise JobError(f"{dataset.uri}/{problem.path}: {problem.what}; `catalog verify` names all problems")
    return {"version": dataset.version, **dataclasses.asdict(dataset.totals())}


COMMANDS: tuple[_Command, ...] = (
    _Command("list", "registered models, and the datasets below a folder", _list_arguments, _list),
    _Command("show", "one dataset or registered model", _show_arguments, _show),
    _Command("history", "the versions of a dataset", _dataset_argument, _history),
    _Command("verify", "read every byte of a dataset and name what is wrong", _verify_arguments, _verify),
    _Command("compact", "rewrite small files into larger ones", _compact_arguments, _compact),
    _Command("vacuum", "delete files that no recent version needs", _vacuum_arguments, _vacuum),
    _Command("promote", "point an alias at a model version", _promote_arguments, _promote),
)

if __name__ == "__main__":
    sys.exit(main())
