"""The `speechmill` command: the command lines of pipelines, trainers and catalog under one name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

# command -> (package whose __main__ runs it, the words it is called with there, what it does)
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "demo": ("pipelines", ("demo",), "corpus, shards, training, registry, speech: the whole flow in minutes"),
    "prepare": ("pipelines", ("prepare",), "recordings -> committed, codec-tokenised shards"),
    "embed": (
        "pipelines",
        ("embed",),
        "recordings -> vectors: files beside each other, or a column of a dataset",
    ),
    "fit-units": (
        "pipelines",
        ("fit-units",),
        "vectors of embed -> k-means cells, whose numbers are semantic tokens",
    ),
    "synthesize": ("pipelines", ("synthesize",), "text [and a voice prompt] -> speech"),
    "generate-samples": (
        "pipelines",
        ("generate-samples",),
        "texts of a dataset, and given ones -> speech to compare",
    ),
    "convert": ("pipelines", ("convert",), "a recording in the voice of another"),
    "evaluate": ("pipelines", ("evaluate",), "a system judged: word errors, speaker similarity, quality"),
    "reconstruct": ("pipelines", ("reconstruct",), "a recording or folder through a codec and back"),
    "codecs": ("pipelines", ("codecs",), "the codecs that have names: rates, levels, bit rate, licence"),
    "report": (
        "pipelines",
        ("report",),
        "a dataset version as one page: hours, rejects, histograms, examples",
    ),
    "export": ("pipelines", ("export",), "a dataset version for other programs"),
    "import-shards": (
        "pipelines",
        ("import-shards",),
        "codec tokens of other programs -> a committed dataset",
    ),
    "repair": (
        "pipelines",
        ("repair",),
        "set damaged files of a dataset aside, prepare their recordings again",
    ),
    "train": ("trainers", ("train",), "a dataset version -> a trained, registered generator or codec"),
    "assemble": ("trainers", ("assemble",), "generators and a codec -> a registered system that speaks"),
    "import": ("trainers", ("import",), "a published checkpoint -> a registered generator"),
    "import-config": (
        "trainers",
        ("import-config",),
        "a training configuration of another program -> ours",
    ),
    "runs": ("trainers", ("runs",), "quit, save, eval or lr X: commands to a running training"),
    "export-checkpoint": (
        "trainers",
        ("export-checkpoint",),
        "a trained generator -> the file of a published program",
    ),
    "catalog": ("catalog", (), "list, show, history, verify, compact, vacuum, promote"),
}


def usage() -> str:
    """The command's overview, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: speechmill COMMAND ...",
            "",
            *lines,
            "",
            "speechmill COMMAND --help shows a command's options.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run `argv` (default: the process's own) and return the exit code: 0 done, 1 failed, 2 bad usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())  # noqa: T201
        return 0 if words else 2
    if words[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"error: speechmill has no command {words[0]!r}; it has {known}", file=sys.stderr)  # noqa: T201
        return 2
    package, prefix, _ = COMMANDS[words[0]]
    program = "speechmill" if prefix else f"speechmill {words[0]}"
    try:
        return int(import_module(f"{package}.__main__").main([*prefix, *words[1:]], program))
    except KeyboardInterrupt:  # while the command was still being imported
        print(f"{program}: interrupted", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
