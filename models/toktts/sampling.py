"""toktts as a closure for the autoregressive loop: tokens of all streams step by step, and codes of them.

Shapes: B rows, R = B * K rows of the loop (the streams of a row follow each other), Q codebooks, T frames, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.sampling.autoregressive import (
    Continuation,
    FinishReason,
    Limits,
    LoopGuard,
    Sampler,
    Search,
    generate,
)
from models.sampling.beam import Beams, BeamSearch
from models.sampling.draws import RowDraws, row_seeds
from models.sampling.token_sampling import TokenSampling
from models.toktts.network import TokTTS
from models.toktts.patterns import NEVER

Ids = Literal["of_the_pattern", "any"]


@dataclass(frozen=True)
class Decoding:
    """Settings of choosing tokens."""

    sampling: TokenSampling | None = None
    """None: the most likely token, or with beams the best beams."""
    beams: Beams | None = None
    """Only for patterns of one stream."""
    ids: Ids = "of_the_pattern"
    """`any` is the published way: every id can come at every step, and what is no frame is cut off."""
    guard: LoopGuard | None = None
    """Ends rows that repeat themselves; not with beams. Its numbers are in steps."""
    guidance: float = 0.0
    """Multiple of the difference to the logits without the text that is added; 0 switches guidance off and halves the
    work."""


@dataclass(frozen=True)
class SpokenCodes:
    """Result of one row."""

    codes_QT: Tensor
    """int64; T may be 0."""
    finish_reason: FinishReason
    evaluations: int
    """Forward passes of the decoder for the row's batch."""


@torch.no_grad()
def generate_codes(
    model: TokTTS,
    text_BL: Tensor,
    text_mask_BL: Tensor,
    max_frames: Sequence[int],
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[SpokenCodes]:
    """Speak each row's text in at most `max_frames` frames; `seeds` has one number for each row.

    ValueError for more frames than the model has positions, and for beams with a pattern of several streams.
    """
    pattern = model.pattern
    steps = [pattern.steps(most) for most in max_frames]
    # A stream may have begun later.
    maximum = [most + late for most in steps for late in range(pattern.n_streams)]
    search = _search(model, maximum, decoding, seeds)
    found = generate_tokens(
        model, text_BL, text_mask_BL, search, max(maximum), decoding.ids, decoding.guidance
    )
    rows = [found[at : at + pattern.n_streams] for at in range(0, len(found), pattern.n_streams)]
    return [_codes(model, streams) for streams in rows]


@torch.no_grad()
def generate_tokens(
    model: TokTTS,
    text_BL: Tensor,
    text_mask_BL: Tensor,
    search: Search,
    max_steps: int,
    ids: Ids = "any",
    guidance: float = 0.0,
) -> list[Continuation]:
    """Tokens of each stream of each row, without start and stop, as `search` chooses them; see Decoding."""
    n_rows, n_streams = len(text_BL), model.pattern.n_streams
    state = _State(model, text_BL, text_mask_BL, max_steps, guided=guidance > 0)

    def step(tokens_R: Tensor, state: _State) -> Tensor:
        tokens_BK = tokens_R.view(-1, n_streams)
        if guidance:
            both_2BKV = model.step(tokens_BK.repeat(2, 1), state.cache, state.memory)
            logits_BKV, textless_BKV = both_2BKV.chunk(2)
            logits_BKV = logits_BKV + guidance * (logits_BKV - textless_BKV)
        else:
            logits_BKV = model.step(tokens_BK, state.cache, state.memory)
        if ids == "of_the_pattern":
            state.advance(tokens_BK[:, 0] == model.pattern.stop)
            allowed_BKV = model.pattern.allowed(state.steps, state.stopped_B)
            logits_BKV = logits_BKV.masked_fill(~allowed_BKV, -torch.inf)
        return logits_BKV.flatten(0, 1)

    start_R = torch.full((n_rows * n_streams,), model.pattern.start, device=text_BL.device)
    return generate(step(start_R, state), step, state, search)


class _State:
    """The decoder's cache and memory, and where stream 0 of each row stopped.

    If `guided`, all rows stand in cache and memory once more behind themselves, without their text.
    """

    def __init__(
        self, model: TokTTS, text_BL: Tensor, text_mask_BL: Tensor, max_steps: int, *, guided: bool
    ) -> None:
        n_rows, copies = len(text_BL), 2 if guided else 1
        said_B = torch.arange(copies * n_rows, device=text_BL.device) < n_rows
        self.guided, self.cache = guided, model.cache(copies * n_rows, max_steps)
        self.memory = model.encode(text_BL.repeat(copies, 1), text_mask_BL.repeat(copies, 1), said_B)
        self.stopped_B = torch.full_like(self.cache.lengths_B[:n_rows], NEVER)
        self.steps = -1

    def advance(self, stops_B: Tensor) -> None:
        """Count a step whose first stream held these stop tokens."""
        stopped_B = torch.where(stops_B, self.steps, NEVER)
        self.stopped_B = torch.minimum(self.stopped_B, stopped_B)
        self.steps += 1

    def reorder(self, rows_B: Tensor) -> None:
        """See autoregressive.State."""
        n_rows = len(self.stopped_B)
        self.stopped_B = self.stopped_B[rows_B]
        if self.guided:
            rows_B = torch.cat([rows_B, rows_B + n_rows])
        self.cache.reorder(rows_B)
        self.memory.reorder(rows_B)


def _search(model: TokTTS, maximum: Sequence[int], decoding: Decoding, seeds: Sequence[int]) -> Search:
    pattern, device = model.pattern, model.token_tables_KVD.device
    streams = [
        seed for one in seeds for seed in row_seeds(torch.Generator().manual_seed(one), pattern.n_streams)
    ]
    draws, limits = RowDraws(streams, device), Limits(pattern.stop, maximum, guard=decoding.guard)
    if decoding.beams is None:
        return Sampler(decoding.sampling or TokenSampling(temperature=0), limits, draws)
    if pattern.n_streams > 1:
        raise ValueError(
            f"beam search needs one stream of tokens; the pattern {model.config.pattern!r} has {pattern.n_streams}"
        )
    return BeamSearch(decoding.beams, limits, decoding.sampling, draws if decoding.sampling else None)


def _codes(model: TokTTS, streams: Sequence[Continuation]) -> SpokenCodes:
    n_steps = max(len(stream.tokens_N) for stream in streams)
    tokens_SK = streams[0].tokens_N.new_full((n_steps, len(streams)), model.pattern.stop)
    for number, stream in enumerate(streams):
        tokens_SK[: len(stream.tokens_N), number] = stream.tokens_N
    looped = any(stream.finish_reason == "loop" for stream in streams)
    reason = "loop" if looped else streams[0].finish_reason
    return SpokenCodes(model.pattern.read(tokens_SK), reason, streams[0].evaluations)
