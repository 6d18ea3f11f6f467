"""JSON lines: NeMo manifests, lhotse cuts and recordings, and plain `{"path": ..., "text": ...}`.

Paths are relative to the manifest. A stretch of a file (`offset` and `duration`, or a cut) is a recording of its own,
`<path>#t=<start>,<stop>` in seconds, or a cut's own id. Files are not looked at: one that does not exist is found
when it is decoded.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from catalog.command import UsageError
from pipelines.sources import uris
from pipelines.sources.attributes import PATHS, Attributes, Fields, attributes
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.members import open_file
from pipelines.sources.metadata import first_bad_line

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson")
_PATHS = tuple(name for name in PATHS if name != "id")
_BYTES_A_SECOND = 32_000
"""Of mono 16 bit PCM at 16 kHz: what a stretch of unknown size counts."""


@dataclass(frozen=True)
class ManifestSource:
    """The recordings that one manifest names."""

    uri: str

    def recordings(self) -> Iterator[Recording]:
        """Named recordings and stretches of them, in the order of the lines."""
        yield from manifest_recordings(self.uri, prefix="")


def manifest_recordings(uri: str, prefix: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings that the manifest at `uri` names; `prefix` leads from the source to its folder.

    Raises UsageError naming the line and the rule.
    """
    name = uris.shown(uri)
    lines = _Lines(uris.parent(uri), prefix, split)
    number = 0
    try:
        with open_file(uri) as opened, _unpacked(opened, uri) as text:
            for number, line in enumerate(text, start=1):  # noqa: B007 - the refusal names it
                if not line.isspace():
                    yield from lines.read(line)
    except UnicodeDecodeError as error:
        bad = number + 1 if uri.endswith(".gz") else first_bad_line(uri)
        raise UsageError(f"{name}: line {bad} is not UTF-8; save the manifest as UTF-8") from error
    except (OSError, EOFError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
    except _LineError as error:
        raise UsageError(f"{name}: line {number} {error}") from error


def _unpacked(opened: BinaryIO, uri: str) -> io.TextIOWrapper:
    raw = gzip.GzipFile(fileobj=opened) if uri.endswith(".gz") else opened
    return io.TextIOWrapper(raw, encoding="utf-8-sig")


class _LineError(Exception):
    """A line that breaks a rule; its number is added above."""


@dataclass(frozen=True)
class _Lines:
    """Recordings of single lines."""

    folder: str
    prefix: str
    split: str | None

    def read(self, line: str) -> Iterator[Recording]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; write one object a line" if line.lstrip()[:1] in ("[", "{") else ""
            raise _LineError(f"is not JSON: {error}{hint}") from error
        if not isinstance(row, dict):
            raise _LineError(f"holds a {type(row).__name__}, not an object; write one object a line")
        try:
            if "tracks" in row:
                raise _LineError(f"is a {row.get('type', 'cut')} of several tracks; give simple cuts")
            if isinstance(row.get("recording"), dict):
                yield from self._cuts(row)
            elif isinstance(row.get("sources"), list):
                path = _lhotse_path(row, None)
                yield self._recording(path, _whole(row), attributes({}, self.split), str(row.get("id") or ""))
            else:
                yield self._plain(row)
        except (ValueError, OverflowError) as error:
            raise _LineError(f"cannot be used: {error}") from error

    def _plain(self, row: Fields) -> Recording:
        """NeMo's fields, or any object that names a file."""
        if "shard_id" in row:
            raise _LineError("belongs to a manifest of tar shards (shard_id); give the tars as the source")
        path = next((row[name] for name in _PATHS if row.get(name)), None)
        if isinstance(path, dict):  # an audio column of Hugging Face
            path = path.get("path")
        if not isinstance(path, str):
            raise _LineError(f"names no file; it needs a text in one of {', '.join(_PATHS)}")
        return self._recording(path, _stretch(row, "offset"), attributes(row, self.split), "")

    def _cuts(self, row: Fields) -> Iterator[Recording]:
        """A lhotse cut: its one supervision's text is the cut's; of several each is a recording."""
        path = _lhotse_path(row["recording"], row.get("channel"))
        start, duration = _seconds(row, "start", 0.0), _seconds(row, "duration", None)
        whole = _seconds(row["recording"], "duration", None)
        supervisions = row.get("supervisions") or []
        if len(supervisions) < 2:
            uncut = start == 0 and (duration is None or duration == whole)
            span = (None if uncut else start, duration)
            given = attributes(_flat(supervisions[0]) if supervisions else {}, self.split)
            yield self._recording(path, span, given, str(row.get("id") or ""))
            return
        for one in supervisions:
            # A supervision's start counts from that of its cut.
            begin = (start or 0.0) + (_number(one, "start", None) or 0.0)
            if (length := _seconds(one, "duration", None)) is None:
                raise _LineError(f"has a supervision {one.get('id')!r} without a duration")
            given = attributes(_flat(one), self.split)
            yield self._recording(path, (max(0.0, begin), length), given, str(one.get("id") or ""))

    def _recording(
        self, path: str, span: tuple[float | None, float | None], given: Attributes, own_id: str
    ) -> Recording:
        start, duration = span
        if start is not None and duration == 0:
            raise _LineError(f"has a stretch of 0 s at {start:g} s of {path}")
        stop = None if start is None or duration is None else start + duration
        stretch = "" if start is None else f"#t={_compact(start)},{'' if stop is None else _compact(stop)}"
        return Recording(
            recording_id=identifier(self.prefix + (own_id or path.removeprefix("./") + stretch)),
            uri=uris.resolve(path, self.folder),
            size_bytes=None if duration is None else int(duration * _BYTES_A_SECOND),
            start_s=start,
            stop_s=stop,
            estimated=duration is not None,
            **given,
        )


def _stretch(row: Fields, start: str) -> tuple[float | None, float | None]:
    """Start (None: the whole file) and duration in seconds."""
    return _seconds(row, start, None), _seconds(row, "duration", None)


def _whole(row: Fields) -> tuple[None, float | None]:
    return None, _seconds(row, "duration", None)


def _seconds(row: Fields, name: str, default: float | None) -> float | None:
    value = _number(row, name, default)
    if value is not None and value < 0:
        raise _LineError(f"has {name} = {value:g}; it must be at least 0 s")
    return None if value is None else float(value)


def _number(row: Fields, name: str, default: float | None) -> float | None:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _LineError(f"has {name} = {value!r:.40}; it must be a number of seconds")
    return float(value)


def _flat(supervision: Fields) -> Fields:
    return {name: supervision.get(name) for name in ("text", "speaker", "language")}


def _lhotse_path(recording: Fields, channel: int | list[int] | None) -> str:
    sources = recording.get("sources") or [{}]
    source = sources[0]
    if len(sources) > 1 or not isinstance(source, Mapping):
        raise _LineError(f"has a recording of {len(sources)} sources; it must be one file")
    if source.get("type") not in ("file", "url") or not isinstance(source.get("source"), str):
        raise _LineError(f"has a source of type {source.get('type')!r}; only file and url can be read")
    channels = source.get("channels") or [0]
    if channel is not None and set(channel if isinstance(channel, list) else [channel]) != set(channels):
        raise _LineError(
            f"picks channel {channel} of {len(channels)}; channels are averaged, so write the channel into a file"
        )
    return str(source["source"])


def _compact(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
