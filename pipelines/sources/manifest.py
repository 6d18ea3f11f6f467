"""JSON lines: NeMo manifests, lhotse cuts and recordings, and plain `{"path": ..., "text": ...}`.

Paths are relative to the manifest. A segment of a file (`offset` and `duration`, or a cut) is a recording of its own,
`<path>#t=<start>,<stop>` in seconds, or a cut's own id. Files are not looked at: one that does not exist is found
when it is decoded.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO
from urllib.parse import unquote

from catalog.command import UsageError
from catalog.outward import unsigned
from catalog.reasons import Reason
from pipelines.sources import uris
from pipelines.sources.attributes import PARTS, PATHS, Attributes, Fields, attributes, canonical, text_file
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.members import open_file
from pipelines.sources.metadata import first_bad_line
from pipelines.sources.reading import current, size_text
from pipelines.sources.repeated import mark_repeated

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson")
_PATHS = tuple(name for name in PATHS if name not in ("id", "utterance_id", "utt_id"))
_LONGEST_S = 365 * 24 * 3600.0
_BYTES_A_SECOND = 32_000
"""Of mono 16 bit PCM at 16 kHz: what a segment of unknown size counts."""


def manifest_recordings(uri: str, prefix: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings that the manifest at `uri` names; `prefix` leads from the source to its folder.

    A line that names its file but breaks a rule is rejected. Raises UsageError naming the line and the rule.
    """
    yield from mark_repeated(_numbered(uri, prefix, split))


def _numbered(uri: str, prefix: str, split: str | None) -> Iterator[tuple[int, Recording]]:
    name = uris.shown(uri)
    lines = _Lines(uri, prefix, split)
    number = 0
    try:
        with open_file(uri) as opened, _unpacked(opened, uri) as text:
            for number, line in _bounded(text):
                if not line.isspace():
                    for recording in lines.read(line, number):
                        yield number, recording
    except UnicodeDecodeError as error:
        bad = number + 1 if uri.lower().endswith(".gz") else first_bad_line(uri)
        raise UsageError(f"{name}: line {bad} is not UTF-8; save the manifest as UTF-8") from error
    except (OSError, EOFError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
    except _LineError as error:
        raise UsageError(f"{name}: line {number} {error}") from error


def _unpacked(opened: BinaryIO, uri: str) -> io.TextIOWrapper:
    raw = gzip.GzipFile(fileobj=opened) if uri.lower().endswith(".gz") else opened
    return io.TextIOWrapper(raw, encoding="utf-8-sig")


def _bounded(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Numbered lines; of one that is too long the beginning."""
    number, most = 0, current().line_chars
    while line := text.readline(most):
        number += 1
        yield number, line
        while len(line) == most and not line.endswith("\n"):
            line = text.readline(most)


class _LineError(Exception):
    """A line that names no file we can read; its number is added above."""


class _ValueError(Exception):
    """A value that breaks a rule in a line that names its file."""


@dataclass(frozen=True)
class _Lines:
    """Recordings of single lines."""

    uri: str
    """Of the manifest."""
    prefix: str
    split: str | None

    @property
    def folder(self) -> str:
        return uris.parent(self.uri)

    @property
    def name(self) -> str:
        return f"{self.prefix}{unquote(self.uri.rpartition('/')[2])}"

    def read(self, line: str, number: int) -> Iterator[Recording]:
        if len(line) == (most := current().line_chars):
            yield self._rejected(number, f"is longer than {size_text(most)}")
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; write one object a line" if line.lstrip()[:1] in ("[", "{") else ""
            raise _LineError(f"is not JSON: {error}{hint}") from error
        if not isinstance(row, dict):
            raise _LineError(f"holds a {type(row).__name__}, not an object; write one object a line")
        if "tracks" in row:
            raise _LineError(f"is a {row.get('type', 'cut')} of several tracks; give simple cuts")
        try:
            path, own_id = self._file(row)
        except (_ValueError, ValueError, TypeError, AttributeError, LookupError) as error:
            rule = str(error) if isinstance(error, _ValueError) else f"cannot be used: {error}"
            yield self._rejected(number, rule)
            return
        try:
            if isinstance(row.get("recording"), dict):
                yield from self._cuts(row, path)
            elif isinstance(row.get("sources"), list):
                yield self._recording(path, _whole(row), attributes({}, self.split), own_id)
            else:
                yield self._plain(row, path)
        except (_ValueError, ValueError, OverflowError, AttributeError, TypeError, LookupError) as error:
            rule = str(error) if isinstance(error, _ValueError) else f"cannot be used: {error}"
            yield Recording(
                identifier(self.prefix + (own_id or unsigned(path.removeprefix("./")))),
                uris.resolve(path, self.folder),
                None,
                problem=Reason.INVALID_ROW,
                detail=f"line {number} {rule}",
            )

    def _rejected(self, number: int, rule: str) -> Recording:
        """Stands for a line that does not say which recording it is about."""
        name = identifier(f"{self.name}#line={number}")
        return Recording(name, self.uri, None, problem=Reason.INVALID_ROW, detail=f"line {number} {rule}")

    def _file(self, row: Fields) -> tuple[str, str]:
        """The file that a line names, and the id of its own that a cut has."""
        if isinstance(row.get("recording"), dict) or isinstance(row.get("sources"), list):
            about = row["recording"] if isinstance(row.get("recording"), dict) else row
            path, own_id = _lhotse_path(about, row.get("channel")), str(row.get("id") or "")
        else:
            path, own_id = _plain_path(row), ""
        for text in (path, own_id):
            if "\0" in text or not _is_utf8(text):
                raise _ValueError(f"names the file {path!r:.80}, which no file can be called")
        return path, own_id

    def _plain(self, row: Fields, path: str) -> Recording:
        """NeMo's fields, or any object that names a file."""
        start, duration = span = _segment(row, "offset")
        if start is None:
            _refuse_part(row)
        recording = self._recording(path, span, attributes(row, self.split), "")
        if start is None and duration:  # NeMo reads so much from the beginning; 0 says nothing
            recording = replace(recording, stop_s=duration)
        if recording.text is None and (named := text_file(row)):
            text_uri = uris.resolve(named, self.folder)
            return replace(recording, text_uri=text_uri, text_source="sidecar")
        return recording

    def _cuts(self, row: Fields, path: str) -> Iterator[Recording]:
        """A lhotse cut: its one supervision's text is the cut's; of several each is a recording."""
        start, duration = _seconds(row, "start", 0.0), _seconds(row, "duration", None)
        whole = _seconds(row["recording"], "duration", None)
        supervisions = row.get("supervisions") or []
        if not isinstance(supervisions, list) or not all(isinstance(one, dict) for one in supervisions):
            raise _ValueError("has supervisions that are not objects")
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
                raise _ValueError(f"has a supervision {one.get('id')!r} without a duration")
            given = attributes(_flat(one), self.split)
            yield self._recording(path, (max(0.0, begin), length), given, str(one.get("id") or ""))

    def _recording(
        self, path: str, span: tuple[float | None, float | None], given: Attributes, own_id: str
    ) -> Recording:
        start, duration = span
        if start is not None and duration == 0:
            raise _ValueError(f"has a segment of 0 s at {start:g} s of {path}")
        stop = None if start is None or duration is None else start + duration
        segment = "" if start is None else f"#t={_compact(start)},{'' if stop is None else _compact(stop)}"
        return Recording(
            recording_id=identifier(self.prefix + (own_id or unsigned(path.removeprefix("./")) + segment)),
            uri=uris.resolve(path, self.folder),
            size_bytes=None if duration is None else int(duration * _BYTES_A_SECOND),
            start_s=start,
            stop_s=stop,
            estimated=duration is not None,
            **given,
        )


def _refuse_part(row: Fields) -> None:
    """Refuse a field that may say which part of the file this is: the text would stand for the whole."""
    for name, value in row.items():
        if value is not None and canonical(name) in PARTS:
            raise _ValueError(
                f"has {name} = {value!r:.40}, which may say a part of the file; write offset and duration in seconds, "
                "or leave it out"
            )


def _plain_path(row: Fields) -> str:
    if "shard_id" in row:
        raise _LineError("belongs to a manifest of tar shards (shard_id); give the tars as the source")
    names = {canonical(name): name for name in reversed(list(row))}
    path = next((row[names[name]] for name in _PATHS if name in names and row[names[name]]), None)
    if isinstance(path, dict):  # an audio column of Hugging Face
        path = path.get("path")
    if not isinstance(path, str) or not path:
        raise _LineError(f"names no file; it needs a text in one of {', '.join(_PATHS)}")
    return path


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _segment(row: Fields, start: str) -> tuple[float | None, float | None]:
    """Start (None: the whole file) and duration in seconds."""
    return _seconds(row, start, None), _seconds(row, "duration", None)


def _whole(row: Fields) -> tuple[None, float | None]:
    return None, _seconds(row, "duration", None)


def _seconds(row: Fields, name: str, default: float | None) -> float | None:
    value = _number(row, name, default)
    if value is not None and not 0 <= value <= _LONGEST_S:
        raise _ValueError(f"has {name} = {value:g}; it must be at least 0 s and at most a year")
    return None if value is None else float(value)


def _number(row: Fields, name: str, default: float | None) -> float | None:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _ValueError(f"has {name} = {value!r:.40}; it must be a number of seconds")
    return float(value)


def _flat(supervision: Fields) -> Fields:
    return {name: supervision.get(name) for name in ("text", "speaker", "language")}


def _lhotse_path(recording: Fields, channel: int | list[int] | None) -> str:
    sources = recording.get("sources") or [{}]
    source = sources[0]
    if recording.get("transforms"):
        raise _ValueError("has a recording with transforms (speed, volume, ...), which are not applied")
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
