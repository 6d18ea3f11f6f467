"""Training of a low-rank adapter: the base's settings and weights, checkpoints without them, and both exports."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from catalog.command import JobError, UsageError
from catalog.models import resolve
from models.adapters import Base, StoredAdapter, attach, merged, read_adapter, save_adapter
from models.checkpoints import Json, Record, read_json
from models.generators import CONFIG, WEIGHTS
from models.shared_weights import weights_sha256
from models.text.front_ends import comparable
from trainers.lineage import exact
from trainers.objectives import DataInfo, Objective
from trainers.objectives.generator import GeneratorObjective
from trainers.objectives.network import NetworkObjective
from trainers.settings import AdapterFields, FitSettings
from trainers.text_tokens import TextTokens

DIRECTORY = "adapter"
"""Folder of a run directory: the adapter by itself."""


@dataclass(frozen=True)
class Found:
    """A base, and where it lies now."""

    base: Base
    directory: Path


def exact_base(adapter: AdapterFields, tracking_uri: str, before: str | None) -> AdapterFields:
    """The settings with the base's version instead of an alias; that of `before`, a run that is continued, if it is
    another one of the same name by now.
    """
    name, at, _ = adapter.base.partition("@")
    if at and before is not None and before.startswith(f"{name}/"):
        return adapter.model_copy(update={"base": before})
    return adapter.model_copy(update={"base": exact(adapter.base, tracking_uri)})


def find_base(settings: FitSettings) -> Found:
    """Fetch the base of an adapter. UsageError for one that is no generator of the family."""
    assert settings.adapter is not None
    source = settings.adapter.base
    directory = resolve(source, settings.tracking.uri)
    try:
        if read_adapter(directory) is not None:
            raise UsageError(f"adapter.base {source} is an adapter itself: give a generator, or a merged one")
        family = read_json(directory / CONFIG).get("family") if (directory / CONFIG).is_file() else None
        if family is None or not (directory / WEIGHTS).is_file():
            raise UsageError(
                f"adapter.base {source} is no generator directory: it needs {CONFIG} and {WEIGHTS}"
            )
    except ValueError as error:
        raise UsageError(f"adapter.base {source}: {error}") from error
    if family != settings.family:
        raise UsageError(f"adapter.base {source} is a {family}; family is {settings.family}")
    return Found(Base(source, weights_sha256(directory)), directory)


def settings_of_base(settings: FitSettings, found: Found) -> FitSettings:
    """With the base's sizes, and the settings of its training where the configuration says nothing."""
    config = _section(read_json(found.directory / CONFIG), "config")
    record = found.directory / "training.json"
    objective = _section(read_json(record), "objective") if record.is_file() else {}
    return settings.model_copy(
        update={"model": config | settings.model, "objective": objective | settings.objective}
    )


def check_text(family: type[Objective[Any]], settings: Any, data: DataInfo, found: Found) -> None:
    """UsageError if the objective's settings read text otherwise than the base does."""
    path = found.directory / "text.json"
    if not issubclass(family, GeneratorObjective) or not path.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        front_end = TextTokens(settings.text, data.text).front_end
        now = comparable(json.loads(json.dumps(front_end.save(Path(folder)))))
    if now != (was := comparable(read_json(path))):
        raise UsageError(f"objective.text is {now}; adapter.base {found.base.source} reads {was}")


def begin(objective: Objective[Any], settings: FitSettings, found: Found) -> Record:
    """Put the base's weights and a new adapter into `objective`; returns what a continued run must share.

    From here on its state has the adapter alone. UsageError for a family without a network of its own, and for settings
    that do not fit the network.
    """
    adapter = settings.adapter
    assert adapter is not None
    if not isinstance(objective, NetworkObjective):
        raise UsageError(f"family {settings.family} is trained as a whole: it takes no adapter")
    try:
        if not next(objective.parameters()).is_meta:  # a dry run has sizes only
            objective.warm_start(found.directory)
        attach(objective.network, adapter.config)
    except ValueError as error:
        raise UsageError(f"adapter: {error}") from error
    objective.register_state_dict_post_hook(_without_base)  # type: ignore[no-untyped-call]
    objective.register_load_state_dict_pre_hook(_with_base)  # type: ignore[no-untyped-call]
    kept = ("rank", "alpha", "dropout", "targets")
    values = adapter.model_dump(mode="json")
    return {
        "base": found.base.source,
        "base_sha256": found.base.sha256,
        **{key: values[key] for key in kept},
    }


def export_merged(objective: Objective[Any], directory: Path) -> None:
    """Write what the objective exports, with the adapter in the weights."""
    assert isinstance(objective, NetworkObjective)
    network = objective.network
    try:
        objective.network = merged(network)
        objective.export(directory)
    finally:
        objective.network = network


def export_adapter(
    objective: Objective[Any], settings: FitSettings, found: Found, exported: Path, directory: Path
) -> None:
    """Write the adapter by itself, with everything but weights and sizes from `exported`."""
    assert isinstance(objective, NetworkObjective)
    assert settings.adapter is not None
    shutil.copytree(
        exported, directory, ignore=lambda _, names: [one for one in names if one in (CONFIG, WEIGHTS)]
    )
    stored = StoredAdapter(settings.family, settings.adapter.config, found.base)
    save_adapter(objective.network, stored, directory)


def base_of(part: Path, what: str, tracking_uri: str) -> Path | None:
    """The directory of the base of an adapter directory, None for a generator. JobError if its weights are others."""
    try:
        stored = read_adapter(part)
    except ValueError as error:
        raise JobError(f"{what}: {error}") from error
    if stored is None:
        return None
    try:
        directory = resolve(stored.base.source, tracking_uri)
        now = weights_sha256(directory)
    except (JobError, OSError) as error:
        raise JobError(f"{what} is an adapter, whose base is missing: {error}") from error
    if now != stored.base.sha256:
        raise JobError(
            f"{what} is an adapter of {stored.base.source} with the weights {stored.base.sha256[:12]}, "
            f"which are now {now[:12]}"
        )
    return directory


def _section(record: Mapping[str, Json], key: str) -> dict[str, Json]:
    section = record.get(key)
    return dict(section) if isinstance(section, Mapping) else {}


def _without_base(module: nn.Module, state: Record, prefix: str, _: Any) -> None:
    """The state has what is trained and buffers; the base's weights are known by their digest."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            del state[prefix + name]


def _with_base(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            state.setdefault(prefix + name, parameter.detach())
