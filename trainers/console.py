"""What a training shows: a live bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import Sample

_QUIET_S = 30.0


class _Console:
    def __init__(self, config: LoopConfig, stream: TextIO, live: bool) -> None:
        self.config, self.stream, self.live = config, stream, live
        self.started_s = time.monotonic()
        self.first_share: float | None = None
        self.shown_s = float("-inf")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now_s = time.monotonic()
        if not self.live and now_s - self.shown_s < _QUIET_S:
            return
        self.shown_s = now_s
        share = self.share(step, metrics["epoch"], (now_s - self.started_s) / 60)
        words = [f"step {step}", f"epoch {metrics['epoch']:.2f}"]
        words += [f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("loss")]
        words += [f"{metrics['tokens_per_s']:,.0f} tokens/s", self.remaining(share, now_s)]
        bar = "#" * round(20 * share) + "." * (20 - round(20 * share))
        text = " ".join(words)
        self.write(f"\r[{bar}] {text}\x1b[K" if self.live else f"{text}\n")

    def share(self, step: int, epoch: float, minutes: float) -> float:
        """Done, from 0 to 1, by the stop rule that is closest."""
        config = self.config
        rules = ((step, config.max_steps), (epoch, config.max_epochs), (minutes, config.max_minutes))
        return min(1.0, max(done / limit for done, limit in rules if limit))

    def remaining(self, share: float, now_s: float) -> str:
        """Time left at the speed since the start of this process."""
        if self.first_share is None:
            self.first_share, self.started_s = share, now_s
        gained = share - self.first_share
        if gained <= 0:
            return "ETA ?"
        left_s = (now_s - self.started_s) / gained * (1 - share)
        return f"ETA {int(left_s // 60)} min {int(left_s % 60)} s"

    def validated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        text = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        start = "\r\x1b[K" if self.live else ""
        heard = f", {len(samples)} samples" if samples else ""
        self.write(f"{start}step {step} {text}{heard}\n")

    def saved(self, step: int, path: Path, best: bool) -> None:
        if self.live and best:
            self.write(f"\r\x1b[Kstep {step} best so far, saved as {path}\n")

    def write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def console_hooks(config: LoopConfig, stream: TextIO, live: bool) -> Hooks:
    """Progress on a stream: one line that is rewritten if `live`, else a line every half minute."""
    console = _Console(config, stream, live)
    return Hooks(on_log=console.log, on_validate=console.validated, on_checkpoint=console.saved)
