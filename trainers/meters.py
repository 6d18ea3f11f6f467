"""Figures that a run reports: sums over micro-batches and ranks, and means over steps."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from trainers.data import Batch
from trainers.objectives import Loss
from trainers.parallel import Parallel


class Totals:
    """Sums over micro-batches, then over ranks."""

    def __init__(self, device: torch.device) -> None:
        self.values: dict[str, Tensor] = {"loss": torch.zeros(2, device=device)}
        self.tokens = torch.zeros((), device=device)

    @property
    def sum(self) -> Tensor:
        """Scalar: the summed loss."""
        return self.values["loss"][0]

    @property
    def count(self) -> Tensor:
        """Scalar: what the loss is a mean over."""
        return self.values["loss"][1]

    def add(self, loss: Loss, batch: Batch) -> None:
        """Add one micro-batch."""
        pair = torch.stack([loss.sum.detach().float(), loss.count.detach().float()])
        for name, value in {"loss": pair, **loss.metrics}.items():
            self.values[name] = self.values[name] + value if name in self.values else value.detach()
        self.tokens = self.tokens + batch.n_tokens

    def reduce(self, parallel: Parallel) -> None:
        """Ranks may lack a metric (another layer, no batch at all), so names are agreed on first."""
        if parallel.world == 1:
            return
        names = parallel.union(self.values)
        zero = torch.zeros_like(self.values["loss"])
        flat = torch.cat([self.values.get(name, zero) for name in names] + [self.tokens[None]])
        parallel.sum(flat)
        self.values = {name: flat[2 * i : 2 * i + 2] for i, name in enumerate(names)}
        self.tokens = flat[-1]

    def means(self) -> dict[str, float]:
        """Loss and metrics as means, by name."""
        return {name: float(pair[0] / pair[1].clamp(min=1e-9)) for name, pair in self.values.items()}


class Log:
    """Means since the last log entry."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.plain: dict[str, list[Tensor | float]] = {}
        self.tokens: list[Tensor] = []
        self.since_s = time.monotonic()

    def add(self, phase: str, totals: Totals, norm: Tensor, lr: float) -> None:
        """Add one update; `phase` is empty for the first one, whose loss is `loss`."""
        suffix = f"_{phase}" if phase else ""
        for name, pair in totals.values.items():
            key = f"{name}{suffix}" if name == "loss" else name
            self.sums[key] = self.sums[key] + pair if key in self.sums else pair
        self.plain.setdefault(f"gradient_norm{suffix}", []).append(norm)
        self.plain[f"learning_rate{suffix}"] = [lr]
        if not phase:
            self.tokens.append(totals.tokens)

    def take(self) -> dict[str, float]:
        """Means since the last call, and tokens (frames times codebooks) per second."""
        spent_s = max(time.monotonic() - self.since_s, 1e-9)
        metrics = {name: float(pair[0] / pair[1].clamp(min=1e-9)) for name, pair in self.sums.items()}
        metrics |= {name: float(sum(values)) / len(values) for name, values in self.plain.items()}
        metrics["tokens_per_s"] = float(sum(self.tokens)) / spent_s
        self._clear()
        return metrics
