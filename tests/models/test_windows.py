"""Long recordings in windows, with a task whose result is obvious: the source, louder by the reference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.codecs.interface import Wave
from models.prompt import Prompt
from models.system import ConvertRequest, Speech
from models.windows import convert_in_windows, cuts

RATE = 1000


class Louder:
    """Multiplies the source by the reference's peak; remembers how long its sources were."""

    def __init__(self) -> None:
        self.options: dict[str, float] = {}
        self.lengths: list[int] = []

    def prepare(self, request: ConvertRequest) -> ConvertRequest:
        self.lengths.append(int(request.source.lengths_B[0]))
        return request

    def run(self, prepared: Sequence[ConvertRequest], generators: Sequence[torch.Generator]) -> list[Speech]:
        return [_louder(one) for one in prepared]


def _louder(request: ConvertRequest) -> Speech:
    factor = float(request.reference.wave.wave_BT.abs().max())
    source = request.source
    return Speech(Wave(source.wave_BT * factor, source.lengths_B, source.sample_rate), "length", 3)


def words(seconds: float, pause_every_s: float = 1.0, seed: int = 0) -> Tensor:
    """Noise with a pause of 0.2 s at the end of every `pause_every_s`."""
    wave_T = 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    times_T = torch.arange(len(wave_T)) / RATE
    return wave_T * (times_T % pause_every_s < pause_every_s - 0.2)


def converted(task: Louder, source_T: Tensor, longest_s: float) -> tuple[Tensor, int]:
    reference = Prompt(Wave(torch.full((1, 500), 2.0), torch.tensor([500]), RATE))
    task.options = {"max_source_s": longest_s}
    parts = list(convert_in_windows(task, source_T, RATE, reference, torch.Generator()))
    return torch.cat([part.wave_T for part in parts]), sum(part.evaluations for part in parts)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 20), st.floats(1.0, 6.0), st.integers(0, 5))
def test_parts_joined_are_the_whole(seconds: float, longest_s: float, seed: int) -> None:
    source_T, task = words(seconds, seed=seed), Louder()
    wave_T, evaluations = converted(task, source_T, longest_s)
    torch.testing.assert_close(wave_T, 2 * source_T)
    assert max(task.lengths) <= longest_s * RATE
    assert evaluations == 3 * len(task.lengths)


def test_cuts_fall_into_pauses() -> None:
    source_T = words(20, pause_every_s=1.3)
    found = cuts(source_T, RATE, 4.0)
    assert 5 <= len(found) <= 9
    assert all(sample / RATE % 1.3 >= 1.1 for sample in found)
    assert all(0 < b - a <= 4000 for a, b in zip([0, *found], [*found, 20000], strict=True))


def test_a_short_recording_is_one_window() -> None:
    task = Louder()
    converted(task, words(3.7), 4.0)
    assert task.lengths == [3700]
    assert cuts(words(3.7), RATE, 3.8) == []


def test_silent_windows_stay_silent_without_a_network() -> None:
    task = Louder()
    source_T = torch.cat([words(3.9), torch.zeros(12000), words(3.0)])
    wave_T, _ = converted(task, source_T, 4.0)
    torch.testing.assert_close(wave_T, 2 * source_T)
    assert len(task.lengths) < len(cuts(source_T, RATE, 3.8)) + 1


def test_what_cannot_be_prepared_is_refused() -> None:
    class Refusing(Louder):
        def prepare(self, request: ConvertRequest) -> ConvertRequest:
            raise ValueError("reference is silent; it must be a recording of a voice")

    with pytest.raises(ValueError, match="reference is silent"):
        converted(Refusing(), words(2.0), 4.0)


def test_the_last_window_is_never_a_scrap() -> None:
    for extra in (1, 5, 40):
        found = cuts(torch.linspace(1, 0, 3800 + extra), RATE, 3.8)
        assert len(found) == 1
        assert 3800 + extra - found[0] >= 950


def test_windows_need_a_second() -> None:
    with pytest.raises(
        ValueError, match=r"windows of 0\.5 s are too short for a long source; the least is 1 s"
    ):
        converted(Louder(), words(2.0), 0.5)
