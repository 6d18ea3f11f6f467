"""Transcripts read from files."""

from __future__ import annotations

from catalog.reasons import Reason
from pipelines.sources.filesystems import stat
from pipelines.sources.members import open_file


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
    """The UTF-8 text at `uri`; raises TextError (text_encoding) for another encoding or an unreadable file."""
    try:
        with open_file(uri) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(Reason.TEXT_ENCODING, f"transcript is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise TextError(Reason.MISSING_TEXT, f"transcript cannot be read: {error.strerror}") from error
