"""Transcripts: reading them from files, and the little normalisation that every front end wants."""

from __future__ import annotations

import unicodedata

from catalog.reasons import Reason
from pipelines.sources import files


class TextError(Exception):
    """A transcript that cannot be used: `reason` for the row, the message for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def normalise(text: str) -> str:
    """NFC, control and format characters dropped, every run of white space one space."""
    composed = unicodedata.normalize("NFC", text)
    kept = (" " if char.isspace() else char for char in composed)
    return " ".join("".join(char for char in kept if unicodedata.category(char) not in ("Cc", "Cf")).split())


def read_transcript(uri: str) -> str:
    """The UTF-8 text at `uri`; raises TextError (text_encoding) for another encoding or an unreadable file."""
    try:
        with files.open_file(uri) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(Reason.TEXT_ENCODING, f"transcript is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise TextError(Reason.MISSING_TEXT, f"transcript cannot be read: {error.strerror}") from error
