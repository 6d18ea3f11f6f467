"""The autoregressive loop: the network gives logits, a search picks tokens, until every row has ended.

Shapes: R rows, V codes, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from models.sampling.draws import Draws
from models.sampling.token_sampling import TokenSampling, choose

FinishReason = Literal["stop", "length", "loop"]


class State(Protocol):
    """The network's memory of earlier tokens."""

    def reorder(self, rows_B: Tensor) -> None:
        """Go on with these rows; a row may be left out or occur several times."""


S = TypeVar("S", bound=State)
StepFn = Callable[[Tensor, S], Tensor]
"""(tokens_R int64, state) -> logits_RV of the tokens that follow. The state then holds these tokens too."""


@dataclass(frozen=True)
class Continuation:
    """Result of one row."""

    tokens_N: Tensor
    """int64, without the stop token and without a prefix."""
    finish_reason: FinishReason
    evaluations: int
    """Forward passes for the row's batch, that of the prefix included."""


class Search(Protocol):
    """Choice of each row's next token. It keeps the tokens, the network's state keeps the rest."""

    def advance(self, logits_RV: Tensor, state: State) -> Tensor | None:
        """The next token of each row (R,), the state reordered to those rows; None when all rows have ended."""

    def results(self) -> list[tuple[list[int], FinishReason]]:
        """Tokens of each row and why they end."""


@torch.no_grad()
def generate(logits_RV: Tensor, step: StepFn[S], state: S, search: Search) -> list[Continuation]:
    """Continue rows whose prefix the network has read: `logits_RV` and `state` are what that left."""
    device, evaluations = logits_RV.device, 1
    while (tokens_R := search.advance(logits_RV, state)) is not None:
        logits_RV = step(tokens_R, state)
        evaluations += 1
    return [
        Continuation(torch.tensor(tokens, dtype=torch.int64, device=device), reason, evaluations)
        for tokens, reason in search.results()
    ]


@dataclass(frozen=True)
class LoopGuard:
    """Ends rows that repeat themselves: the latest `tokens` tokens all equal those `period` before them.

    The defaults are four seconds of a pattern of at most one second, at 75 tokens per second.
    """

    tokens: int = 300
    max_period: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.max_period <= self.tokens:
            raise ValueError(
                f"max_period is {self.max_period} with tokens {self.tokens}; it must be between 1 and tokens"
            )


@dataclass(frozen=True)
class Limits:
    """Stop token and lengths at which rows end."""

    stop: int
    """The token that ends a row. It is not part of the result."""
    maximum: Sequence[int]
    """Tokens of each row at the most."""
    minimum: Sequence[int] = ()
    """Tokens of each row before the stop token may come; empty: none."""
    guard: LoopGuard | None = None

    def __post_init__(self) -> None:
        if self.minimum and len(self.minimum) != len(self.maximum):
            raise ValueError(
                f"{len(self.minimum)} minimums for {len(self.maximum)} rows; give one per row or none"
            )
        for row, most in enumerate(self.maximum):
            least = max(1, self.minimum[row] if self.minimum else 0)
            if most < least:
                raise ValueError(f"the maximum of row {row} is {most}; it must be at least {least}")


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None


class Sampler:
    """One token per step and row, drawn or the most likely. `prefixes` are tokens that count as repeated ones."""

    def __init__(
        self,
        sampling: TokenSampling,
        limits: Limits,
        draws: Draws,
        prefixes: Sequence[Sequence[int]] = (),
    ) -> None:
        self.sampling, self.limits, self.draws = sampling, limits, draws
        self._rows = [_Row() for _ in limits.maximum]
        self._prefixes = prefixes or [[] for _ in limits.maximum]
        self._runs = None if limits.guard is None else _Runs(len(self._rows), limits.guard)

    def advance(self, logits_RV: Tensor, state: State) -> Tensor | None:  # noqa: ARG002
        """See Search."""
        alive = [0 if row.finish else 1 for row in self._rows]
        logits_RV = self._without_early_stops(logits_RV)
        recent_RW = self._recent(logits_RV.device)
        tokens_R = choose(logits_RV[:, None], self.sampling, alive, self.draws, recent_RW)[:, 0]
        tokens = tokens_R.tolist()
        for index, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if row.finish is None:
                self._append(row, token, self.limits.maximum[index])
        if self._runs is not None:
            self._end_loops(self._runs, tokens)
        return None if all(row.finish for row in self._rows) else tokens_R

    def results(self) -> list[tuple[list[int], FinishReason]]:
        """See Search. A loop is cut to what came before its first repetition."""
        return [(row.tokens, row.finish or "length") for row in self._rows]

    def _append(self, row: _Row, token: int, most: int) -> None:
        if token == self.limits.stop:
            row.finish = "stop"
            return
        row.tokens.append(token)
        if len(row.tokens) == most:
            row.finish = "length"

    def _end_loops(self, runs: _Runs, tokens: Sequence[int]) -> None:
        for row, repeated in zip(self._rows, runs.update(tokens), strict=True):
            if repeated and row.finish is None:
                row.finish = "loop"
                del row.tokens[len(row.tokens) - repeated :]

    def _without_early_stops(self, logits_RV: Tensor) -> Tensor:
        early = [len(row.tokens) < least for row, least in zip(self._rows, self.limits.minimum, strict=False)]
        if not any(early):
            return logits_RV
        early_R1 = torch.tensor(early, device=logits_RV.device)[:, None]
        stop_V = torch.arange(logits_RV.shape[-1], device=logits_RV.device) == self.limits.stop
        return logits_RV.masked_fill(early_R1 & stop_V, -torch.inf)

    def _recent(self, device: torch.device) -> Tensor | None:
        """The latest tokens (R, W) of each row, prefix included, -1 before its beginning."""
        window = self.sampling.window
        if window == 0:
            return None
        lists = [[*prefix, *row.tokens] for prefix, row in zip(self._prefixes, self._rows, strict=True)]
        width = max(map(len, lists)) if window is None else window
        filled = [[-1] * (width - len(tokens)) + tokens[max(0, len(tokens) - width) :] for tokens in lists]
        return torch.tensor(filled, dtype=torch.int64, device=device)


class _Runs:
    """Number of each row's latest tokens that equal the one `p` before them, for every period p up to the guard's."""

    def __init__(self, n_rows: int, guard: LoopGuard) -> None:
        self.guard = guard
        self._recent_RP = torch.full((n_rows, guard.max_period), -1)
        self._runs_RP = torch.zeros(n_rows, guard.max_period, dtype=torch.int64)

    def update(self, tokens: Sequence[int]) -> list[int]:
        """Add a token to each row. Returns the length of the run that is too long, 0 where there is none."""
        tokens_R1 = torch.tensor(tokens)[:, None]
        self._runs_RP = torch.where(self._recent_RP == tokens_R1, self._runs_RP + 1, 0)
        self._recent_RP = torch.cat([tokens_R1, self._recent_RP[:, :-1]], dim=1)
        longest_R = self._runs_RP.amax(1)
        return torch.where(longest_R >= self.guard.tokens, longest_R, 0).tolist()
