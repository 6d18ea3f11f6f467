"""A training's progress: the bar of `catalog.progress`, and lines for validations and best checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from catalog.progress import Bar
from trainers.loop_config import Hooks
from trainers.objectives import Sample


class _Console:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        share = metrics["progress"]
        words = [f"step {step}", f"epoch {metrics['epoch']:.2f}"]
        words += [f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("loss")]
        words.append(f"{metrics['tokens_per_s']:,.0f} tokens/s")
        self._bar.show(share, " ".join(words), last=share >= 1)

    def validated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        text = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        heard = f", {len(samples)} samples" if samples else ""
        self._bar.say(f"step {step} {text}{heard}")

    def saved(self, step: int, path: Path, best: bool) -> None:
        if self._bar.live and best:
            self._bar.say(f"step {step} best so far, saved as {path}")


def console_hooks(bar: Bar) -> Hooks:
    """Progress of a training on a bar, which the caller closes."""
    console = _Console(bar)
    return Hooks(on_log=console.log, on_validate=console.validated, on_checkpoint=console.saved)
