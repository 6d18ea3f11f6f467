"""A tree of recordings and the tree of their vectors: what is left to do, and the record of what is done.

`success_total_audio.json` is a sorted list of the absolute paths of all recordings that have vectors, as
raoabinav/versaface_autoencoder's extractor keeps it; jobs on other parts of a tree may write to it at the same time.
`recordings.json` beside it has the size and the time of the last change of each as it was read, so that one that has
changed since is embedded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from catalog.command import JobError, UsageError
from catalog.files import write_text
from models.identity import TokenIdentity
from pipelines.execution.ray_stream import RecordingBatch
from pipelines.sources.folder import IGNORED
from pipelines.sources.uris import shown

SUCCESS = "success_total_audio.json"
SEEN = "recordings.json"
MAKER = "embeddings.json"
"""In the tree of vectors: the identity of what made them."""
_SAVE_S = 10.0
_WINDOW = 1024


@dataclass
class Tree:
    """The recordings of one run, in the order of their names."""

    embeddings: Path
    record: Path
    files: int
    """Recordings on offer, done ones included."""
    todo: list[tuple[Path, Path]]
    """Recordings without vectors, and where those go."""
    done: set[str]
    """Absolute paths of recordings with vectors."""
    changed: int = 0
    """Of those left to do: recordings that were embedded, and have changed since."""
    new: int = 0
    rejected: int = 0
    seconds: float = 0.0
    _looks: dict[str, str] = field(default_factory=dict)
    """Of those left to do, as they are now."""
    _seen: dict[str, str] = field(default_factory=dict)
    """Of those embedded by this run, as they were read, and of those that were not remembered."""

    @staticmethod
    def read(audio: Path, embeddings: Path, records: Path, part: str, max_files: int | None) -> Tree:
        """Look what is there. UsageError for folders that cannot be read, JobError for a record that is damaged.

        Every regular file counts that is not hidden or text: what is no recording is rejected when it is read.
        """
        audio, embeddings = audio.absolute(), embeddings.absolute()
        folder = audio / part
        if not folder.is_dir():
            raise UsageError(f"{folder}: is no folder of recordings")
        pairs = _targets(_files(folder, embeddings), audio, embeddings)[:max_files]
        if not pairs:
            raise UsageError(f"{folder}: holds no recordings")
        record = records.absolute() / SUCCESS
        listed, seen = _read(record), _read_seen(record.with_name(SEEN))
        made = {str(path) for path, target in pairs if str(path) in listed or target.is_file()}
        done = {path for path in made if path not in seen or seen[path] == _look(path)}
        todo = [(path, target) for path, target in pairs if str(path) not in done]
        looks = {str(path): _look(path) for path, _ in todo}
        # A killed run, and those of before there was a memory, leave vectors without: they count from now on.
        now = {path: _look(path) for path in made if path not in seen}
        changed = len(made) - len(done)
        return Tree(embeddings, record, len(pairs), todo, done, changed, _looks=looks, _seen=now)

    def claim(self, maker: TokenIdentity) -> None:
        """State who makes the vectors. JobError if another made those that are there."""
        path = self.embeddings / MAKER
        if path.is_file():
            made = read_maker(self.embeddings)
            if made != maker:
                raise JobError(
                    f"{self.embeddings}: its vectors are made by {made.source} ({made.digest[:12]}), not by "
                    f"{maker.source} ({maker.digest[:12]}); give another --embedding-dir"
                )
            return
        write_text(path, maker.to_json() + "\n")

    def batches(self, most_files: int, most_bytes: int) -> Iterator[RecordingBatch]:
        """Batches of the files left to do. Files of similar size travel together, so that little is padding."""
        index = 0
        for first in range(0, len(self.todo), _WINDOW):
            window = [(_size(path), path, target) for path, target in self.todo[first : first + _WINDOW]]
            batch: list[tuple[int, Path, Path]] = []
            for one in sorted(window):
                if len(batch) == most_files or (
                    batch and one[0] + sum(size for size, *_ in batch) > most_bytes
                ):
                    yield _batch(index, batch)
                    index, batch = index + 1, []
                batch.append(one)
            if batch:
                yield _batch(index, batch)
                index += 1

    @contextmanager
    def recording(self) -> Iterator[Callable[[pa.Table], None]]:
        """A function that takes the tables of `EmbedStage`; what is done is recorded now and then, and at the end."""
        saved = time.monotonic()

        def add(table: pa.Table) -> None:
            nonlocal saved
            for row in table.to_pylist():
                if row["problem"] is None:
                    self.new += 1
                    self.seconds += row["duration_s"]
                    path = shown(row["uri"])
                    self.done.add(path)
                    self._seen[path] = self._looks.get(path, "")
                else:
                    self.rejected += 1
                    sys.stderr.write(f"rejected {_printable(shown(row['uri']))}: {row['problem']}\n")
            if time.monotonic() - saved > _SAVE_S:
                self.save()
                saved = time.monotonic()

        try:
            yield add
        finally:
            self.save()

    def save(self) -> None:
        """Add what is done to the record. Others' entries stay, whoever writes at the same time."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with (self.record.parent / f".{SUCCESS}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            listed = _read(self.record)
            if not self.done <= listed or not self.record.exists():
                write_text(self.record, json.dumps(sorted(listed | self.done), indent=1) + "\n")
            if self._seen:
                place = self.record.with_name(SEEN)
                write_text(place, json.dumps(_read_seen(place) | self._seen, indent=1, sort_keys=True) + "\n")


def read_maker(embeddings: Path) -> TokenIdentity:
    """The identity of what made the vectors of a tree. JobError if nothing says so."""
    path = embeddings / MAKER
    try:
        return TokenIdentity.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise JobError(f"{path}: does not say what made the vectors beside it: {error}") from error


def _files(folder: Path, leave_out: Path) -> Iterator[Path]:
    """Files, in any order; folders that are links are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".") and Path(place, one) != leave_out]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.suffix.lower() not in IGNORED | {".npy"} and path.is_file():
                yield path


def _targets(paths: Iterator[Path], audio: Path, embeddings: Path) -> list[tuple[Path, Path]]:
    """The vectors of each recording; of names that differ in their ending only, the later ones keep it."""
    found: list[tuple[Path, Path]] = []
    taken: set[Path] = set()
    for path in sorted(paths):
        relative = path.relative_to(audio)
        target = embeddings / relative.with_suffix(".npy")
        if target in taken:
            target = embeddings / relative.with_name(f"{relative.name}.npy")
        taken.add(target)
        found.append((path, target))
    return found


def _read(record: Path) -> set[str]:
    try:
        listed = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    except ValueError as error:
        raise JobError(f"{record}: is not JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise JobError(f"{record}: must be a list of paths")
    return set(listed)


def _read_seen(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise JobError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise JobError(f"{path}: must be an object of texts")
    return found


def _look(path: Path | str) -> str:
    """Size and time of the last change; "" for a file that is gone."""
    try:
        found = Path(path).stat()
    except OSError:
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone: whoever reads it says so
        return 0


def _batch(index: int, files: list[tuple[int, Path, Path]]) -> RecordingBatch:
    names = "\0".join(path.as_uri() for _, path, _ in files)
    rows = {
        "uri": [path.as_uri() for _, path, _ in files],
        "target": [target.as_uri() for *_, target in files],
    }
    return RecordingBatch(index, hashlib.sha256(names.encode()).hexdigest(), pa.table(rows))


def _printable(path: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in path)
