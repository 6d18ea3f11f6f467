"""Transcripts read from files."""

from __future__ import annotations

import re
import stat as stat_module
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from catalog.reasons import Reason
from pipelines.sources.filesystems import DamagedError, alike, folded, stat
from pipelines.sources.members import open_file
from pipelines.sources.reading import current, size_text
from pipelines.sources.uris import local_path

TEXT_ENDINGS = (".txt", ".lab", ".normalized.txt", ".original.txt")
"""Of a transcript beside a recording of the same name, the first that exists."""
_TIMES = re.compile(r"\s*(?:\d+[ \t]+\d+[ \t]+\S+[^\n]*(?:\n\s*|$)){2,}")


class TextError(Exception):
    """A transcript that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def sidecar(uri: str) -> str | None:
    """The URI of the transcript beside an audio file (`TEXT_ENDINGS`), None when there is none."""
    folder, _, name = uri.rpartition("/")
    stem = f"{folder}/{name.rpartition('.')[0] or name}"
    if stat(f"{stem}.txt") is not None:
        return f"{stem}.txt"
    found = (alike(f"{stem}{ending}") for ending in TEXT_ENDINGS)
    return next((entry.uri for entry in found if entry is not None), None)


def sidecars(names: Iterable[str]) -> Callable[[str], str | None]:
    """A look-up of the transcript's name for an audio file's, among the names of their folder."""
    texts = {name for name in names if name.lower().endswith((".txt", ".lab"))}
    compared = {folded(name): name for name in sorted(texts, reverse=True)}

    def of(audio: str) -> str | None:
        stem = PurePosixPath(audio).stem
        for ending in TEXT_ENDINGS:
            if (exact := f"{stem}{ending}") in texts:
                return exact
            if (found := compared.get(folded(exact))) is not None:
                return found
        return None

    return of


def read_transcript(uri: str) -> str:
    """The UTF-8 text at `uri`.

    Raises TextError: text_encoding for another encoding, too_long beyond the limit, missing_text for what is no
    regular file, unavailable for a file that cannot be read.
    """
    path, most = local_path(uri), current().text_bytes
    try:
        if path is not None and not stat_module.S_ISREG(path.stat().st_mode):
            raise TextError(Reason.MISSING_TEXT, "transcript is not a regular file")
        with open_file(uri) as file:
            text = file.read(most + 1)
        if len(text) > most:
            raise TextError(Reason.TOO_LONG, f"transcript has more than {size_text(most)}")
        decoded = text.decode("utf-8-sig")
        if _TIMES.fullmatch(decoded):
            raise TextError(Reason.MISSING_TEXT, "transcript holds times of labels (HTK), not a text")
        return decoded
    except UnicodeDecodeError as error:
        raise TextError(Reason.TEXT_ENCODING, f"transcript is not UTF-8 at byte {error.start}") from error
    except (DamagedError, ValueError) as error:
        raise TextError(Reason.MISSING_TEXT, f"transcript cannot be read: {error}") from error
    except OSError as error:
        raise TextError(
            Reason.UNAVAILABLE, f"transcript cannot be read: {error.strerror or error}"
        ) from error
