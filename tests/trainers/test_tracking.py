"""Records of a tracked fit in MLflow: one run, its registered versions, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from catalog.command import UsageError
from trainers.settings import load_fit
from trainers.tracking import RunReference, Tracker, close_run

pytestmark = pytest.mark.usefixtures("bigram_family")
TrackedFit = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def tracked_fit(
    fit: Callable[..., tuple[int, Any, str]], make_dataset: Callable[..., str], client: MlflowClient
) -> TrackedFit:
    """tracked_fit(*overrides) -> exit code, JSON line, standard error of a tracked and registered run."""
    uri = make_dataset()

    def call(*overrides: str) -> tuple[int, Any, str]:
        return fit(uri, "tracking.enabled=true", "register=toy-bigram", "loop.samples=1", *overrides)

    return call


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(mlflow_uri)


def test_a_run_holds_settings_data_and_metrics(tracked_fit: TrackedFit, client: MlflowClient) -> None:
    code, result, error = tracked_fit()
    assert code == 0, error
    found = client.get_run(result["run_id"])
    assert found.info.status == "FINISHED"
    assert found.data.params["data.batch.max_samples"] == "8"
    assert "config.yaml" in [file.path for file in client.list_artifacts(result["run_id"])]
    assert found.data.tags["dataset_version"] == "2"
    assert found.inputs.dataset_inputs[0].dataset.name == "dataset"
    wanted = {"loss", "gradient_norm", "learning_rate", "tokens_per_s", "validation_loss", "accuracy"}
    assert wanted <= found.data.metrics.keys()
    assert found.data.metrics["learning_rate"] == 0.05
    assert found.data.metrics["epoch"] == 2
    assert found.data.metrics["progress"] == 1


def test_each_kept_checkpoint_is_a_model_with_its_figures(
    tracked_fit: TrackedFit, client: MlflowClient, tmp_path: Path
) -> None:
    run = client.get_run(tracked_fit()[1]["run_id"])
    tracked_fit("loop.max_epochs=8")
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    models = {model.tags["checkpoint"]: model for model in found if "checkpoint" in model.tags}
    kept = {str(path) for path in (tmp_path / "run" / "checkpoints").glob("step-*.pt")}
    (best,) = (path for path, model in models.items() if model.tags["best"] == "true")
    assert set(models) == kept | {best}
    for model in models.values():
        (loss,) = (metric for metric in model.metrics if metric.key == "validation_loss")
        assert loss.step == int(model.tags["step"])
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    assert len({metric.step for metric in history}) == len(history) > len(models)
    lowest = min(history, key=lambda metric: metric.value)
    assert models[best].tags["step"] == str(lowest.step)


def test_samples_are_sounds_and_pictures(tracked_fit: TrackedFit, client: MlflowClient) -> None:
    run_id = tracked_fit()[1]["run_id"]
    folders = [file.path for file in client.list_artifacts(run_id, "samples")]
    assert folders[0] == "samples/step-00000005"
    names = [Path(file.path).name for file in client.list_artifacts(run_id, folders[0])]
    assert len(names) == 2
    assert {Path(name).suffix for name in names} == {".wav", ".png"}


def test_a_continued_run_stays_the_same_one(tracked_fit: TrackedFit, client: MlflowClient) -> None:
    first = tracked_fit()[1]
    code, longer, error = tracked_fit("loop.max_epochs=8")
    assert (code, longer["run_id"]) == (0, first["run_id"]), error
    assert client.get_run(first["run_id"]).data.metrics["epoch"] == 8
    steps = [metric.step for metric in client.get_metric_history(first["run_id"], "loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == longer["steps"] > first["steps"]


def test_each_result_is_registered_once_and_the_best_has_the_alias(
    tracked_fit: TrackedFit, client: MlflowClient
) -> None:
    first = tracked_fit()[1]
    longer, again = (tracked_fit("loop.max_epochs=8")[1] for _ in range(2))
    assert (first["version"], longer["version"], again["version"]) == (1, 2, 2)
    best = client.get_model_version_by_alias("toy-bigram", "best")
    losses = [
        json.loads(client.get_model_version("toy-bigram", version).tags["validation_loss"])
        for version in ("1", "2")
    ]
    assert int(best.version) == 1 + losses.index(min(losses))
    assert best.run_id == first["run_id"]


def test_a_refusal_leaves_a_finished_run_alone(
    tracked_fit: TrackedFit, client: MlflowClient, tmp_path: Path
) -> None:
    run_id = tracked_fit()[1]["run_id"]
    kept = (tmp_path / "run" / "config.yaml").read_text()
    for refused in ("model.hidden_size=4", "device=abacus"):
        assert tracked_fit(refused)[0] == 1
        assert client.get_run(run_id).info.status == "FINISHED"
        assert (tmp_path / "run" / "config.yaml").read_text() == kept


def test_a_run_that_fails_says_so(tracked_fit: TrackedFit, client: MlflowClient, tmp_path: Path) -> None:
    assert tracked_fit(f"init={tmp_path / 'nothing'}")[0] == 1
    run_id = json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "FAILED"


@pytest.mark.parametrize("call", ["create_run", "log_batch", "log_inputs"])
def test_a_store_that_takes_nothing_is_named_with_the_reason(
    tracked_fit: TrackedFit, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("database or disk is full\n[SQL: INSERT INTO runs (run_uuid) VALUES (?)]")

    monkeypatch.setattr(MlflowClient, call, refuse)
    code, _, error = tracked_fit()
    assert code == 1
    assert f"tracking URI {mlflow_uri!r}: database or disk is full\n" in error


def test_a_server_that_fails_does_not_end_the_training(
    mlflow_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What fails is said once, in a line, with the number of failures at the end."""
    tracker = Tracker(RunReference(mlflow_uri, "0" * 32))
    for step in (1, 2, 3):
        tracker.log_metrics(step, {"loss": 1.0})
    tracker.close()
    close_run(tracker.run, "FINISHED")
    first, count, end = capsys.readouterr().err.replace("'", "").splitlines()
    assert "Run with id=0000" in first
    assert "the training goes on" in first
    assert "3 of its entries could not be written" in count
    assert "Run with id=0000" in end


def test_a_name_that_cannot_be_registered_is_refused_before_the_training(tmp_path: Path) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text("family: maskgct_t2s\ndata: {dataset: nowhere}\nloop: {max_steps: 2}\nregister: a/b\n")
    with pytest.raises(UsageError, match="model name 'a/b'"):
        load_fit(config)
