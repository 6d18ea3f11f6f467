"""Lines of a table as cells, with the number of the line in which each row begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipelines.sources.reading import current


class TableLineError(Exception):
    """A line that cannot be split into cells."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(f"line {line} {rule}")


def table_rows(
    lines: Iterator[tuple[int, str]],
    delimiter: str,
    quoted: bool,
    starts_row: Callable[[str], bool] = lambda _: False,
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells, without the spaces around them, of each row that holds anything.

    With `quoted`, a cell that begins with a quote ends with one, may hold delimiters and line ends, and writes a
    quote as two. A line inside such a cell for which `starts_row` is true is taken for the row that it looks like:
    the quote before it was never closed. Raises TableLineError.
    """
    for number, line in lines:
        cells = (
            _quoted(number, line, lines, delimiter, starts_row)
            if quoted and '"' in line
            else map(_unquoted, line.split(delimiter))
        )
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield number, cells


def _unquoted(cell: str) -> str:
    """The text of a cell, though quotes are text here, if a writer of CSV has put it in quotes and doubled its own."""
    inner = cell[1:-1]
    if (
        len(cell) < 4
        or cell[0] != '"'
        or cell[-1] != '"'
        or '"' not in inner
        or '"' in inner.replace('""', "")
    ):
        return cell
    return inner.replace('""', '"')


def _quoted(
    number: int,
    line: str,
    following: Iterator[tuple[int, str]],
    delimiter: str,
    starts_row: Callable[[str], bool],
) -> list[str]:
    cells: list[str] = []
    at = 0
    while True:
        begin = at
        while begin < len(line) and line[begin] == " ":
            begin += 1
        if line[begin : begin + 1] == '"':
            cell, number, line, at = _cell(number, line, begin + 1, following, starts_row)
            cells.append(cell)
            end = line.find(delimiter, at)
            if line[at : None if end < 0 else end].strip():
                raise TableLineError(number, "is not valid CSV: a cell goes on behind its closing quote")
        else:
            end = line.find(delimiter, at)
            cells.append(line[at : None if end < 0 else end])
        if end < 0:
            return cells
        at = end + 1


def _cell(
    number: int,
    line: str,
    at: int,
    following: Iterator[tuple[int, str]],
    starts_row: Callable[[str], bool],
) -> tuple[str, int, str, int]:
    """A quoted cell from behind its quote, and the number, line and place behind its end."""
    opened, pieces, size = number, list[str](), 0
    while True:
        close = line.find('"', at)
        piece = f"{line[at:]}\n" if close < 0 else line[at:close]
        pieces.append(piece)
        size += len(piece)
        if close >= 0 and line[close + 1 : close + 2] == '"':
            pieces.append('"')
            at = close + 2
            continue
        if close >= 0:
            if number != opened and _goes_on(line, close):
                raise TableLineError(opened, "is not valid CSV: the quote that opens there is never closed")
            return "".join(pieces), number, line, close + 1
        number, line = next(following, (0, ""))
        # A quote that is never closed does not swallow a whole corpus.
        if number == 0 or size > current().line_chars or starts_row(line):
            raise TableLineError(opened, "is not valid CSV: the quote that opens there is never closed")
        at = 0


def _goes_on(line: str, close: int) -> bool:
    """True if a quote in a later line opens a cell of its own rather than closing this one: `...,"text`."""
    return line[close + 1 : close + 2].isalnum()
