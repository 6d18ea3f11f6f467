"""Transcripts read from files."""

from __future__ import annotations

from catalog.reasons import Reason
from pipelines.sources import files


class TextError(Exception):
    """A transcript that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_transcript(uri: str) -> str:
    """The UTF-8 text at `uri`; raises TextError (text_encoding) for another encoding or an unreadable file."""
    try:
        with files.open_file(uri) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(Reason.TEXT_ENCODING, f"transcript is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise TextError(Reason.MISSING_TEXT, f"transcript cannot be read: {error.strerror}") from error
