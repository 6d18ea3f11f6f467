"""Pieces joined are the whole, and no piece is longer than piece and context."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.codecs.chunking import in_pieces

HOP, REACH = 4, 2


def blur(values_T: Tensor) -> Tensor:
    """A frame of outputs from its own samples and those of two frames on either side."""
    frames = functional.avg_pool1d(values_T[None, None], HOP, ceil_mode=True, count_include_pad=False)
    return functional.conv1d(frames, torch.arange(1.0, 6.0)[None, None], padding=REACH)[0, 0]


def spread(values_T: Tensor) -> Tensor:
    """Frames -> samples, those of a frame from two frames on either side."""
    mixed = functional.conv1d(values_T[None, None], torch.arange(1.0, 6.0)[None, None], padding=REACH)
    return mixed.repeat_interleave(HOP, dim=2)[0, 0]


@given(st.integers(1, 80), st.integers(1, 12), st.integers(REACH, 5))
def test_pieces_joined_are_the_whole(length: int, piece: int, context: int) -> None:
    values_T = torch.randint(0, 100, (length,)).float()
    encoded = list(in_pieces(blur, values_T, piece=piece, context=context, values_per_frame=HOP))
    assert torch.equal(torch.cat(encoded), blur(values_T))
    decoded = list(in_pieces(spread, values_T, piece=piece, context=context, outputs_per_frame=HOP))
    assert torch.equal(torch.cat(decoded), spread(values_T))
    assert [len(part) for part in decoded[:-1]] == [piece * HOP] * (len(decoded) - 1)


@given(st.integers(0, 20), st.integers(1, 12))
def test_frames_beyond_those_wanted_are_context(frames: int, piece: int) -> None:
    values_T = torch.randint(0, 100, ((frames + 2 * REACH) * HOP,)).float()
    found = list(
        in_pieces(blur, values_T, piece=piece, context=REACH, values_per_frame=HOP, frames=frames, lead=REACH)
    )
    assert torch.equal(torch.cat([torch.zeros(0), *found]), blur(values_T)[REACH : REACH + frames])


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 5))
def test_no_piece_is_longer_than_asked_for(frames: int, piece: int, context: int) -> None:
    given_lengths: list[int] = []

    def run(values_T: Tensor) -> Tensor:
        given_lengths.append(len(values_T))
        return values_T

    list(in_pieces(run, torch.zeros(frames), piece=piece, context=context))
    assert max(given_lengths) <= piece + 2 * context
    assert len(given_lengths) == -(-frames // piece)
