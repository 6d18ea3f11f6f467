"""Settings of a fit: one YAML file, strict, completed from the dataset and the family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, Field, create_model

from catalog.command import UsageError
from catalog.config import Settings, load_config
from catalog.models import check_names
from models.adapters import AdapterConfig
from models.checkpoints import Record, Values
from trainers.loop_config import LoopConfig
from trainers.objectives import DataInfo, objective_class
from trainers.plan import BatchConfig

T = TypeVar("T")


class DataSettings(Settings):
    """Source of the rows: a dataset of the catalog, or Parquet files."""

    dataset: str | None = Field(default=None, description="dataset directory or URI")
    version: int | None = Field(
        default=None, description="dataset version; the newest at the start of the run if absent"
    )
    files: tuple[str, ...] = Field(
        default=(), description="Parquet files with text and codes, instead of a dataset"
    )
    validation_files: tuple[str, ...] = Field(default=(), description="the same for validation")
    codec: str | None = Field(
        default=None,
        description="codec of `files`: a name such as mill-16khz@1, or a directory; of a dataset, where it is",
    )
    copies: bool = Field(default=True, description="train on the noisy copies that `prepare` made, too")
    batch: BatchConfig = BatchConfig()
    cache: Path | None = Field(
        default=None, description="folder for rows beyond 1 GiB; default: inside `output`"
    )


class TrackingSettings(Settings):
    """The MLflow run of a fit."""

    enabled: bool = True
    uri: str | None = Field(
        default=None, description="tracking URI; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    experiment: str = "speechmill"
    run_name: str | None = Field(default=None, description="default: the family and the output folder's name")


class AdapterFields(Settings):
    """A low-rank adapter that is trained in the place of the network."""

    base: str = Field(description="generator directory or models:/ URI; its weights stay as they are")
    rank: int = AdapterConfig.rank
    alpha: float = AdapterConfig.alpha
    dropout: float = AdapterConfig.dropout
    targets: tuple[str, ...] = Field(
        default=AdapterConfig.targets, description="names of linear layers, or their last parts"
    )
    registered: Literal["adapter", "merged"] = Field(
        default="adapter", description="what `register` registers: the adapter alone, or the merged generator"
    )

    @property
    def config(self) -> AdapterConfig:
        """Its size and place. ValueError for a value that is not allowed."""
        return AdapterConfig(self.rank, self.alpha, self.dropout, self.targets)


class FitSettings(Settings):
    """One training run."""

    # The YAML key `register` would hide a method of pydantic's classes.
    model_config = ConfigDict(serialize_by_alias=True)

    family: str
    model: Record = Field(
        default_factory=dict, description="the family's network; the rest follows from the data"
    )
    objective: Record = Field(default_factory=dict, description="the family's objective")
    data: DataSettings
    loop: LoopConfig
    output: Path | None = Field(
        default=None, description="run directory; default runs/<family>. A run found there is continued"
    )
    init: str | None = Field(
        default=None,
        description="directory, models:/ URI or embedded codec (mill-16khz@1) whose weights to start from",
    )
    adapter: AdapterFields | None = Field(
        default=None, description="train a low-rank adapter of a trained generator instead of a network"
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:1, ...; with workers, what each of them uses"
    )
    workers: int = Field(default=0, ge=0, description="Ray Train workers; 0 trains in this process")
    worker_cpus: int = Field(default=1, ge=1, description="CPUs (and threads) of a worker")
    max_failures: int = Field(default=3, ge=0, description="restarts after a worker died")
    register_as: str | None = Field(
        default=None, alias="register", description="model name to register the best checkpoint as"
    )
    tracking: TrackingSettings = TrackingSettings()

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.output or Path("runs") / self.family


def load_fit(path: Path | None, overrides: Sequence[str] = ()) -> FitSettings:
    """Read a fit configuration. UsageError names an unknown key, a wrong value or an unknown family."""
    settings = load_config(FitSettings, path, overrides)
    if settings.register_as is not None:
        check_names(settings.register_as)
    data = settings.data
    if (data.dataset is None) == (not data.files):
        raise UsageError("data: give either dataset or files")
    if data.files and data.codec is None:
        raise UsageError("data.codec is required with data.files: name the codec that made their codes")
    group, workers = settings.loop.batches_per_step, settings.workers
    if workers and group % workers:
        raise UsageError(f"loop.batches_per_step is {group}: must be a multiple of the {workers} workers")
    if settings.loop.sharding == "fsdp" and workers < 2:
        raise UsageError(f"loop.sharding is fsdp with {workers} workers: needs at least 2")
    if settings.adapter is not None:
        _check_adapter(settings, settings.adapter)
    try:
        objective_class(settings.family)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return settings


def _check_adapter(settings: FitSettings, adapter: AdapterFields) -> None:
    if settings.init is not None:
        raise UsageError(f"init is {settings.init!r}: an adapter starts from adapter.base, give one of them")
    if settings.loop.sharding == "fsdp":
        raise UsageError(
            "loop.sharding is fsdp: an adapter is trained replicated, for its base has no gradients"
        )
    try:
        _ = adapter.config
    except ValueError as error:
        raise UsageError(f"adapter: {error}") from error


def objective_settings(settings: FitSettings, info: DataInfo) -> Any:
    """The family's objective settings as its frozen dataclass, completed from the data.

    UsageError names a key the family does not know, or a wrong value.
    """
    family = objective_class(settings.family)
    try:
        return family.resolve(_section("objective", family.settings, settings.objective), info)
    except ValueError as error:
        raise UsageError(f"objective: {error}") from error


def model_settings(settings: FitSettings, objective: Any, info: DataInfo) -> Any:
    """The same of the family's model. UsageError also where a value contradicts the data."""
    family = objective_class(settings.family)
    derived = family.derive(objective, info)
    for key, value in derived.items():
        given = settings.model.get(key, value)
        if given != value:
            raise UsageError(
                f"model.{key} is {given!r}, but the dataset (codec {info.codec}) needs {value!r}"
            )
    return _section("model", family.model_config, {**settings.model, **derived})


def _section(name: str, kind: type[T], values: Values) -> T:
    shell: type[Settings] = create_model(name, __base__=Settings, **{name: (kind, ...)})  # type: ignore[call-overload]
    found = getattr(load_config(shell, None, (), {name: dict(values)}), name)
    assert isinstance(found, kind)
    return found
