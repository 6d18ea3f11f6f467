"""The dialect of a table: its delimiter, its quotes, whether it has a header, and what its columns hold.

All of it is decided from the first rows together, before any row is read:

- A first row that names the file column is a header, unless it names a file that exists: a transcript may read
  `Audio`. Columns are found by name (`attributes`).
- Without a header the file is the first column, or the first that holds names of audio files. Of the others, numbers
  or words that repeat are the speaker, language codes the language, and the rest is text; LJSpeech's third column is
  the same text, normalised.
- Quotes are text in tables of pipes and tabs, unless the header itself is quoted.
- A table names whole files: one with a column of starts or ends is refused, as is an unknown header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from models.text.normalize import UNSPACED
from pipelines.sources.attributes import AUDIO, NAMES, PARTS, PATHS, TEXT_FILES, canonical, known
from pipelines.sources.table_cells import TableLineError, table_rows

DELIMITERS = {"|": "|", "\t": "tab", ",": ",", ";": ";"}
_LANGUAGES = frozenset(
    [
        "ar",
        "bg",
        "bn",
        "ca",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "es",
        "et",
        "fa",
        "fi",
        "fr",
        "he",
        "hi",
        "hr",
        "hu",
        "id",
        "it",
        "ja",
        "jp",
        "ka",
        "kk",
        "ko",
        "kr",
        "lt",
        "lv",
        "mn",
        "ms",
        "nb",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sr",
        "sv",
        "ta",
        "te",
        "th",
        "tr",
        "uk",
        "ur",
        "uz",
        "vi",
        "yue",
        "zh",
        "auto",
    ]
)
_WORDS = re.compile(rf"{UNSPACED.pattern}|\w+")
_NAME = re.compile(r"[^\W\d_][^\W\d]*(?: [^\W\d]+){0,2}")


class UnknownTableError(Exception):
    """A table whose first rows fit no known form."""


@dataclass(frozen=True)
class Dialect:
    """A table's form, and the columns of each field, the preferred first."""

    delimiter: str
    quoted: bool
    header: tuple[str, ...] | None
    width: int
    """Columns of the header; without one, of most of the first rows."""
    columns: Mapping[str, tuple[int, ...]]

    def value(self, cells: Sequence[str], field: str) -> str | None:
        """The first filled cell of a field."""
        for at in self.columns.get(field, ()):
            if at < len(cells) and cells[at]:
                return cells[at]
        return None

    def described(self) -> str:
        """The form in words."""
        fields = [
            f"{field}: {', else '.join(self._named(at) for at in self.columns[field])}"
            if self.columns.get(field)
            else f"{field}: none"
            for field in ("file", "text", "speaker", "language")
        ]
        used = {at for each in self.columns.values() for at in each}
        left = [self._named(at) for at in range(self.width) if at not in used]
        parts = [
            f"separated by {DELIMITERS[self.delimiter]}",
            "quotes enclose cells" if self.quoted else "quotes are text",
            "no header" if self.header is None else "header in line 1",
            *fields,
        ]
        return "; ".join([*parts, *([f"not read: {', '.join(left)}"] if left else [])])

    def _named(self, at: int) -> str:
        return f"column {at + 1}" if self.header is None else f"column {self.header[at]!r}"


def dialect_of(lines: Sequence[str], exists: Callable[[str], bool]) -> Dialect:
    """The dialect of a table that begins with `lines`; `exists` tells whether a file column's value is a file.

    Raises UnknownTableError.
    """
    first = next((line for line in lines if line.strip()), "")
    headed = [found for found in (_headed(one, first) for one in DELIMITERS) if found is not None]
    headed.sort(key=lambda one: -len(one.columns))
    for dialect in headed:
        rows = _rows(lines, dialect.delimiter, dialect.quoted)
        if _is_header(dialect, rows, exists):
            _refuse_parts(dialect, rows[1:])
            return dialect
    for delimiter in DELIMITERS:
        if delimiter not in first:
            continue
        rows = _rows(lines, delimiter, delimiter in ",;")
        file = _file_column(rows, exists)
        if delimiter == "|" or file is not None:
            _refuse_unknown_header(rows, file or 0, exists)
            return _without_header(delimiter, rows, file or 0)
    allowed = ", ".join(PATHS)
    said = f"it is {first[:80]!r}" if first else "the table is empty"
    raise UnknownTableError(f"line 1 has no file column ({said}); name it one of {allowed}")


def _headed(delimiter: str, first: str) -> Dialect | None:
    cells = first.split(delimiter)
    quoted = delimiter in ",;" or any(cell.strip().startswith('"') for cell in cells)
    header = tuple(cell.strip().strip('"').strip() for cell in cells)
    file = known(PATHS, header)[:1]
    if not file:
        return None
    fields = {field: known(names, header) for field, names in NAMES.items()}
    fields |= {"file": file, "text_file": known(TEXT_FILES, header)}
    columns = {field: tuple(found) for field, found in fields.items() if found}
    return Dialect(delimiter, quoted, header, len(header), columns)


def _is_header(dialect: Dialect, rows: Sequence[Sequence[str]], exists: Callable[[str], bool]) -> bool:
    """False where the first row is data that happens to hold a column's name, as `w001|Audio`."""
    header, file = rows[0], dialect.columns["file"][0]
    if any(_is_audio(cell) for cell in header):
        return False
    data = rows[1:9]
    if any(file < len(row) and (_is_audio(row[file]) or exists(row[file])) for row in data):
        return not exists(header[0])
    # No file shows where the data begin, so names have to: a header has more than one, or nothing else.
    return not exists(header[0]) and (len(dialect.columns) > 1 or len(header) == 1 or len(rows) == 1)


def _rows(lines: Sequence[str], delimiter: str, quoted: bool) -> list[list[str]]:
    """Cells of the first rows, as many as can be split: what is wrong with a later one is said where it is read."""
    found: list[list[str]] = []
    try:
        for _, cells in table_rows(iter(enumerate(lines, start=1)), delimiter, quoted):
            found.append(cells)
    except TableLineError:
        pass
    return found or [[""]]


def _is_audio(cell: str) -> bool:
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in AUDIO


def _file_column(rows: Sequence[Sequence[str]], exists: Callable[[str], bool]) -> int | None:
    """The first column if a row names a file there, else the first with names of audio files in nearly all rows."""
    if any(_is_audio(row[0]) or exists(row[0]) for row in rows[:8]):
        return 0
    least = len(rows[1:8]) or 1  # the first may be a header
    audio = Counter(at for row in rows[:8] for at, cell in enumerate(row) if _is_audio(cell))
    return min((at for at, count in audio.items() if count >= least), default=None)


def _refuse_parts(dialect: Dialect, rows: Sequence[Sequence[str]]) -> None:
    """Refuse columns that may say which part of a file a row is: the text would stand for the whole."""
    parts = known(PARTS, dialect.header or ())
    if found := [at for at in parts if any(at < len(row) and row[at] for row in rows)]:
        names = ", ".join(repr((dialect.header or ())[at]) for at in found)
        raise UnknownTableError(
            f"line 1 has {names}, which may say a part of a file, but rows of a table are whole files; "
            "write the parts as a manifest (.jsonl: offset and duration in seconds), or take the column out"
        )


def _refuse_unknown_header(rows: Sequence[Sequence[str]], file: int, exists: Callable[[str], bool]) -> None:
    """Refuse a first row that reads like names of columns above rows that read like data."""
    header, data = rows[0], rows[1:]
    first, below = (
        header[file] if file < len(header) else "",
        [row[file] for row in data[:8] if file < len(row)],
    )
    if not data or _is_audio(first) or (first and exists(first)):
        return
    data_is_audio = any(map(_is_audio, below))
    if not data_is_audio and not (all(map(_NAME.fullmatch, header)) and any(map(exists, below))):
        return
    written = {canonical(name) for names in (*NAMES.values(), TEXT_FILES) for name in names}
    has_names = any(canonical(cell) in written for at, cell in enumerate(header) if at != file)
    if has_names or data_is_audio or any("_" in cell for cell in header):
        names = ", ".join(header)
        raise UnknownTableError(
            f"line 1 reads like a header ({names}), but none of its columns is known to name the file; "
            f"name it one of {', '.join(PATHS)}"
        )


def _without_header(delimiter: str, rows: Sequence[Sequence[str]], file: int) -> Dialect:
    width = Counter(len(row) for row in rows).most_common(1)[0][0]
    even = [row for row in rows if len(row) == width]
    columns = {"file": (file,), **_by_content(even, width, file)}
    return Dialect(delimiter, delimiter in ",;", None, width, columns)


def _by_content(rows: Sequence[Sequence[str]], width: int, file: int) -> dict[str, tuple[int, ...]]:
    """Columns of text, speaker and language besides that of the file."""
    kinds = {at: _kind([row[at] for row in rows if row[at]]) for at in range(width) if at != file}
    if width <= 2:
        return {"text": (1 - file,)} if width == 2 else {}
    if file == 0 and width >= 4 and kinds[2] == "language":  # GPT-SoVITS and Bert-VITS2
        return {"speaker": (1,), "language": (2,), "text": (3,)}
    texts = [at for at, kind in kinds.items() if kind == "text"]
    words = [at for at, kind in kinds.items() if kind == "label"]
    if not texts:  # one word a row: the first such column, or whatever there is
        texts = (words or [at for at, kind in kinds.items() if kind != "empty"])[:1]
    others = [at for at in [*texts[1:], *words] if at not in texts[:1]]
    same = next((at for at in others if width == 3 and _same_text(rows, texts[0], at)), None)
    columns = {"text": (same, texts[0]) if same is not None else tuple(texts[:1])}
    labels = [at for at in (*words, *(at for at, kind in kinds.items() if kind == "number"))
              if at not in columns["text"]]  # fmt: skip
    languages = [at for at, kind in kinds.items() if kind == "language" and at not in columns["text"]]
    if labels:
        columns["speaker"] = (min(labels),)
    if languages:
        columns["language"] = (languages[0],)
    return columns


def _kind(values: Sequence[str]) -> str:
    """`number`, `measure`, `language`, `label` (one word in each row), `text`, or `empty`."""
    if not values:
        return "empty"
    if all(value.isdecimal() for value in values):
        return "number"
    if all(re.fullmatch(r"-?\d*\.\d+|\d+", value) for value in values):
        return "measure"
    if all(re.split(r"[-_]", value.lower())[0] in _LANGUAGES | {"all"} for value in values):
        return "language"
    if any(UNSPACED.search(value) for value in values):
        repeats = len(values) > 2 and 2 * len(set(values)) <= len(values)
        return "label" if repeats and max(map(len, values)) < 8 else "text"
    return "label" if all(len(value.split()) == 1 for value in values) else "text"


def _same_text(rows: Sequence[Sequence[str]], raw: int, normalised: int) -> bool:
    """True if one column may be the other with numbers and signs written out."""
    shared = total = 0
    for row in rows:
        if re.search(r"[\d$€£¥%&@#+=]", row[raw]) or not row[raw] or not row[normalised]:
            continue
        first, second = (set(_WORDS.findall(row[at].lower())) for at in (raw, normalised))
        shared, total = shared + len(first & second), total + min(len(first), len(second))
    return 2 * shared >= total
