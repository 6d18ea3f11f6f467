"""Hugging Face datasets: `hf:NAME_OR_DIRECTORY[@REVISION][,config=CONFIG][,split=SPLIT]`.

`datasets` says which files a dataset is made of; we read them ourselves, so audio is read once, by the worker that
decodes it. A directory is one of `save_to_disk` (Arrow) or laid out like a repository (Parquet, tars, or audio files
with `metadata.csv`). Splits other than `train` are validation data, unless their name says nothing we know.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from catalog.command import UsageError
from pipelines.sources import uris
from pipelines.sources.attributes import Fields
from pipelines.sources.recording_files import FilesSource, RecordingFile

PREFIX = "hf:"
_SYNTAX = re.compile(r"(?P<name>.+?)(?:@(?P<revision>[^@,]+))?(?P<options>(?:,[^,=]+=[^,]*)*)")
_REPOSITORY = re.compile(r"hf://datasets/[^/]+/[^/@]+(?:@[^/]+)?/")


def open_hugging_face(location: str) -> FilesSource:
    """The source behind `hf:...`; raises UsageError for a dataset that cannot be found or has no such split."""
    found = _SYNTAX.fullmatch(location.removeprefix(PREFIX))
    if found is None:
        raise UsageError(
            f"source {location!r}: write hf:NAME_OR_DIRECTORY[@REVISION][,config=CONFIG][,split=SPLIT]"
        )
    name, revision = found["name"], found["revision"]
    options = dict(one.split("=", 1) for one in found["options"].split(",") if one)
    unknown = set(options) - {"config", "split"}
    if unknown:
        raise UsageError(f"source {location!r}: {', '.join(sorted(unknown))} is neither config nor split")
    directory = Path(name).absolute()
    if is_saved(directory):
        splits, uri = _saved(directory), directory.as_uri()
    else:
        splits = _files_of(name, options.get("config"), revision, location)
        uri = directory.as_uri() if directory.is_dir() else location
    wanted = options.get("split")
    if wanted is not None and wanted not in splits:
        raise UsageError(f"source {location!r} has no split {wanted!r}; it has {', '.join(splits)}")
    root = f"{uri}/" if directory.is_dir() else None
    files = tuple(
        RecordingFile(one, _within(one, root), split)
        for split, found_files in splits.items()
        for one in found_files
        if wanted in (None, split)
    )
    return FilesSource(uri, files)


def is_saved(directory: Path) -> bool:
    """True if `datasets` has written this directory with `save_to_disk`."""
    return (directory / "dataset_dict.json").is_file() or (
        (directory / "state.json").is_file() and (directory / "dataset_info.json").is_file()
    )


def _saved(directory: Path) -> Mapping[str, list[str]]:
    """Split -> Arrow files, in their order."""
    index = directory / "dataset_dict.json"
    if index.is_file():
        return {split: list(_arrow(directory / split)) for split in _json(index)["splits"]}
    return {_json(directory / "state.json").get("_split") or "train": list(_arrow(directory))}


def _arrow(directory: Path) -> Iterator[str]:
    for one in _json(directory / "state.json")["_data_files"]:
        yield (directory / one["filename"]).as_uri()


def _json(path: Path) -> Fields:
    try:
        found: Fields = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    return found


def _files_of(name: str, config: str | None, revision: str | None, location: str) -> Mapping[str, list[str]]:
    """Split -> files, as `datasets` resolves them."""
    import datasets

    try:
        # The builder wants a cache, but nothing is kept: its files are read where they are.
        with tempfile.TemporaryDirectory() as cache:
            builder = datasets.load_dataset_builder(name, config, revision=revision, cache_dir=cache)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"source {location!r}: {' '.join(str(error).split())}") from error
    found = builder.config.data_files
    if not found:
        raise UsageError(f"source {location!r} has no data files")
    return {str(split): [uris.to_uri(str(one)) for one in each] for split, each in found.items()}


def _within(uri: str, root: str | None) -> str:
    """The path of a file in its repository: the same for every revision and every place of a directory."""
    if root is not None and uri.startswith(root):
        return unquote(uri.removeprefix(root))
    return _REPOSITORY.sub("", unquote(uri))
