"""Patterns: codes go through tokens and back, and a sampler that keeps to `allowed` writes nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.toktts.patterns import NEVER, Delayed, Interleaved

V = 5
PATTERNS = st.builds(
    lambda kind, q: {"delay": Delayed(q, V)}.get(kind) or Interleaved(q, V, kind),
    st.sampled_from(["separate", "shared", "delay"]),
    st.integers(1, 4),
)


def codes_of(pattern, n_frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, V, (pattern.n_codebooks, n_frames), generator=generator)


def test_interleaving_goes_frame_by_frame():
    codes = torch.tensor([[0, 1], [2, 3]])
    assert Interleaved(2, V, "shared").write(codes)[:, 0].tolist() == [0, 2, 1, 3, 6]
    assert Interleaved(2, V).write(codes)[:, 0].tolist() == [0, 7, 1, 8, 11]


def test_delayed_streams_begin_and_stop_one_after_another():
    start, stop = V, V + 1
    expected = [[0, start], [1, 2], [stop, 3], [stop, stop]]
    assert Delayed(2, V).write(torch.tensor([[0, 1], [2, 3]])).tolist() == expected


@given(PATTERNS, st.integers(0, 6), st.integers(0, 99))
def test_tokens_are_read_back(pattern, n_frames, seed):
    codes = codes_of(pattern, n_frames, seed)
    tokens = pattern.write(codes)
    assert tokens.shape[1] == pattern.n_streams
    assert int(tokens.max()) == pattern.stop == pattern.n_ids - 1
    assert (tokens[:, 0] == pattern.stop).nonzero()[0] == pattern.steps(n_frames)
    assert torch.equal(pattern.read(tokens), codes)


@given(PATTERNS, st.integers(0, 6))
def test_every_code_knows_its_level(pattern, n_frames):
    levels = torch.arange(pattern.n_codebooks)[:, None].expand(-1, n_frames)
    tokens = pattern.write(levels)
    found = pattern.levels(len(tokens))
    assert found.shape == tokens.shape
    is_code = tokens < pattern.start
    assert torch.equal(found[is_code], tokens[is_code] % V)
    assert found[pattern.steps(n_frames), 0] == 0


@given(PATTERNS, st.integers(1, 6), st.integers(0, 30))
def test_of_a_beginning_the_complete_frames_are_read(pattern, n_frames, kept):
    codes = codes_of(pattern, n_frames)
    tokens = pattern.write(codes)[:kept]
    found = pattern.read(tokens)
    assert torch.equal(found, codes[:, : found.shape[1]])
    if isinstance(pattern, Interleaved):
        assert found.shape[1] == min(n_frames, kept // pattern.n_codebooks)
    else:
        assert found.shape[1] == min(n_frames, max(0, kept - pattern.n_codebooks + 1))


@given(PATTERNS, st.integers(1, 6))
def test_exactly_what_is_written_is_allowed(pattern, n_frames):
    tokens = pattern.write(codes_of(pattern, n_frames))
    for step, tokens_K in enumerate(tokens):
        ended = (tokens[:step, 0] == pattern.stop).nonzero()
        stopped = torch.tensor([int(ended[0]) if len(ended) else NEVER])
        allowed = pattern.allowed(step, stopped)[0]
        assert allowed.shape == (pattern.n_streams, pattern.n_ids)
        assert allowed.gather(1, tokens_K[:, None]).all()


@given(PATTERNS)
def test_speech_has_at_least_one_frame(pattern):
    assert not pattern.allowed(0, torch.tensor([NEVER]))[0, 0, pattern.stop]
    assert pattern.allowed(pattern.steps(1), torch.tensor([NEVER]))[0, 0, pattern.stop]


@given(PATTERNS, st.integers(0, 60))
def test_the_most_frames_are_those_that_fit(pattern, n_steps):
    most = pattern.frames(n_steps)
    assert len(pattern.write(codes_of(pattern, most + 1))) > n_steps
    assert most == 0 or len(pattern.write(codes_of(pattern, most))) <= n_steps


@given(PATTERNS, st.integers(1, 12), st.integers(0, 99))
def test_whatever_is_allowed_can_be_read(pattern, n_frames, seed):
    """Tokens drawn from what is allowed, the stop where it is wanted, are the tokens of their codes."""
    generator, stopped, tokens = torch.Generator().manual_seed(seed), torch.tensor([NEVER]), []
    while not tokens or not (tokens[-1] == pattern.stop).all():
        allowed = pattern.allowed(len(tokens), stopped)[0]
        if len(tokens) < pattern.steps(n_frames):
            allowed[0, pattern.stop] = False
        elif stopped[0] == NEVER:
            allowed[0] = torch.arange(pattern.n_ids) == pattern.stop
            stopped[0] = len(tokens)
        tokens.append(torch.multinomial(allowed.float(), 1, generator=generator)[:, 0])
    written = torch.stack(tokens)
    codes = pattern.read(written)
    assert codes.shape == (pattern.n_codebooks, n_frames)
    assert torch.equal(pattern.write(codes), written)


@pytest.mark.parametrize(("at", "frames"), [(0, 0), (3, 1), (4, 2)])
def test_reading_ends_at_what_is_no_code(at, frames):
    pattern = Interleaved(2, V)
    tokens = pattern.write(codes_of(pattern, 3))
    tokens[at] = pattern.start
    assert pattern.read(tokens).shape == (2, frames)
    # An id of the other codebook is no code of this one.
    tokens[at] = 0 if at % 2 else V
    assert pattern.read(tokens).shape == (2, frames)
