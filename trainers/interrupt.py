"""Ctrl-C and SIGTERM as a request to stop cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from catalog.command import Terminated

_received: list[int] = []
"""Signals that asked for a stop."""


def raise_received(result: Mapping[str, object]) -> None:
    """End the command as the signal that stopped it says, if there was one, after its result is printed.

    An interrupted training is saved and goes on when it is started again, but what was to follow it must not.
    """
    if _received:
        raise (Terminated if _received.pop() == signal.SIGTERM else KeyboardInterrupt)(result)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask for a clean stop; a second one ends the process as usual."""
    requested = threading.Event()
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        requested.set()
        _received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, ask)
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
