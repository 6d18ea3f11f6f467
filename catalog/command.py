"""The one command-line boundary: errors become one line and an exit code, a result becomes one JSON line.

Exit codes: 0 done, 1 the work failed, 2 bad usage, 130 interrupted, 143 terminated, 141 nobody reads standard output.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

from catalog.outward import all_without_secrets, say


class UsageError(Exception):
    """A wrong request (words, keys, values): exit code 2. The message is one readable line."""


class JobError(Exception):
    """The work failed: exit code 1. The message is one line naming the thing, the value and the rule."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the job ends as by Ctrl-C, with exit code 143. Both may carry the result of what was done until then."""


class Command(Protocol):
    """One job of a command line. A module with these four names is one, too."""

    @property
    def name(self) -> str:
        """The word that selects the command."""

    @property
    def help(self) -> str:
        """One line for `--help`."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> Mapping[str, object] | None:
        """Do the work; the mapping is printed as the last line of standard output."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` shows what is allowed")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE` (`config: Path | None`), `--set a.b=c` (`overrides: list[str]`) and `--dry-run`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file with the settings that differ from the defaults",
    )
    add_override_arguments(parser)


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--set a.b=c` (`overrides: list[str]`) and `--dry-run`, where the file is an argument or there is none."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="a.b=c",
        help="override one setting; the value is YAML; repeatable",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved settings and the planned work, start nothing",
    )


def local(text: str) -> Path:
    """A path that an argument names (argparse's `type`); `s3://bucket` would become the folder `s3:`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise argparse.ArgumentTypeError(f"{text!r} is a URI; it must be a path of this machine")
    return Path(text)


@contextmanager
def ends_when_told() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what is half written goes, and one line says so."""

    def end(*_: object) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(program: str, commands: Sequence[Command], argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (default: the process's), run the chosen command and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):  # a locale that lacks a letter of a name ends no command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    try:
        arguments = _parse(program, commands, words)
        with ends_when_told():
            _print_result(arguments.run_command.run(arguments))
    except SystemExit as exit_:  # argparse after --help
        return exit_.code if isinstance(exit_.code, int) else 0
    except KeyboardInterrupt as stop:
        _print_result(stop.args[0] if stop.args else None)
        if isinstance(stop, Terminated):
            return _fail(program, "terminated", 143, debug)
        return _fail(program, "interrupted", 130, debug)
    except BrokenPipeError as error:
        if _stdout_is_closed():
            return 141
        return _fail(program, _one_line(error), 1, debug)
    except Exception as error:  # noqa: BLE001 - the boundary that turns every failure into one line
        cause = _root(error)
        return _fail(program, _one_line(cause), 2 if isinstance(cause, UsageError) else 1, debug)
    return 0


def require_absolute_under_ray_job(**locations: str | Path | None) -> None:
    """Refuse relative locations inside a submitted Ray job, whose working directory is Ray's temporary copy.

    Keywords name the locations in the error (`output="out/data"`); None is skipped. Raises UsageError.
    Detection follows ray 2.60: its job supervisor sets RAY_JOB_CONFIG_JSON_ENV_VAR for the driver, and an
    uploaded directory is unpacked as `_ray_pkg_<hash>`.
    """
    uploaded = any(part.startswith("_ray_pkg_") for part in Path.cwd().parts)
    if not uploaded and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    for name, location in locations.items():
        if location is not None and _is_relative(str(location)):
            raise UsageError(
                f"{name.replace('_', ' ')} {str(location)!r} is relative, but a submitted Ray job runs in a "
                "temporary copy of the directory; give an absolute path or a URI"
            )


def _is_relative(location: str) -> bool:
    if re.match(r"sqlite(\+\w+)?:", location):
        return ":////" not in location
    has_scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", location) is not None
    return not has_scheme and not Path(location).is_absolute()


def _parse(program: str, commands: Sequence[Command], words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog=program, allow_abbrev=False)
    choices = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        child = choices.add_parser(
            command.name, help=command.help, description=command.help, allow_abbrev=False
        )
        command.configure(child)
        child.add_argument("--debug", action="store_true", help="show the traceback of an error")
        child.set_defaults(run_command=command)
    return parser.parse_args(words)


def _print_result(result: Mapping[str, object] | None) -> None:
    if result is not None:
        line = json.dumps(
            _finite(all_without_secrets(result)), ensure_ascii=False, allow_nan=False, default=str
        )
        sys.stdout.write(_plain_json(line) + "\n")
    sys.stdout.flush()


def _plain_json(line: str) -> str:
    """The same JSON, for any terminal and any locale: what cannot be printed is escaped."""
    if line.isascii():
        return line
    can_be_written = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return "".join(
        char if char.isprintable() and (can_be_written or char.isascii()) else json.dumps(char)[1:-1]
        for char in line
    )


def _finite(value: object) -> object:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _root(error: BaseException) -> BaseException:
    """Ray wraps what a worker raised; the wrapped error is what the user can act on."""
    cause = getattr(error, "cause", None)
    return _root(cause) if isinstance(cause, Exception) else error


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    elif isinstance(error, KeyError):
        message = f"no such key: {error}"
    elif isinstance(error, UsageError | JobError | ValueError | OSError):
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error}"
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split()) or type(error).__name__


def _fail(program: str, message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"{program}: {message}")
    return code


def _stdout_is_closed() -> bool:
    """True if the reader of standard output went away; a broken socket to elsewhere is a failure of the job."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # replaced by something in memory
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # The interpreter flushes once more at exit and would complain; let it write to nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True
