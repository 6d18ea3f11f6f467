"""Beam search, with and without drawing.

It decides as transformers' `generate(num_beams=..., early_stopping=False)` does (huggingface/transformers@v4.45.2).
Shapes: B rows, n beams of each (1 at the first step), R = B * n, V codes, C = 2n candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.sampling.autoregressive import FinishReason, Limits, State
from models.sampling.draws import Draws, gumbel
from models.sampling.token_sampling import TokenSampling, filtered


@dataclass(frozen=True)
class Beams:
    """Width of the search."""

    n_beams: int = 4
    length_penalty: float = 1.0
    """A hypothesis scores sum(log p) / length ^ length_penalty; its stop token counts."""

    def __post_init__(self) -> None:
        if self.n_beams < 1:
            raise ValueError(f"n_beams is {self.n_beams}; it must be at least 1")


@dataclass
class _Row:
    beams: list[list[int]] = field(default_factory=lambda: [[]])
    scores: list[float] = field(default_factory=lambda: [0.0])
    found: list[tuple[float, list[int], FinishReason]] = field(default_factory=list)
    done: bool = False


class BeamSearch:
    """Keeps the n best beginnings of each row. `sampling` draws candidates (from `draws`) instead of taking the best.

    ValueError for limits or settings of repetition, which it does not have.
    """

    def __init__(
        self, beams: Beams, limits: Limits, sampling: TokenSampling | None = None, draws: Draws | None = None
    ) -> None:
        if (sampling is None) != (draws is None):
            raise ValueError(
                "a beam search that draws needs sampling and draws; one that does not needs neither"
            )
        if limits.minimum or limits.guard or (sampling is not None and sampling.window != 0):
            raise ValueError("a beam search has no minimum, no loop guard and no penalties for repetition")
        if sampling is not None and sampling.temperature == 0:
            raise ValueError("temperature is 0; a beam search that draws needs one above 0")
        self.beams, self.limits, self.sampling, self.draws = beams, limits, sampling, draws
        self._rows = [_Row() for _ in limits.maximum]
        self._steps = 0

    def advance(self, logits_RV: Tensor, state: State) -> Tensor | None:
        """See Search. At the first step the state has one beginning a row."""
        n_rows, n_codes = len(self._rows), logits_RV.shape[-1]
        before = len(logits_RV) // n_rows
        scores_BC, index_BC = self._candidates(logits_RV.view(n_rows, before, n_codes))
        self._steps += 1
        parents, tokens = [], []
        found = zip(self._rows, scores_BC.tolist(), index_BC.tolist(), self.limits.maximum, strict=True)
        for number, (row, scores, indices, most) in enumerate(found):
            pairs = [divmod(index, n_codes) for index in indices]
            picked = [] if row.done else self._extend(row, scores, pairs, most)
            picked = picked or [(0, self.limits.stop)] * self.beams.n_beams
            parents += [number * before + parent for parent, _ in picked]
            tokens += [token for _, token in picked]
        if all(row.done for row in self._rows):
            return None
        if parents != list(range(len(logits_RV))):
            state.reorder(torch.tensor(parents, device=logits_RV.device))
        return torch.tensor(tokens, device=logits_RV.device)

    def results(self) -> list[tuple[list[int], FinishReason]]:
        """See Search. The best hypothesis of each row."""
        best = [max(row.found, key=lambda one: one[0]) for row in self._rows]
        return [(tokens, reason) for _, tokens, reason in best]

    def _candidates(self, logits_BnV: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and flat indices (B, C) of the continuations that are considered, the best first."""
        before, n_codes = logits_BnV.shape[1:]
        logits_BnV = logits_BnV.float().log_softmax(-1)
        if self.sampling is not None:
            logits_BnV = filtered(logits_BnV, self.sampling)
        so_far = [row.scores if len(row.scores) == before else [0.0] * before for row in self._rows]
        scores_BM = (logits_BnV + torch.tensor(so_far, device=logits_BnV.device)[..., None]).flatten(1)
        count = min(2 * self.beams.n_beams, scores_BM.shape[1])
        if self.draws is None:
            best = scores_BM.topk(count)
            return best.values, best.indices
        ids_BnV = torch.arange(n_codes, device=logits_BnV.device).expand(logits_BnV.shape)
        alive = [0 if row.done else before for row in self._rows]
        # The largest of scores with Gumbel noise are draws without replacement.
        noise_BM = gumbel(self.draws.tokens(alive, ids_BnV, n_codes)).flatten(1)
        drawn_BC = (scores_BM + noise_BM).topk(count).indices
        drawn_scores_BC, order_BC = scores_BM.gather(1, drawn_BC).sort(dim=1, descending=True)
        return drawn_scores_BC, drawn_BC.gather(1, order_BC)

    def _extend(
        self, row: _Row, scores: Sequence[float], pairs: Sequence[tuple[int, int]], most: int
    ) -> list[tuple[int, int]]:
        """Sort candidates into hypotheses that ended and the next beams, returned as (parent, token)."""
        picked: list[tuple[int, int]] = []
        beams, kept = [], []
        for rank, (score, (parent, token)) in enumerate(zip(scores, pairs, strict=True)):
            if token != self.limits.stop:
                picked.append((parent, token))
                beams.append([*row.beams[parent], token])
                kept.append(score)
            elif rank < self.beams.n_beams and score > -math.inf:
                self._end(row, score, row.beams[parent], "stop")
            if len(picked) == self.beams.n_beams:
                break
        short = self.beams.n_beams - len(picked)
        if picked and short:
            picked, beams = picked + picked[:1] * short, beams + beams[:1] * short
            kept += [-math.inf] * short
        row.beams, row.scores = beams, kept
        self._finish(row, max(scores), most)
        return picked

    def _end(self, row: _Row, score: float, tokens: list[int], reason: FinishReason) -> None:
        """Keep a hypothesis if it is among the n best."""
        row.found.append((score / self._steps**self.beams.length_penalty, tokens, reason))
        if len(row.found) > self.beams.n_beams:
            row.found.remove(min(row.found, key=lambda one: one[0]))

    def _finish(self, row: _Row, best: float, most: int) -> None:
        """A row is done when no beam can beat its hypotheses, or at its maximum, where the beams become hypotheses."""
        full = len(row.found) == self.beams.n_beams
        if full and min(row.found)[0] >= best / self._steps**self.beams.length_penalty:
            row.done = True
        elif self._steps == most or not row.beams:
            for tokens, score in zip(row.beams, row.scores, strict=True):
                self._end(row, score, tokens, "length")
            row.done = True
