"""Voice conversion of long recordings: windows cut at quiet moments are converted one by one and joined.

Memory is that of one window, whatever the recording's length. Each window is converted with a little of its neighbours,
and joints are cross-faded. Shapes: T samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from models.checkpoints import Json
from models.codecs.interface import Wave
from models.prompt import SILENCE_PEAK, Prompt
from models.system import ConvertRequest, Speech, Task

CONTEXT_S, FADE_S = 0.1, 0.02
_LONGEST_S = 30.0
_QUIET_S = 0.1
"""Over which loudness is measured."""
_HOP_S = 0.02

Prepared = TypeVar("Prepared")


class Part(NamedTuple):
    """Consecutive samples of a converted recording."""

    wave_T: Tensor
    evaluations: int


def longest_source_s(options: Mapping[str, Json]) -> float:
    """The longest source that a task with these options converts at once: its `max_source_s`, or 30 s."""
    longest_s = options.get("max_source_s", _LONGEST_S)
    assert isinstance(longest_s, int | float)
    return float(longest_s)


def convert_in_windows(
    task: Task[ConvertRequest, Prepared, Speech],
    source_T: Tensor,
    sample_rate: int,
    reference: Prompt,
    generator: torch.Generator,
) -> Iterator[Part]:
    """Convert a recording at the rate of the speech that `task` makes; parts joined are as long as it is.

    No window is longer than `longest_source_s`. Silent ones stay silent. ValueError as `task.prepare`, and for windows
    of less than a second.
    """
    longest_s = longest_source_s(task.options)
    if longest_s < 1:
        raise ValueError(f"windows of {longest_s:g} s are too short for a long source; the least is 1 s")
    context, half_fade = round(CONTEXT_S * sample_rate), round(FADE_S * sample_rate / 2)
    samples, before_T = len(source_T), None
    edges = [0, *cuts(source_T, sample_rate, longest_s - 2 * CONTEXT_S), samples]
    for start, stop in itertools.pairwise(edges):
        first, last = max(0, start - context), min(samples, stop + context)
        made = _converted(task, source_T[first:last], sample_rate, reference, generator)
        begin, end = max(0, start - half_fade), min(samples, stop + half_fade)
        wave_T = made.wave_T[begin - first : end - first]
        if before_T is not None:
            share_T = torch.linspace(0, 1, 2 * half_fade)
            wave_T[: 2 * half_fade] = torch.lerp(before_T, wave_T[: 2 * half_fade], share_T)
        kept = len(wave_T) if stop == samples else len(wave_T) - 2 * half_fade
        before_T = wave_T[kept:]
        yield Part(wave_T[:kept], made.evaluations)


def cuts(wave_T: Tensor, sample_rate: int, longest_s: float) -> list[int]:
    """Samples at which to cut, at most `longest_s` apart: the quietest moment of the second half of that time.

    At least a quarter of it is left at the end.
    """
    longest, found = int(longest_s * sample_rate), [0]
    while len(wave_T) - found[-1] > longest:
        first = found[-1] + longest // 2
        last = min(found[-1] + longest, len(wave_T) - longest // 4)
        found.append(first + _quietest(wave_T[first:last], sample_rate))
    return found[1:]


def _quietest(wave_T: Tensor, sample_rate: int) -> int:
    """The middle of the quietest segment."""
    length, hop = min(len(wave_T), round(_QUIET_S * sample_rate)), round(_HOP_S * sample_rate)
    power = functional.avg_pool1d(wave_T.float().square()[None, None], length, hop)[0, 0]
    return int(power.argmin()) * hop + length // 2


def _converted(
    task: Task[ConvertRequest, Prepared, Speech],
    window_T: Tensor,
    sample_rate: int,
    reference: Prompt,
    generator: torch.Generator,
) -> Part:
    """A window, as long as it was."""
    made_T = torch.zeros(len(window_T))
    if float(window_T.abs().max()) < SILENCE_PEAK:
        return Part(made_T, 0)
    source = Wave(window_T[None], torch.tensor([len(window_T)]), sample_rate)
    (speech,) = task.run([task.prepare(ConvertRequest(source, reference))], [generator])
    samples = int(speech.wave.lengths_B[0])
    made_T[:samples] = speech.wave.wave_BT[0, :samples]
    return Part(made_T, speech.evaluations)
