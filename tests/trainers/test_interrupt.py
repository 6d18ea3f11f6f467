"""A signal stops a training cleanly, and the command's exit code says so."""

from __future__ import annotations

import os
import signal

import pytest

from catalog.command import Terminated
from trainers.interrupt import raise_received, stop_on_signal


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_asks_once_and_is_raised_at_the_end(number: int, error: type[BaseException]) -> None:
    with stop_on_signal() as requested:
        os.kill(os.getpid(), number)
        assert requested.wait(10)
    with pytest.raises(error) as raised:
        raise_received({"steps": 3})
    assert (type(raised.value), raised.value.args) == (error, ({"steps": 3},))
    raise_received({})


def test_a_stop_without_a_signal_is_no_interruption() -> None:
    with stop_on_signal() as requested:
        os.kill(os.getpid(), signal.SIGINT)
        requested.wait(10)
    with stop_on_signal():
        pass
    raise_received({})
