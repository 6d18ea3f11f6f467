"""Work in batches that survives what goes wrong with single items and with memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from catalog.command import JobError

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIES_ALONE = 2
MOST_FAILURES = 20
"""Items that may fail one after another before the engine, not the items, is to blame."""


@dataclass(frozen=True)
class Failure:
    """The error of an item that an engine could not do, alone, TRIES_ALONE times."""

    message: str


class BatchRunner:
    """Calls a function with up to `size` items. A size that does not fit in memory is halved for good."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._failures = 0

    def run(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result | Failure]:
        """One result or Failure an item, in order; JobError where one item exceeds the memory, or too many fail."""
        results: list[Result | Failure] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.size]
            try:
                results += function(batch)
                self._failures = 0
            except JobError:
                raise
            except Exception as error:
                if not out_of_memory(error):
                    results += [self._alone(function, item, error) for item in batch]
                elif len(batch) == 1:
                    raise JobError(f"one window of audio does not fit in memory: {line(error)}") from error
                else:
                    self.size = len(batch) // 2
        return results

    def _alone(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], item: Item, first: Exception
    ) -> Result | Failure:
        error = first
        for _ in range(TRIES_ALONE):
            try:
                (result,) = function([item])
            except Exception as failure:  # noqa: BLE001 - recorded in the row of the item
                error = failure
            else:
                self._failures = 0
                return result
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise JobError(
                f"{self._failures} windows of audio failed one after another: {line(error)}"
            ) from error
        return Failure(line(error))


def out_of_memory(error: Exception) -> bool:
    """True if torch or CTranslate2 ran out of a device's memory."""
    return "out of memory" in str(error).lower() or isinstance(error, MemoryError)


def line(error: Exception) -> str:
    """An error in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
