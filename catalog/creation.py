"""Datasets come into being, or are started over with another identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from catalog import table
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import MAX_CONFLICTS
from catalog.identity import Columns, Identity
from catalog.storage import Storage, open_storage
from models.identity import TokenIdentity


def create(
    uri: str | Path, codec: TokenIdentity, settings: Mapping[str, object], columns: Columns | None = None
) -> Dataset:
    """Make an empty dataset, or open the one that is there.

    `settings` are those that change a row, `columns` the makers of token columns. Those that an existing dataset does
    not have yet are for the caller to declare (`catalog.columns`). Raises JobError if it has another codec, other
    settings, further token columns or other makers of them (naming each difference with both values), or if the folder
    holds something else.
    """
    storage, identity = open_storage(uri), Identity(codec, settings, columns or {})
    if not table.exists(storage.uri):
        _refuse_place(storage)
        table.create(storage.uri, identity)
    dataset = Dataset.open(uri)
    known = {name: made for name, made in identity.columns.items() if name in dataset.identity.columns}
    identity = replace(identity, columns=known)
    differences = dataset.identity.differences(identity)
    if differences:
        same = f"go on with the codec {dataset.codec.source}, or " if dataset.codec != codec else ""
        raise JobError(f"{dataset.uri}: made otherwise: {'; '.join(differences)}; {same}give another output")
    return dataset


def restart(
    uri: str | Path, codec: TokenIdentity, settings: Mapping[str, object], columns: Columns | None = None
) -> Dataset:
    """Start a dataset over with another codec or other settings, in one commit: no files, the new identity.

    Old versions stay readable, and a job that still writes the old rows is refused at its next commit. A dataset that
    has this identity already is opened as it is, so that the same command goes on after a kill; where there is none,
    one is made. Raises JobError.
    """
    identity = Identity(codec, settings, columns or {})
    for _ in range(MAX_CONFLICTS):
        if not exists(uri):
            return create(uri, codec, settings, columns)
        dataset = Dataset.open(uri)
        if not dataset.identity.differences(identity):
            return dataset
        if table.replace(table.load(dataset.uri, dataset.version), dataset.uri, identity):
            dataset.storage.sync(f"_delta_log/{dataset.version + 1:020d}.json")
    raise JobError(f"{uri}: {MAX_CONFLICTS} conflicts with other jobs in a row; stop them")


def exists(uri: str | Path) -> bool:
    """True if a dataset is at `uri`; JobError where there is none and none can be made. Writes nothing."""
    storage = open_storage(uri)
    found = table.exists(storage.uri)
    if not found:
        _refuse_place(storage)
    return found


def _refuse_place(storage: Storage) -> None:
    """JobError where no dataset can be made: among other files, below a file, or in a folder that is not ours."""
    if "://" not in storage.uri:
        place = Path(storage.uri)
        parent = next(folder for folder in (place, *place.parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            what = "cannot be written" if parent.is_dir() else "is not a folder"
            raise JobError(f"{storage.uri}: cannot create a dataset: {parent} {what}")
    foreign = sorted(path for path in storage.listing() if not path.startswith("_"))
    if foreign:
        raise JobError(f"{storage.uri}: holds {foreign[0]} and is not a dataset; give an empty or new folder")
