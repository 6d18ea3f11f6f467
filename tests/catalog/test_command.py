from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catalog.command import (
    JobError,
    Terminated,
    UsageError,
    add_config_arguments,
    ends_when_told,
    local,
    main,
    require_absolute_under_ray_job,
)
from catalog.files import written_aside

REPOSITORY = Path(__file__).resolve().parents[2]


class Speak:
    name = "speak"
    help = "say something"

    def __init__(self, result=None, error: BaseException | None = None) -> None:
        self.result, self.error, self.arguments = result, error, None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("text")
        add_config_arguments(parser)

    def run(self, arguments: argparse.Namespace):
        self.arguments = arguments
        if self.error is not None:
            raise self.error
        return self.result


def fail(error: BaseException, capsys, *words: str) -> tuple[int, str]:
    code = main("mill", [Speak(error=error)], ["speak", "hi", *words])
    return code, capsys.readouterr().err


def test_result_is_the_last_line(capsys) -> None:
    result = {"output": Path("a.wav"), "hours": float("nan"), "names": ["é", float("inf")]}
    assert main("mill", [Speak(result)], ["speak", "hi"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "output": "a.wav",
        "hours": None,
        "names": ["é", None],
    }


def test_config_arguments() -> None:
    command = Speak()
    assert (
        main(
            "mill",
            [command],
            ["speak", "hi", "--set", "a=1", "--config", "c.yaml", "--set", "b.c=2", "--dry-run"],
        )
        == 0
    )
    given = command.arguments
    assert (given.config, given.overrides, given.dry_run, given.debug) == (
        Path("c.yaml"),
        ["a=1", "b.c=2"],
        True,
        False,
    )


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("no such key"), 2, "mill: no such key\n"),
        (JobError("disk\n  \x1b[31mis\x1b[0m full"), 1, "mill: disk is full\n"),
        (ValueError("rate is 3"), 1, "mill: rate is 3\n"),
        (OSError(28, "No space left on device", "out.wav"), 1, "mill: out.wav: No space left on device\n"),
        (KeyError("codec"), 1, "mill: no such key: 'codec'\n"),
        (ZeroDivisionError("division by zero"), 1, "mill: ZeroDivisionError: division by zero\n"),
        (KeyboardInterrupt(), 130, "mill: interrupted\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, "mill: Broken pipe\n"),
    ],
)
def test_errors_are_one_line(error, code, line, capsys) -> None:
    assert fail(error, capsys) == (code, line)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [(KeyboardInterrupt, 130, "mill: interrupted\n"), (Terminated, 143, "mill: terminated\n")],
)
def test_what_was_done_until_an_interruption_is_printed(error, code, line, capsys) -> None:
    class Job:
        name, help = "job", ""

        def configure(self, parser) -> None: ...

        def run(self, arguments):
            raise error({"steps": 3})

    assert main("mill", [Job()], ["job"]) == code
    assert capsys.readouterr() == ('{"steps": 3}\n', line)


def test_sigterm_ends_a_command_in_one_line(tmp_path, capsys) -> None:
    """Behind it, what was half written is gone and the handler of before is back."""

    class Job:
        name, help = "job", ""

        def configure(self, parser) -> None: ...

        def run(self, arguments):
            with written_aside(tmp_path / "out") as aside:
                aside.write_text("half")
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert main("mill", [Job()], ["job"]) == 143
    assert capsys.readouterr() == ("", "mill: terminated\n")
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_cause_of_a_wrapped_error_counts(capsys) -> None:
    wrapped = RuntimeError("the worker's long traceback\nwith lines")
    wrapped.cause = UsageError("no model x")
    assert fail(wrapped, capsys) == (2, "mill: no model x\n")


def test_debug_shows_the_traceback(capsys) -> None:
    code, text = fail(JobError("it failed"), capsys, "--debug")
    assert code == 1
    assert text.startswith("Traceback")
    assert text.endswith("mill: it failed\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["speech"], "invalid choice: 'speech' (choose from 'speak')"),
        (["speak"], "the following arguments are required: text; `mill speak --help` shows"),
        (["speak", "hi", "--dry"], "unrecognized arguments: --dry"),
    ],
)
def test_bad_words_are_usage(words, expected, capsys) -> None:
    assert main("mill", [Speak()], words) == 2
    text = capsys.readouterr().err
    assert expected in text
    assert text.count("\n") == 1


def test_help_exits_0(capsys) -> None:
    assert main("mill", [Speak()], ["--help"]) == 0
    assert "say something" in capsys.readouterr().out


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import sys, types; from catalog.command import main\n"
        "def run(arguments):\n"
        "    for _ in range(100000): print('x' * 100)\n"
        "job = types.SimpleNamespace(name='go', help='', configure=lambda parser: None, run=run)\n"
        "sys.exit(main('mill', [job], ['go']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"x" * 100 + b"\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("inside", ["environment", "folder"])
def test_relative_locations_are_refused_in_a_ray_job(inside, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    require_absolute_under_ray_job(output="out")
    if inside == "environment":
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    else:
        unpacked = tmp_path / "_ray_pkg_0123456789abcdef"
        unpacked.mkdir()
        monkeypatch.chdir(unpacked)
    require_absolute_under_ray_job(
        output="/data/out",
        source="s3://bucket/x",
        model="models:/a@b",
        other="hf:name",
        tracking_uri="sqlite:////a.db",
    )
    require_absolute_under_ray_job(output=None)
    with pytest.raises(
        UsageError, match=r"^output 'out/data' is relative, but .* give an absolute path or a URI$"
    ):
        require_absolute_under_ray_job(output="out/data")
    with pytest.raises(UsageError, match=r"^tracking uri 'sqlite:///mlflow.db' is relative"):
        require_absolute_under_ray_job(tracking_uri="sqlite:///mlflow.db")


def test_the_names_that_ray_uses() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray._private.runtime_env.packaging import RAY_PKG_PREFIX

    assert (RAY_JOB_CONFIG_JSON_ENV_VAR, RAY_PKG_PREFIX) == ("RAY_JOB_CONFIG_JSON_ENV_VAR", "_ray_pkg_")


def test_a_place_of_another_machine_is_no_local_path() -> None:
    assert local("a/b:c.wav") == Path("a/b:c.wav")
    for uri in ("s3://bucket/out", "file:///tmp/x", "gs://b/c"):
        with pytest.raises(argparse.ArgumentTypeError, match="is a URI; it must be a path of this machine"):
            local(uri)


def test_a_command_in_another_thread_leaves_signals_as_they_are() -> None:
    def told() -> object:
        with ends_when_told():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(told).result() is signal.getsignal(signal.SIGTERM)


def test_ctrl_c_while_a_command_is_imported_is_one_line(monkeypatch, capsys) -> None:
    import speechmill

    def pressed(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speechmill, "import_module", pressed)
    assert speechmill.main(["convert"]) == 130
    assert capsys.readouterr() == ("", "speechmill: interrupted\n")
