"""`python -m trainers WORD ...`: fit, assemble, import, import-config, export-checkpoint, runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from catalog import command
from catalog.config import to_yaml
from models.checkpoints import Values


def _add_registration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="model name to register as")
    parser.add_argument("--alias", help="alias to give to the new version, for example champion")
    parser.add_argument(
        "--tracking-uri", help="MLflow; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )


@dataclass(frozen=True)
class Fit:
    """Train one generator or codec: `speechmill train`, `python -m trainers fit`."""

    name: str
    help: ClassVar[str] = (
        "train the generator or codec that a YAML file describes; a run found in its output is continued"
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """CONFIG, --set, --dry-run."""
        parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run")
        command.add_override_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Train; see `trainers.fit`."""
        from trainers.fit import describe, fit
        from trainers.interrupt import raise_received
        from trainers.settings import load_fit

        settings = load_fit(arguments.config, arguments.overrides)
        if arguments.dry_run:
            print(to_yaml(settings), end="")
            return describe(settings)
        result = fit(settings)
        if result["stopped"] == "interrupted":
            raise_received(result)
        return result


class Assemble:
    """Make a system of trained generators and a codec."""

    name = "assemble"
    help = "join generators, a codec and a text front end into a registered system that speaks"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """FAMILY, the parts, the name, --set, --dry-run."""
        parser.add_argument("family", nargs="?", default="maskgct", metavar="FAMILY", help="kind of system")
        parser.add_argument(
            "--part",
            action="append",
            default=[],
            metavar="ROLE=SOURCE",
            help="directory or models:/ URI of the generator in that role; of further codecs, the codec's source",
        )
        for role in ("t2s", "s2a"):
            parser.add_argument(f"--{role}", metavar="SOURCE", help=f"short for --part {role}=SOURCE")
        parser.add_argument("--codec", required=True, help="codec name such as mill-16khz, or a directory")
        _add_registration(parser)
        command.add_override_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Assemble; see `trainers.assemble`."""
        from catalog.models import check_names, tracking_uri
        from trainers.assemble import assemble

        check_names(arguments.name, arguments.alias)
        return assemble(
            arguments.family,
            _parts(arguments),
            arguments.codec,
            arguments.name,
            arguments.alias,
            arguments.overrides,
            uri=tracking_uri(arguments.tracking_uri),
            dry_run=arguments.dry_run,
        )


def _parts(arguments: argparse.Namespace) -> dict[str, str]:
    parts = {
        role: getattr(arguments, role) for role in ("t2s", "s2a") if getattr(arguments, role) is not None
    }
    for word in arguments.part:
        role, equals, source = word.partition("=")
        if not (role and equals and source):
            raise command.UsageError(
                f"--part {word!r}: must be ROLE=SOURCE, for example t2s=models:/t2s@best"
            )
        if role in parts:
            raise command.UsageError(f"--part {word!r}: the part {role} is given twice")
        parts[role] = source
    return parts


class Import:
    """Register a published checkpoint."""

    name = "import"
    help = "register a published checkpoint as a generator or codec, or a release of several as a system"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """FORMAT, PATH, the name."""
        parser.add_argument("source", metavar="FORMAT", help="for example choihkk-maskgct-t2s")
        parser.add_argument("path", type=Path, metavar="PATH", help="the file or folder as released")
        release = parser.add_argument_group("of a release (amphion-maskgct, amphion-8d)")
        release.add_argument(
            "--w2v-bert", metavar="SOURCE", help="directory or hub id; default: the published one"
        )
        release.add_argument(
            "--w2v-layer", type=int, metavar="N", help="hidden state that is read; default: 17"
        )
        release.add_argument(
            "--statistics", type=Path, metavar="FILE", help="of these features; default: that of the release"
        )
        release.add_argument(
            "--phones", type=Path, metavar="FILE", help="JSON of phone -> id, without which it cannot speak"
        )
        _add_registration(parser)

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Convert and register; see `trainers.import_checkpoint`."""
        from catalog.models import check_names, tracking_uri
        from models.families import bundles
        from trainers.import_bundle import Further, import_bundle
        from trainers.import_checkpoint import import_checkpoint

        check_names(arguments.name, arguments.alias)
        names = {"w2v_bert": "w2v_bert", "w2v_layer": "layer", "statistics": "statistics", "phones": "phones"}
        given = {ours: getattr(arguments, word) for word, ours in names.items()}
        given = {ours: value for ours, value in given.items() if value is not None}
        target = (arguments.name, arguments.alias, tracking_uri(arguments.tracking_uri))
        if arguments.source in bundles():
            return import_bundle(arguments.source, arguments.path, Further(**given), *target)
        if given:
            raise command.UsageError(
                f"{arguments.source} is one network; {', '.join(given)} belong to {', '.join(bundles())}"
            )
        return import_checkpoint(arguments.source, arguments.path, *target)


class ImportConfig:
    """Translate another program's training configuration."""

    name = "import-config"
    help = "a training configuration of another program as configurations for `fit`"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """PROGRAM, FILE, where to, the dataset, keys to ignore."""
        parser.add_argument("program", metavar="PROGRAM", help="for example vall-e")
        parser.add_argument("path", type=Path, metavar="FILE", help="its YAML file")
        parser.add_argument(
            "-o", "--output", type=command.local, default=Path("configs"), help="folder; default: configs"
        )
        parser.add_argument("--dataset", help="dataset to train on; default: datasets/ and the file's name")
        parser.add_argument(
            "--ignore", action="append", default=[], metavar="KEY", help="an unknown key to leave out"
        )

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Translate; see `trainers.import_config`."""
        from trainers.import_config import import_config

        return import_config(
            arguments.program, arguments.path, arguments.output, arguments.dataset, arguments.ignore
        )


class ExportCheckpoint:
    """Write a trained network as a published program's file."""

    name = "export-checkpoint"
    help = "write a trained generator as the file of a published program"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """SOURCE, PATH, the format."""
        parser.add_argument("source", metavar="SOURCE", help="generator directory or models:/ URI")
        parser.add_argument(
            "path", type=command.local, metavar="PATH", help="the file to write, for example fp32.pth"
        )
        parser.add_argument("--format", help="as `import` names it; default: the one that there is")
        parser.add_argument(
            "--tracking-uri", help="MLflow; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
        )

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Write; see `trainers.export_checkpoint`."""
        from catalog.models import tracking_uri
        from trainers.export_checkpoint import export_checkpoint

        uri = tracking_uri(arguments.tracking_uri)
        return export_checkpoint(arguments.source, arguments.path, arguments.format, uri)


class Runs:
    """Tell a running training something."""

    name = "runs"
    help = "quit, save, eval or change the learning rate of a training that runs elsewhere"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """COMMAND, RUN, for `lr` the number."""
        parser.add_argument("word", choices=("quit", "save", "eval", "lr"), metavar="quit|save|eval|lr")
        parser.add_argument("directory", type=Path, metavar="RUN", help="run directory (`output` of the run)")
        parser.add_argument("value", nargs="?", metavar="X", help="of lr: the new peak learning rate")

    def run(self, arguments: argparse.Namespace) -> Values | None:
        """Send; see `trainers.commands`."""
        from trainers.commands import send

        words = " ".join(filter(None, (arguments.word, arguments.value)))
        send(arguments.directory, words)
        return {"run": str(arguments.directory), "command": words}


def main(argv: Sequence[str] | None = None, program: str = "trainers") -> int:
    """Run the command line of this package and return the exit code; `program` is its name in messages."""
    return command.main(
        program,
        (Fit("fit"), Fit("train"), Assemble(), Import(), ImportConfig(), ExportCheckpoint(), Runs()),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
