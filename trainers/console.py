"""A training's progress: the bar of `catalog.progress`, and lines for validations and best checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from catalog.progress import Bar
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import Sample


class _Console:
    def __init__(self, config: LoopConfig, bar: Bar) -> None:
        self._config, self._bar = config, bar
        self._started_s = time.monotonic()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        share = self._share(step, metrics["epoch"], (time.monotonic() - self._started_s) / 60)
        words = [f"step {step}", f"epoch {metrics['epoch']:.2f}"]
        words += [f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("loss")]
        words.append(f"{metrics['tokens_per_s']:,.0f} tokens/s")
        self._bar.show(share, " ".join(words), last=share >= 1)

    def _share(self, step: int, epoch: float, minutes: float) -> float:
        """Done, from 0 to 1, by the stop rule that is closest."""
        config = self._config
        rules = ((step, config.max_steps), (epoch, config.max_epochs), (minutes, config.max_minutes))
        return min(1.0, max(done / limit for done, limit in rules if limit))

    def validated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        text = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        heard = f", {len(samples)} samples" if samples else ""
        self._bar.say(f"step {step} {text}{heard}")

    def saved(self, step: int, path: Path, best: bool) -> None:
        if self._bar.live and best:
            self._bar.say(f"step {step} best so far, saved as {path}")


def console_hooks(config: LoopConfig, bar: Bar) -> Hooks:
    """Progress of a training on a bar, which the caller closes."""
    console = _Console(config, bar)
    return Hooks(on_log=console.log, on_validate=console.validated, on_checkpoint=console.saved)
