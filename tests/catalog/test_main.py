from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from catalog import models, upkeep
from catalog.__main__ import main
from catalog.creation import create

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(capsys):
    """Run a command line; returns exit code, the JSON line (None if there is none), standard error."""

    def run(*words: str):
        code = main(list(words))
        output = capsys.readouterr()
        lines = output.out.splitlines()
        return code, json.loads(lines[-1]) if lines else None, output.err

    return run


def test_dataset_commands(call, appender, append) -> None:
    append(["a"])
    append(["b"])
    totals = {"recordings": 2, "utterances": 4, "rejected": 0, "derived": 0}
    totals["hours"] = pytest.approx(0.28 / 3600)
    code, shown, _ = call("show", appender.uri)
    assert (code, shown["version"], shown["codec"]["name"], shown["settings"]["text"]) == (
        0,
        2,
        "toy",
        "as given",
    )
    assert {key: shown[key] for key in totals} == totals
    assert call("show", appender.uri, "--version", "1")[1]["recordings"] == 1
    assert call("verify", appender.uri)[:2] == (
        0,
        {"dataset": appender.uri, "version": 2, "codec": "toy@1", "files": 2, **totals, "problems": []},
    )
    assert call("compact", appender.uri, "--target-mib", "1")[1] == {
        "dataset": appender.uri,
        "version": 3,
        "files_before": 2,
        "files_after": 1,
        "skipped": 0,
    }
    assert [one["version"] for one in call("history", appender.uri)[1]["versions"]] == [0, 1, 2, 3]
    assert call("vacuum", appender.uri, "--dry-run", "--retention-hours", "0")[1]["unreadable_versions"] == [
        1,
        2,
    ]
    assert call("vacuum", appender.uri)[1]["files"] == 0


def test_verify_fails_and_names_the_file(call, appender, append) -> None:
    (shard,) = append(["a"])
    (Path(appender.uri) / shard.path).write_bytes(b"PAR1")
    code, result, error = call("verify", appender.uri)
    assert code == 1
    assert result["problems"] == [{"path": shard.path, "what": f"4 bytes, the log says {shard.size_bytes}"}]
    assert error == f"catalog: {appender.uri}: 1 problem in version 1; see standard output\n"


def test_verify_lists_what_an_old_version_lost(call, appender, append) -> None:
    shards = [append([name])[0] for name in "ab"]
    upkeep.compact(appender.dataset)
    upkeep.vacuum(appender.dataset, 0)
    assert call("show", appender.uri, "--version", "2")[2].endswith(
        "version 2 is no longer readable; 2 of its 2 files are gone\n"
    )
    code, result, _ = call("verify", appender.uri, "--version", "2")
    assert (code, result["version"], result["codec"]) == (1, 2, "toy@1")
    assert result["problems"] == [{"path": shard.path, "what": "the file is missing"} for shard in shards]


def test_model_commands(call, appender, append, mlflow_uri, tmp_path) -> None:
    append(["a"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    models.register(tmp_path / "model", "t2s", tracking_uri=mlflow_uri)
    assert call("promote", "t2s/1", "champion")[1] == {"model": "t2s", "version": 1, "alias": "champion"}
    code, listed, _ = call("list", str(tmp_path))
    assert code == 0
    assert [(one["name"], one["aliases"]) for one in listed["models"]] == [("t2s", ["champion"])]
    assert [(one["dataset"], one["version"]) for one in listed["datasets"]] == [(appender.uri, 1)]
    shown = call("show", "models:/t2s@champion", "--tracking-uri", mlflow_uri)[1]
    assert (shown["version"], Path(shown["directory"], "config.json").read_text()) == (1, "{}")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["verify", "nowhere"], 1, "nowhere: no dataset there"),
        (["verify", ""], 2, "argument dataset: is empty; must be a folder or URI"),
        (["history", " "], 2, "argument dataset: is empty"),
        (["compact", ""], 2, "argument dataset: is empty"),
        (["vacuum", ""], 2, "argument dataset: is empty"),
        (["show", ""], 2, "argument what: is empty"),
        (["list", ""], 2, "argument folder: is empty"),
        (["list", "nowhere"], 2, "catalog: nowhere: no such folder"),
        (["vacuum", "x", "--retention-hours", "soon"], 2, "invalid float value: 'soon'"),
        (["delete", "x"], 2, "invalid choice: 'delete'"),
    ],
)
def test_refusals(words, code, message, call, tmp_path, monkeypatch, mlflow_uri) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, error = call(*words)
    assert found == code
    assert message in error
    assert error.count("\n") == 1


def test_damage_is_named_and_does_not_hide_the_others(
    call, appender, append, mlflow_uri, tmp_path, codec
) -> None:
    (shard,) = append(["a"])
    file = Path(appender.uri) / shard.path
    file.write_bytes(file.read_bytes()[:100])
    good = create(tmp_path / "good", codec, {})
    broken = create(tmp_path / "broken", codec, {})
    Path(broken.uri, "_delta_log", f"{0:020d}.json").write_text("{garbage")
    code, _, error = call("show", appender.uri)
    assert (code, error.startswith(f"catalog: {file}: 100 bytes, the log says {shard.size_bytes}; ")) == (
        1,
        True,
    )
    code, _, error = call("show", broken.uri)
    assert (
        code,
        error.startswith(
            f"catalog: {broken.uri}/_delta_log/{0:020d}.json: this entry of the log is damaged "
        ),
    ) == (1, True)
    assert "<unknown>" not in error
    code, listed, _ = call("list", str(tmp_path))
    assert (code, [one["dataset"] for one in listed["datasets"]]) == (0, [good.uri])
    assert [one["folder"] for one in listed["unreadable"]] == [broken.uri, appender.uri]


@pytest.mark.parametrize("size", ["nan", "inf", "0", "-1"])
def test_impossible_target_sizes_are_usage(size, call, appender) -> None:
    code, _, error = call("compact", appender.uri, f"--target-mib={size}")
    assert (code, error) == (2, f"catalog: --target-mib {size}: must be a number above 0\n")


def test_as_a_module(appender) -> None:
    words = [sys.executable, "-m", "catalog", "verify", appender.uri]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["files"] == 0
    assert done.stderr == ""
