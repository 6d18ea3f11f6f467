from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from catalog import models, tracking_store
from catalog.command import JobError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]

SCRIPT = """
import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd


class Echo(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.voice = json.loads((Path(context.artifacts["system"]) / "system.json").read_text())["voice"]

    def predict(self, context, model_input, params=None):
        audio = [f"{self.voice}: {text} {params['seed']}".encode() for text in model_input["text"]]
        return pd.DataFrame({"audio": audio, "sample_rate": 16000})


mlflow.models.set_model(Echo())
"""


@pytest.fixture
def system(tmp_path) -> Path:
    folder = tmp_path / "my system"
    (folder / "t2s").mkdir(parents=True)
    (folder / "system.json").write_text('{"voice": "alto"}')
    (folder / "t2s" / "model.safetensors").write_bytes(bytes(range(256)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_register_promote_resolve(system, mlflow_uri, tmp_path) -> None:
    script = tmp_path / "pyfunc.py"
    script.write_text(SCRIPT)
    first = models.register(
        system, "maskgct", tracking_uri=mlflow_uri, tags={"wer": "0.1"}, pyfunc_script=script
    )
    before = contents(system)
    (system / "system.json").write_text('{"voice": "bass"}')
    second = models.register(system, "maskgct", tracking_uri=mlflow_uri, pyfunc_script=script)
    assert (first, second) == (1, 2)
    assert contents(models.resolve("models:/maskgct/1", mlflow_uri)) == before
    assert contents(models.resolve("maskgct", mlflow_uri)) == contents(system), (
        "the newest without a champion"
    )
    models.promote("maskgct", 1, "champion", mlflow_uri)
    for source in ("models:/maskgct@champion", "maskgct@champion", "models:/maskgct", "maskgct"):
        assert contents(models.resolve(source, mlflow_uri)) == before
    assert models.list_models(mlflow_uri) == [
        models.ModelVersion("maskgct", 1, ("champion",), "", {"wer": "0.1"}),
        models.ModelVersion("maskgct", 2, (), "", {}),
    ]
    # A process that knows only MLflow speaks with it.
    code = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/maskgct@champion')\n"
        "out = model.predict(pd.DataFrame({'text': ['one', 'two']}), params={'seed': 7})\n"
        "print(out.to_json(orient='records'))"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, mlflow_uri]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [
        {"audio": "alto: one 7", "sample_rate": 16000},
        {"audio": "alto: two 7", "sample_rate": 16000},
    ]


def test_a_training_run_has_its_model(system, mlflow_uri) -> None:
    import mlflow

    client = mlflow.MlflowClient(mlflow_uri)
    run = client.create_run(client.create_experiment("training"))
    before = mlflow.active_run(), mlflow.get_tracking_uri()
    version = models.register(system, "t2s", tracking_uri=mlflow_uri, run_id=run.info.run_id)
    assert (mlflow.active_run(), mlflow.get_tracking_uri()) == before
    assert models.describe("t2s/1", mlflow_uri) == models.ModelVersion(
        "t2s", version, (), run.info.run_id, {}
    )
    again = client.get_run(run.info.run_id)
    assert again.info.status == "RUNNING", "registering does not end the run"
    assert len(again.outputs.model_outputs) == 1
    assert contents(models.resolve("models:/t2s/1", mlflow_uri)) == contents(system)


def test_figures_go_to_the_run_of_a_version(system, mlflow_uri) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri)
    trained = client.create_run(client.create_experiment("training")).info.run_id
    models.register(system, "t2s", tracking_uri=mlflow_uri, run_id=trained)
    assembled = "assembled 1.5 at 50%"  # of logged models MLflow refuses such a name
    models.register(system, assembled, tracking_uri=mlflow_uri)
    runs = {}
    for name in ("t2s", assembled):
        version = models.describe(name, mlflow_uri)
        runs[name] = models.log_metrics(version, {"wer": 0.5}, {"judge": "a"}, mlflow_uri)
        assert models.log_metrics(version, {"wer": 0.25}, {"judge": "b"}, mlflow_uri) == runs[name]
        data = client.get_run(runs[name]).data
        assert (data.metrics, data.tags["judge"]) == ({"wer": 0.25}, "b")
    assert runs["t2s"] == trained
    assert runs[assembled] != trained


def test_every_page_of_a_long_answer_is_read() -> None:
    class Page(list[int]):
        token: str | None = None

    def search(page_token: str | None = None) -> Page:
        first = int(page_token or 0)
        asked.append(first)
        page = Page(range(first, min(first + 3, 7)))
        page.token = str(first + 3) if first + 3 < 7 else None
        return page

    asked: list[int] = []
    assert models._pages(search) == list(range(7))
    assert asked == [0, 3, 6]


def test_a_directory_is_itself(system, monkeypatch) -> None:
    monkeypatch.chdir(system.parent)
    assert models.resolve("my system") == system


def test_what_does_not_exist_is_named_with_what_does(system, mlflow_uri) -> None:
    def refusal(source: str) -> str:
        with pytest.raises(JobError) as error:
            models.resolve(source, mlflow_uri)
        return str(error.value)

    assert refusal("voice") == f"voice: no such directory or registered model; {mlflow_uri} has: none"
    models.register(system, "t2s", tracking_uri=mlflow_uri)
    models.promote("t2s", 1, "best", mlflow_uri)
    assert refusal("models:/voice@best") == (
        f"models:/voice@best: no such directory or registered model; {mlflow_uri} has: t2s"
    )
    exists = "t2s has versions [1] and aliases {'best': 1}"
    assert refusal("models:/t2s@champion") == f"models:/t2s@champion: no alias 'champion'; {exists}"
    assert refusal("t2s/3") == f"t2s/3: no version 3; {exists}"
    assert (
        refusal("out/t2s/x")
        == "out/t2s/x: no such directory, and not models:/name@alias or models:/name/version"
    )
    with pytest.raises(JobError, match="no version 2"):
        models.promote("t2s", 2, "champion", mlflow_uri)
    with pytest.raises(JobError, match="cannot give t2s 1 the alias 'v9'"):
        models.promote("t2s", 1, "v9", mlflow_uri)


def test_nothing_to_register(tmp_path, mlflow_uri) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(JobError, match=f"{folder}: nothing to register"):
            models.register(folder, "x", tracking_uri=mlflow_uri)
    (tmp_path / "empty" / "file").write_text("")
    with pytest.raises(UsageError, match="model name 'a/b'"):
        models.register(tmp_path / "empty", "a/b", tracking_uri=mlflow_uri)


def test_files_that_are_gone(system, mlflow_uri) -> None:
    import shutil

    models.register(system, "t2s", tracking_uri=mlflow_uri)
    shutil.rmtree(models.resolve("t2s", mlflow_uri))
    with pytest.raises(JobError, match=r"^t2s: "):
        models.resolve("t2s", mlflow_uri)


def test_tracking_uri(monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert models.tracking_uri(None) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert models.tracking_uri(None) == "http://127.0.0.1:5000"
    assert models.tracking_uri("sqlite:////a.db") == "sqlite:////a.db"


def test_another_store_than_the_process_s_own_registers_and_leaves_nothing_else(
    mlflow_uri: str, tmp_path: Path
) -> None:
    """In a process without MLFLOW_TRACKING_URI, whose working directory stays as it was."""
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    model.mkdir()
    (model / "weights").write_text("x")
    elsewhere.mkdir()
    script = (
        "import os, sys; from pathlib import Path; from catalog.models import *\n"
        "assert register(Path(sys.argv[1]), 'tiny', tracking_uri=sys.argv[2]) == 1\n"
        "assert (resolve('models:/tiny/1', sys.argv[2]) / 'weights').read_text() == 'x'\n"
        "import mlflow; assert 'MLFLOW_TRACKING_URI' not in os.environ and not mlflow.is_tracking_uri_set()\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    words = [sys.executable, "-c", script, str(model), mlflow_uri]
    subprocess.run(words, cwd=elsewhere, env=environment, check=True)
    assert list(elsewhere.iterdir()) == []


def test_a_store_that_is_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is a folder; name a file"):
        models.list_models(f"sqlite:///{tmp_path}")
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=f"{tmp_path}/file is no folder that can be written"):
        models.list_models(f"sqlite:///{tmp_path}/file/new/mlflow.db")
    tracking_store.check_place(f"sqlite:///{tmp_path}/new/folder/mlflow.db")


def test_a_store_lies_where_its_path_says(system: Path, mlflow_uri: str, tmp_path: Path) -> None:
    """MLflow's SQLAlchemy decodes `%41` in a URI."""
    folder = tmp_path / "odd %41 é?"
    folder.mkdir()
    file = Path(shutil.copy(tracking_store.sqlite_file(mlflow_uri), folder / "mlflow.db"))
    uri = tracking_store.sqlite_uri(file)
    assert tracking_store.sqlite_file(uri) == file
    models.register(system, "odd", tracking_uri=uri)
    assert contents(models.resolve("models:/odd/1", uri)) == contents(system)
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlruns"}
    plain = f"sqlite:///{str(file).replace('%', '%25').replace('?', '%3F')}"
    assert models.tracking_uri(plain) == models.tracking_uri(uri) == uri
    assert models.tracking_uri(f"{plain}?timeout=9") == f"{uri}?timeout=9"


def test_a_new_store_makes_no_other_folder(system: Path, tmp_path: Path) -> None:
    """MLflow makes the folders above a new store, of the URI as it is written."""
    place = tmp_path / "odd %41" / "mlflow.db"
    place.parent.mkdir()
    models.register(system, "odd", tracking_uri=tracking_store.sqlite_uri(place))
    assert [path.name for path in tmp_path.iterdir() if "%" in path.name] == ["odd %41"]
    assert place.is_file()


def test_files_that_were_moved_are_named(system, mlflow_uri, tmp_path) -> None:
    models.register(system, "gone", tracking_uri=mlflow_uri)
    (tmp_path / "mlruns").rename(tmp_path / "elsewhere")
    with pytest.raises(
        JobError, match=rf"its files are gone from {tmp_path}/mlruns/\S+; if that folder was moved"
    ):
        models.resolve("models:/gone/1", mlflow_uri)
    (tmp_path / "elsewhere").rename(tmp_path / "mlruns")
    assert models.resolve("models:/gone/1", mlflow_uri).is_dir()


def test_looking_for_a_model_makes_no_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/none.db"
    with pytest.raises(JobError, match=r"no such directory or registered model; .* has: none"):
        models.resolve("models:/voice@best", uri)
    assert models.list_models(uri) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "pipe"])
def test_a_store_that_is_no_database_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "notes"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.write_text("some notes\n")
    with pytest.raises(JobError, match="notes is no SQLite database; name another file"):
        models.list_models(f"sqlite:///{place}")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a@b", "a:b", "a\nb", "a\x1bb"])
def test_names_that_the_registry_will_not_take(name: str) -> None:
    with pytest.raises(UsageError, match=r"model name .* are not allowed"):
        models.check_names(name)


@pytest.mark.parametrize("alias", ["", "a b", "a/b", "latest", "v1", "V12", "é"])
def test_aliases_that_the_registry_will_not_take(alias: str) -> None:
    models.check_names("a.b-c d", "champion_1")
    with pytest.raises(UsageError, match=r"alias .* must be letters, digits, _ and -"):
        models.check_names("name", alias)
