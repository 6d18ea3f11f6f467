"""WebDataset tars, as Emilia comes in: `X.mp3` beside `X.json` with `text`, `language` and `speaker`.

Members of one name before the last dot belong together, or before the first dot (WebDataset's key), wherever they
stand; audio whose text comes later than its neighbours is offered last. A link to a member is that member under
another name. Of an uncompressed tar only the headers and the JSON are read to list it; a worker then reads the audio
at its offset.
"""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from catalog.reasons import Reason
from pipelines.sources import filesystems, uris
from pipelines.sources.attributes import AUDIO, Fields, attributes
from pipelines.sources.interface import PARSING, BrokenFile, Recording, identifier
from pipelines.sources.members import member_uri, open_file
from pipelines.sources.reading import current
from pipelines.sources.transcripts import TEXT_ENDINGS

_OTHER = {".txt", ".lab", ".json", ".jsonl", ".csv", ".tsv", ".md", ".cls", ".npy", ".npz", ".pt", ".pth", ".pyd",
          ".pickle", ".jpg", ".jpeg", ".png", ".id", ".key", ".index", ".textgrid"}  # fmt: skip
_TEXTS = {".json", ".txt", ".lab"}
_BUFFER = 64 << 10


def tar_recordings(tar: filesystems.Entry, name: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings of a tar under ids `<name>/<member without its ending>`; raises BrokenFile, at the damage."""
    shown = uris.shown(tar.uri)
    damage: BaseException | None = None
    try:
        with _buffered(tar.uri) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            reader = _Reader(tar, name, split, file)
            try:
                for group in _groups(_members(archive)):
                    yield from reader.read(group)
            except (tarfile.TarError, EOFError, *PARSING) as error:
                damage = error
            yield from reader.rest()
    except (tarfile.TarError, EOFError, *PARSING) as error:
        damage = error
    if damage is not None:
        raise BrokenFile(f"{shown}: is not a whole, uncompressed tar: {damage}") from damage


def _buffered(uri: str) -> BinaryIO:
    """On an object store each read is a request: a header and the JSON behind it come in one."""
    file = open_file(uri)
    if isinstance(file, io.BufferedReader):
        return file
    return io.BufferedReader(cast("io.RawIOBase", file), _BUFFER)


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar; one with a `target` is a link to another."""

    name: str
    offset: int
    size: int
    target: str | None = None

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        """Path and name before the last dot."""
        return self.name[: len(self.name) - len(self.ending)]

    @property
    def key(self) -> str:
        """Path and name before the first dot of the name: WebDataset's key."""
        folder, slash, name = self.name.rpartition("/")
        return f"{folder}{slash}{name.partition('.')[0]}"


def forward_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members in order; tarfile.ReadError for one that leads back to where it came from (CVE-2025-8194)."""
    at = -1
    while (member := archive.next()) is not None:
        if member.size < 0 or archive.offset <= at:
            raise tarfile.ReadError(f"member {member.name[:80]!r} leads back to byte {archive.offset}")
        at = archive.offset
        archive.members.clear()  # type: ignore[attr-defined] # a tar may have millions, and tarfile keeps them all
        yield member


def _members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for member in forward_members(archive):
        if PurePosixPath(member.name).name.startswith("."):
            continue
        if member.isreg():
            yield _Member(member.name, member.offset_data, member.size)
        elif member.islnk():
            yield _Member(member.name, 0, 0, member.linkname)
        elif member.issym():
            yield _Member(member.name, 0, 0, posixpath.join(posixpath.dirname(member.name), member.linkname))


def _groups(members: Iterator[_Member]) -> Iterator[list[_Member]]:
    group: list[_Member] = []
    for member in members:
        if group and member.key != group[0].key:
            yield group
            group = []
        group.append(member)
    if group:
        yield group


@dataclass
class _Reader:
    """Brings the members of a tar together."""

    tar: filesystems.Entry
    name: str
    split: str | None
    file: BinaryIO
    _files: dict[str, _Member] = field(default_factory=dict)
    """What links may lead to, by normal path."""
    _texts: dict[str, _Member] = field(default_factory=dict)
    """Descriptions and transcripts, by name as `_compared`."""
    _later: list[tuple[_Member, bool]] = field(default_factory=list)
    """Audio without a text so far, and whether others share its key."""

    def read(self, group: list[_Member]) -> Iterator[Recording]:
        """Recordings of neighbours with one key, as far as their texts have come."""
        members = [self._followed(member) for member in group]
        audio = [member for member in members if member.ending not in _OTHER]
        texts = {_compared(one.name): one for one in members if one.ending in _TEXTS and one.target is None}
        self._texts |= texts
        waiting = len(self._later)
        for member in audio:
            if member.target is not None or not self._beside(member):
                self._later.append((member, len(audio) > 1))
            else:
                yield self._recording(member, len(audio) > 1)
        if audio and len(self._later) == waiting:  # used up
            for name in texts:
                if _compared(audio[0].key) == name.partition(".")[0] or len(audio) == 1:
                    self._texts.pop(name, None)

    def rest(self) -> Iterator[Recording]:
        """Recordings whose texts came apart from them, or not at all."""
        for member, shared in self._later:
            followed = self._followed(member)
            if followed.target is None:
                yield self._recording(followed, shared)
            elif followed.ending in AUDIO:
                yield Recording(
                    recording_id=self._id(followed.stem),
                    uri=member_uri(self.tar.uri, offset=0, length=0),
                    size_bytes=0,
                    source_stat=self.tar.source_stat,
                    problem=Reason.UNREADABLE,
                    detail=f"member {followed.name} is a link to {followed.target}, which the tar does not hold",
                )

    def _followed(self, member: _Member) -> _Member:
        """A link with the place of what it leads to, if that has come."""
        if member.target is not None:
            found = self._files.get(posixpath.normpath(member.target))
            if found is None:
                return member
            member = _Member(member.name, found.offset, found.size)
        self._files[posixpath.normpath(member.name)] = member
        return member

    def _beside(self, audio: _Member) -> dict[str, _Member]:
        """Texts of a recording by ending: those of its own name, else those of its key."""
        for stem in (audio.stem, audio.key):
            found = {end: self._texts.get(_compared(f"{stem}{end}")) for end in (".json", *TEXT_ENDINGS)}
            if known := {end: member for end, member in found.items() if member is not None}:
                return known
        return {}

    def _recording(self, audio: _Member, shared: bool) -> Recording:
        beside = self._beside(audio)
        described, problem, detail = attributes({}, self.split), None, None
        if ".json" in beside:
            try:
                described = attributes(_json(beside[".json"], self.file), self.split)
            except (ValueError, RecursionError) as error:
                problem, detail = Reason.INVALID_ROW, f"member {beside['.json'].name} {error}"
        text = next((beside[end] for end in TEXT_ENDINGS if end in beside), None)
        if described["text"] is not None:
            text = None
        if text is not None:
            described["text_source"] = "sidecar"
        is_key = any(one.key == audio.key and one.stem != audio.stem for one in beside.values())
        if is_key:
            own_id = audio.name if shared else audio.key
        else:
            own_id = audio.name if shared and not beside else audio.stem
        return Recording(
            recording_id=self._id(own_id),
            uri=_uri(self.tar, audio),
            size_bytes=audio.size,
            text_uri=None if text is None else _uri(self.tar, text),
            source_stat=self.tar.source_stat,
            problem=problem,
            detail=detail,
            **described,
        )

    def _id(self, path: str) -> str:
        return identifier(f"{self.name}/{path.removeprefix('./')}")


def _compared(name: str) -> str:
    """A name in one Unicode normal form and in small letters."""
    return unicodedata.normalize("NFC", name).lower()


def _json(member: _Member, file: BinaryIO) -> Fields:
    if member.size > current().line_chars:
        raise ValueError(f"has {member.size} bytes, too many for a description")
    after = file.tell()
    file.seek(member.offset)
    data = file.read(member.size)
    file.seek(after)
    try:
        row = json.loads(data)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"holds a {type(row).__name__}, not an object")
    return row


def _uri(tar: filesystems.Entry, member: _Member) -> str:
    return member_uri(tar.uri, offset=member.offset, length=member.size)
