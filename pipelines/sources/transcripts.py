"""Transcripts read from files."""

from __future__ import annotations

import stat as stat_module

from catalog.reasons import Reason
from pipelines.sources.filesystems import stat
from pipelines.sources.members import open_file
from pipelines.sources.uris import local_path

TEXT_ENDINGS = (".txt", ".lab", ".normalized.txt", ".original.txt")
"""Of a transcript beside a recording of the same name, the first that exists."""
MAX_BYTES = 1 << 20
"""Of a transcript; what is longer is no sentence."""


class TextError(Exception):
    """A transcript that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def sidecar(uri: str) -> str | None:
    """The URI of the `.txt` beside an audio file, None when there is none."""
    folder, _, name = uri.rpartition("/")
    text_uri = f"{folder}/{name.rpartition('.')[0] or name}.txt"
    return text_uri if stat(text_uri) is not None else None


def read_transcript(uri: str) -> str:
    """The UTF-8 text at `uri`.

    Raises TextError: text_encoding for another encoding, too_long beyond `MAX_BYTES`, missing_text for what is no
    regular file, unavailable for a file that cannot be read.
    """
    path = local_path(uri)
    try:
        if path is not None and not stat_module.S_ISREG(path.stat().st_mode):
            raise TextError(Reason.MISSING_TEXT, "transcript is not a regular file")
        with open_file(uri) as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise TextError(Reason.TOO_LONG, f"transcript has more than {MAX_BYTES >> 20} MiB")
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(Reason.TEXT_ENCODING, f"transcript is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise TextError(
            Reason.UNAVAILABLE, f"transcript cannot be read: {error.strerror or error}"
        ) from error
