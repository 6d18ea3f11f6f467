"""WebDataset tar tars, as Emilia comes in: `X.mp3` beside `X.json` with `text`, `language` and `speaker`.

Members of one name before the first dot belong together if they are next to each other. Of an uncompressed tar only
the headers and the JSON are read to list it; a worker then reads the audio at its offset.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from catalog.reasons import Reason
from pipelines.sources import filesystems, uris
from pipelines.sources.attributes import Fields, attributes
from pipelines.sources.interface import PARSING, BrokenFile, Recording, identifier
from pipelines.sources.members import member_uri, open_file

_OTHER = {".txt", ".lab", ".json", ".csv", ".md", ".cls", ".npy", ".npz", ".pt", ".pth", ".pyd", ".pickle", ".jpg",
          ".jpeg", ".png", ".id", ".key", ".index", ".textgrid"}  # fmt: skip
_BUFFER = 64 << 10
_MOST_JSON = 16 << 20


def tar_recordings(tar: filesystems.Entry, name: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings of a tar under ids `<name>/<member without its ending>`; raises BrokenFile, at the damage."""
    shown = uris.shown(tar.uri)
    try:
        with _buffered(tar.uri) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for group in _groups(archive):
                yield from _recordings(group, file, tar, name, split)
    except (tarfile.TarError, EOFError, *PARSING) as error:
        raise BrokenFile(f"{shown}: is not a whole, uncompressed tar: {error}") from error


def _buffered(uri: str) -> BinaryIO:
    """On an object store each read is a request: a header and the JSON behind it come in one."""
    file = open_file(uri)
    if isinstance(file, io.BufferedReader):
        return file
    return io.BufferedReader(cast("io.RawIOBase", file), _BUFFER)


def _groups(archive: tarfile.TarFile) -> Iterator[list[tarfile.TarInfo]]:
    group: list[tarfile.TarInfo] = []
    at = -1
    while (member := archive.next()) is not None:
        # A negative size leads back to where it came from (CVE-2025-8194).
        if member.size < 0 or archive.offset <= at:
            raise tarfile.ReadError(f"member {member.name[:80]!r} leads back to byte {archive.offset}")
        at = archive.offset
        archive.members.clear()  # type: ignore[attr-defined] # a tar may have millions, and tarfile keeps them all
        if not member.isreg() or PurePosixPath(member.name).name.startswith("."):
            continue
        if group and _stem(member) != _stem(group[0]):
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _recordings(
    group: list[tarfile.TarInfo], file: BinaryIO, tar: filesystems.Entry, name: str, split: str | None
) -> Iterator[Recording]:
    audio = [member for member in group if PurePosixPath(member.name).suffix.lower() not in _OTHER]
    if not audio:
        return
    beside = {member.name.removeprefix(_stem(group[0])).lower(): member for member in group}
    described, problem, detail = attributes({}, split), None, None
    if ".json" in beside:
        try:
            described = attributes(_json(beside[".json"], file), split)
        except (ValueError, RecursionError) as error:
            problem, detail = Reason.INVALID_ROW, f"member {beside['.json'].name} {error}"
    text = beside.get(".txt") if described["text"] is None else None
    if text is not None:
        described["text_source"] = "sidecar"
    for member in audio:
        member_id = _stem(member) if len(audio) == 1 else member.name
        yield Recording(
            recording_id=identifier(f"{name}/{member_id.removeprefix('./')}"),
            uri=_uri(tar, member),
            size_bytes=member.size,
            text_uri=None if text is None else _uri(tar, text),
            source_stat=tar.source_stat,
            problem=problem,
            detail=detail,
            **described,
        )


def _json(member: tarfile.TarInfo, file: BinaryIO) -> Fields:
    if member.size > _MOST_JSON:
        raise ValueError(f"has {member.size} bytes, too many for a description")
    after = file.tell()
    file.seek(member.offset_data)
    data = file.read(member.size)
    file.seek(after)
    try:
        row = json.loads(data)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"holds a {type(row).__name__}, not an object")
    return row


def _stem(member: tarfile.TarInfo) -> str:
    """Path and name before the first dot of the name: WebDataset's key."""
    folder, slash, name = member.name.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _uri(tar: filesystems.Entry, member: tarfile.TarInfo) -> str:
    return member_uri(tar.uri, offset=member.offset_data, length=member.size)
