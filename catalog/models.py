"""The model registry: directories become numbered versions with aliases, and are found again. MLflow is behind it.

Only clients with an explicit URI are used: MLflow's process-wide tracking URI and active run stay as they are.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from catalog.command import JobError, UsageError
from catalog.pyfunc import save_pyfunc, system_folder
from catalog.tracking_store import check_place, client_of, is_absent, make_store, sqlite_file, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as EntityVersion
    from mlflow.models import ModelSignature
    from mlflow.store.entities import PagedList

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
_EXPERIMENT = "registered"
_VARIABLE = "MLFLOW_TRACKING_URI"
_LOCK = threading.Lock()
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@:\\]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?")


@dataclass(frozen=True)
class ModelVersion:
    """One registered version; `run_id` is the training run, "" if there was none."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    tags: Mapping[str, str]


def tracking_uri(given: str | None) -> str:
    """The URI given, else MLFLOW_TRACKING_URI, else an SQLite file in the working directory."""
    uri = given or os.environ.get(_VARIABLE) or DEFAULT_TRACKING_URI
    path, mark, query = uri.partition("?")
    file = sqlite_file(path)
    return sqlite_uri(file) + mark + query if file is not None and "%" in path else uri


# `register` and `resolve` have a parameter of that name.
_tracking_uri = tracking_uri


def register(
    directory: Path,
    name: str,
    *,
    tracking_uri: str,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    pyfunc_script: Path | None = None,
    signature: ModelSignature | None = None,
    pip_requirements: Sequence[str] = ("speechmill",),
    description: str = "",
) -> int:
    """Register a copy of `directory` as the next version of `name` and return its number.

    With `pyfunc_script` (an MLflow models-from-code script that reads `context.artifacts["system"]`) the version is
    also an MLflow pyfunc with that `signature` (`system_signature()` if None); without, `resolve` alone can fetch it.
    `description` is the version's, in Markdown.
    The version becomes visible when everything is uploaded. Raises JobError.
    """
    if not directory.is_dir() or not any(directory.iterdir()):
        raise JobError(f"{directory}: nothing to register; must be a directory with a model")
    check_names(name)
    from mlflow.exceptions import MlflowException

    client = _client(tracking_uri)
    try:
        experiment = (
            client.get_run(run_id).info.experiment_id if run_id else experiment_id(client, _EXPERIMENT)
        )
        logged = client.create_logged_model(experiment, _logged_name(name), source_run_id=run_id)
        if pyfunc_script is None:
            client.log_model_artifacts(logged.model_id, str(directory))
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model"
                save_pyfunc(
                    path, directory, pyfunc_script, logged.model_id, run_id, signature, pip_requirements
                )
                client.log_model_artifacts(logged.model_id, str(path))
        client.finalize_logged_model(logged.model_id, "READY")
        return _add_version(client, name, logged.model_id, run_id, dict(tags or {}), description)
    except MlflowException as error:
        raise JobError(f"cannot register {name} at {tracking_uri}: {_line(error)}") from error
    except OSError as error:  # of a copy it may name the file that is read
        raise JobError(f"cannot register {name} at {tracking_uri}: {error.strerror or error}") from error


def check_names(name: str, alias: str | None = None) -> None:
    """UsageError for a name or an alias that the registry will not take: seen before the work, not behind it."""
    if not re.fullmatch(r"[^/@:\\]+", name) or not name.strip() or not name.isprintable():
        raise UsageError(f"model name {name!r}: /, @, :, backslash and control characters are not allowed")
    if alias is not None and (
        not re.fullmatch(r"[\w-]+", alias, re.ASCII) or re.fullmatch(r"latest|v\d+", alias.lower())
    ):
        raise UsageError(
            f"alias {alias!r}: must be letters, digits, _ and -, and neither 'latest' nor a version such as v1"
        )


def resolve(source: str | Path, tracking_uri: str | None = None) -> Path:
    """The directory of a model: `source` itself if it is one, else that of the registered version it names.

    A version is `models:/name@alias`, `models:/name/3` or `models:/name` (the champion, else the newest); the
    `models:/` may be left out. Raises JobError naming what exists.
    """
    if Path(source).is_dir():
        return Path(source).absolute()
    uri = _tracking_uri(tracking_uri)
    found = describe(str(source), uri)
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        where = _artifact_location(_client(uri), found)
        _refuse_gone(source, where)
        folder = Path(mlflow.artifacts.download_artifacts(where, tracking_uri=uri, registry_uri=uri))
    except (MlflowException, OSError) as error:
        raise JobError(f"{source}: cannot fetch it from {uri}: {_line(error)}") from error
    if not folder.is_dir():
        raise JobError(f"{source}: its files are gone from {folder}")
    return system_folder(folder)


def _refuse_gone(source: str | Path, where: str) -> None:
    """JobError naming the folder where a version's files should be."""
    path = Path(unquote(urlsplit(where).path)) if where.startswith("file:") else Path(where)
    if (where.startswith("file:") or "://" not in where) and not path.exists():
        raise JobError(
            f"{source}: its files are gone from {path}; if that folder was moved, move it back or link it there"
        )


def describe(source: str, tracking_uri: str) -> ModelVersion:
    """The registered version that `source` names. Raises JobError naming what exists; makes no store."""
    from mlflow.exceptions import MlflowException

    match = _REFERENCE.fullmatch(source)
    if match is None:
        raise JobError(f"{source}: no such directory, and not models:/name@alias or models:/name/version")
    if is_absent(tracking_uri):
        raise JobError(f"{source}: no such directory or registered model; {tracking_uri} has: none")
    client = _client(tracking_uri)
    name, alias, version = match["name"], match["alias"], match["version"]
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        names = ", ".join(sorted({one.name for one in list_models(tracking_uri)})) or "none"
        raise JobError(
            f"{source}: no such directory or registered model; {tracking_uri} has: {names}"
        ) from error
    aliases = {key: int(value) for key, value in model.aliases.items()}
    versions = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
    exist = f"{name} has versions {versions} and aliases {aliases}"
    if alias is not None and alias not in aliases:
        raise JobError(f"{source}: no alias {alias!r}; {exist}")
    if version is not None and int(version) not in versions:
        raise JobError(f"{source}: no version {version}; {exist}")
    if not versions:
        raise JobError(f"{source}: the model has no version")
    number = int(version) if version else aliases[alias] if alias else aliases.get("champion", versions[-1])
    return _version(client.get_model_version(name, str(number)), aliases)


def promote(name: str, version: int, alias: str, tracking_uri: str) -> None:
    """Point an alias at a version. Raises JobError naming what exists."""
    from mlflow.exceptions import MlflowException

    describe(f"models:/{name}/{version}", tracking_uri)
    try:
        _client(tracking_uri).set_registered_model_alias(name, alias, str(version))
    except MlflowException as error:
        raise JobError(f"cannot give {name} {version} the alias {alias!r}: {_line(error)}") from error


def log_metrics(
    model: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str], tracking_uri: str
) -> str:
    """Log figures of a version, and tags that say where they come from, to its run; returns that run's id.

    A version without a run, such as a system that was assembled, gets one, the same every time. Raises JobError.
    """
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    client, now_ms = _client(tracking_uri), int(time.time() * 1000)
    try:
        run_id = model.run_id or _run_of(client, model)
        logged = [Metric(name, value, now_ms, 0) for name, value in metrics.items()]
        client.log_batch(run_id, logged, tags=[RunTag(key, value) for key, value in tags.items()])
    except MlflowException as error:
        raise JobError(f"cannot log figures of {model.name} {model.version}: {_line(error)}") from error
    return run_id


def list_models(tracking_uri: str) -> list[ModelVersion]:
    """Every registered version, by name and number."""
    if is_absent(tracking_uri):
        return []
    client = _client(tracking_uri)
    aliases = {model.name: model.aliases for model in _pages(client.search_registered_models)}
    found = [_version(one, aliases.get(one.name, {})) for one in _pages(client.search_model_versions)]
    return sorted(found, key=lambda one: (one.name, one.version))


def _client(uri: str) -> MlflowClient:
    check_place(uri)
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    make_store(uri)
    try:
        return client_of(uri)
    except MlflowException as error:
        raise JobError(f"tracking URI {uri!r}: {_line(error)}") from error


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name in an MLflow client's store, created if there is none.

    Artifacts of an SQLite store lie in `mlruns/` beside its file, whatever directory the process works in.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        file, place = sqlite_file(str(client.tracking_uri)), None
        if file is not None:
            place = (file.absolute().parent / "mlruns" / re.sub(r"[^\w.-]", "_", name)).as_uri()
        try:
            return str(client.create_experiment(name, place))
        except MlflowException:  # another process made it at the same moment
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _add_version(
    client: MlflowClient,
    name: str,
    model_id: str,
    run_id: str | None,
    tags: dict[str, str],
    description: str,
) -> int:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _process_wide(client.tracking_uri):
        version = client.create_model_version(
            name, f"models:/{model_id}", run_id, tags=tags, description=description or None, model_id=model_id
        )
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return int(version.version)


@contextmanager
def _process_wide(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's process-wide one for a moment: its registry looks logged models up there (MLflow 3.17's
    `SqlAlchemyStore.create_model_version`), whatever the client was given.
    """
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    variable = os.environ.get(_VARIABLE)
    with _LOCK:
        try:
            with _use_tracking_uri(uri):
                yield
        finally:
            # MLflow forgets the variable if nobody had set its URI by a call.
            os.environ.pop(_VARIABLE, None)
            os.environ.update({} if variable is None else {_VARIABLE: variable})


def _artifact_location(client: MlflowClient, found: ModelVersion) -> str:
    """Location of the files. MLflow would look a `models:/` URI up in the process-wide registry, not in this one."""
    uri = str(client.get_model_version_download_uri(found.name, str(found.version)))
    if not uri.startswith("models:/"):
        return uri
    return str(client.get_logged_model(uri.removeprefix("models:/")).artifact_location)


def _version(found: EntityVersion, aliases: Mapping[str, str | int]) -> ModelVersion:
    own = tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(found.version)))
    return ModelVersion(found.name, int(found.version), own, found.run_id or "", dict(found.tags))


def _pages(search: Callable[..., PagedList[Any]]) -> list[Any]:
    page = search()
    found = list(page)
    while page.token:
        page = search(page_token=page.token)
        found += page
    return found


def _run_of(client: MlflowClient, model: ModelVersion) -> str:
    """The run that `log_metrics` made for a version before, else a new one, finished."""
    experiment = experiment_id(client, _EXPERIMENT)
    tags = {"speechmill.model": model.name, "speechmill.version": str(model.version)}
    for run in _pages(partial(client.search_runs, [experiment])):
        if all(run.data.tags.get(key) == value for key, value in tags.items()):
            return str(run.info.run_id)
    made = client.create_run(experiment, tags=tags, run_name=f"{model.name} {model.version}")
    client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def _logged_name(name: str) -> str:
    """Logged models allow fewer characters than registered ones."""
    return re.sub(r"[/:.%\"']", "_", name)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
