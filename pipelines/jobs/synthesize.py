"""Text, with or without a voice prompt, to speech: one sentence, or a file of them.

With `candidates` each sentence is spoken several times, and the judges of `evaluate` keep the best (`scorer`).
One sentence, and small files, run in this process. `workers` > 0 spreads a file over Ray actors. A rerun leaves out the
sentences that are spoken already, so an interrupted job goes on where it stopped; those that changed are spoken again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from catalog.command import UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import load_config, to_yaml
from models.text.normalize import has_word
from pipelines.evaluation.candidates import NOTED, SpeakBest, SynthesizeSettings, choice_of
from pipelines.execution.requests import Requests, add_model_arguments, require_file, with_outputs
from pipelines.execution.sentences import duration_rule, edit_rule, read_sentences
from pipelines.rows import Row
from pipelines.stages.speak import REQUESTS, Speak

name = "synthesize"
help = "text, with or without a voice prompt, to speech"

SHORT = {"ar_temp": float, "nar_temp": float, "max_ar_steps": int, "task": str}
"""Sampling options with a flag of their own, for those who come from VALL-E; a system without them refuses."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    add_model_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="the sentence to speak")
    what.add_argument(
        "--input", type=Path, help="sentences: .txt (one per line) or .jsonl (id, text, prompt, ...)"
    )
    parser.add_argument("--prompt", type=Path, help="a recording of the voice to speak with")
    parser.add_argument("--prompt-text", help="what is said in the prompt; a few systems need no such words")
    parser.add_argument(
        "--duration", type=float, metavar="SECONDS", help="length of the speech; default: the system's rule"
    )
    for option, kind in SHORT.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=kind,
            metavar="NAME" if kind is str else "NUMBER",
            help=f"short for --set sampling.{option}=...",
        )
    parser.add_argument("--source", type=Path, help="the recording that a speech --task works on")
    parser.add_argument(
        "--edit", type=float, nargs=2, metavar="SECONDS", help="from, to: the part of --source to say anew"
    )
    parser.add_argument(
        "-o", "--output", type=local, required=True, help="WAV file, or a folder with --input"
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Speak; returns the JSON line: output, sentences, rejected, seconds of audio, wall time, real-time factor."""
    given = {option: getattr(arguments, option) for option in SHORT}
    short = [f"sampling.{option}={value}" for option, value in given.items() if value is not None]
    settings = load_config(SynthesizeSettings, arguments.config, [*arguments.overrides, *short])
    require_absolute_under_ray_job(
        output=arguments.output, input=arguments.input, prompt=arguments.prompt, source=arguments.source
    )
    rows, choice = [_with_words(row) for row in _requests(arguments)], choice_of(settings)
    if arguments.dry_run:
        print(to_yaml(settings), f"sentences: {len(rows)}", sep="")  # noqa: T201
        return None
    from catalog.models import resolve
    from models.system_files import require

    system = resolve(arguments.model, arguments.tracking_uri)
    require(system, "speak")
    single = arguments.text is not None
    requests = Requests(
        rows,
        REQUESTS,
        ("prompt", "source"),
        "sentences",
        single,
        lambda row: len(row["text"]),
        arguments.input,
        {} if choice is None else choice.identity,
        () if choice is None else NOTED,
    )
    if choice is None:
        return requests.answer(Speak, {"model": str(system)}, settings, arguments.output)
    best = {"model": str(system), "choice": choice}
    return requests.answer(SpeakBest, best, settings, arguments.output)


def _with_words(row: Row) -> Row:
    """The row, or, with the `problem` that it has, one whose text has no letter or digit and gives no phones."""
    text = row["text"]
    if row.get("problem") or row.get("phones") or row.get("source") or not text.strip() or has_word(text):
        return row
    return row | {"problem": f"text is {text!r:.60}: it has no words"}


def _requests(arguments: argparse.Namespace) -> list[Row]:
    given = {
        "prompt": str(arguments.prompt) if arguments.prompt else None,
        "prompt_text": arguments.prompt_text,
        "duration_s": arguments.duration,
        "source": str(arguments.source) if arguments.source else None,
        "edit_s": arguments.edit,
    }
    for name in ("prompt", "source"):
        path = getattr(arguments, name)
        if path:
            require_file(f"--{name}", path)
    if arguments.duration is not None and (rule := duration_rule(arguments.duration)):
        raise UsageError(f"--duration {arguments.duration}: {rule}")
    if arguments.edit is not None and (rule := edit_rule(arguments.edit)):
        raise UsageError(f"--edit {' '.join(map(str, arguments.edit))}: {rule}")
    if arguments.text is not None:
        if arguments.output.suffix.lower() != ".wav":
            raise UsageError(f"--output {arguments.output}: must end in .wav when --text is given")
        return [
            {"id": arguments.output.stem, "text": arguments.text, "output": str(arguments.output), **given}
        ]
    rows = [given | row for row in read_sentences(arguments.input)]
    return with_outputs(rows, arguments.input, arguments.output)
