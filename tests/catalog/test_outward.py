"""Output of the process: no secret of a URI, nothing that steers a terminal, in any locale."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import command
from catalog.outward import all_without_secrets, printable, unsigned, without_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        (f"postgresql://me:{SECRET}@host:5432/db?sslmode=on", "postgresql://host:5432/db"),
        (f"https://{SECRET}@host/a.wav?sig={SECRET}#t=1,2", "https://host/a.wav#t=1,2"),
        (f"neither s3+x://k:{SECRET}@b/c, nor http://h/?k={SECRET} is", "neither s3+x://b/c, nor http://h/ is"),
        (f"source 'http://u:{SECRET}@h/a' is gone", "source 'http://h/a' is gone"),
        ("sqlite:////x/mlflow.db", "sqlite:////x/mlflow.db"),
        ("file:///a/me@home/b%3Fc.tar#offset=1&length=2", "file:///a/me@home/b%3Fc.tar#offset=1&length=2"),
        ("a@b.c?d=e", "a@b.c?d=e"),
    ],
)  # fmt: skip
def test_uris_lose_user_password_and_query(text: str, public: str) -> None:
    assert without_secrets(text) == public
    assert all_without_secrets({"a": [text], "b": {"c": text}}) == {"a": [public], "b": {"c": public}}


def test_names_keep_queries_that_tell_recordings_apart() -> None:
    assert unsigned("http://u:p@h/get?id=5") == "http://h/get?id=5"
    for key in ("sig", "X-Amz-Signature", "token", "api_key", "access_token", "X-Goog-Credential"):
        assert unsigned(f"http://h/a.wav?id=5&{key}={SECRET}") == "http://h/a.wav"


@given(st.text())
def test_a_line_for_people_steers_nothing(text: str) -> None:
    line = printable(text)
    assert printable(line) == line
    assert not any(char in line for char in "\x1b\x9b\r\n\x07\u202e\u2028")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ni\u200dhao\u200c \u3000\u00a0ü", "ni\u200dhao\u200c \u3000\u00a0ü"),
        ("C:\\new 'it\" \x1b[31m\n", "C:\\new 'it\" \\x1b[31m\\n"),
    ],
)
def test_spelling_stays_and_all_else_is_escaped(text: str, line: str) -> None:
    assert printable(text) == line


class Fails:
    name, help = "fail", ""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Nothing to add."""

    def run(self, _: argparse.Namespace) -> None:
        raise command.JobError(f"\x1b]0;title\x07 http://u:{SECRET}@h/x \u202eevil")


def test_errors_and_results_are_fit_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main("p", [Fails()], ["fail"]) == 1
    assert capsys.readouterr().err == "p: \\x1b]0;title\\x07 http://h/x \\u202eevil\n"


def test_a_locale_without_the_letters_ends_nothing(tmp_path: Path) -> None:
    script = (
        "from catalog import command\n"
        "class C:\n"
        "    name, help = 'c', ''\n"
        "    def configure(self, parser): pass\n"
        "    def run(self, _):\n"
        "        print('\\u00fc')\n"
        "        return {'\\u00fc': '\\x9b\\u202e'}\n"
        "from pipelines.datasets.formats.names import to_name, from_name\n"
        "assert to_name('\\u00fc') == '%C3%BC' and from_name('%C3%BC') == '\\u00fc'\n"
        "raise SystemExit(command.main('p', [C()], ['c']))\n"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"ü": "\x9b\u202e"}
