"""The device that is measured: its peak, its clock, how long there is still time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from models.checkpoints import Json

PEAK_BF16 = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "L40S": 362e12, "4090": 165.2e12}
"""Dense bfloat16 operations a second by the makers' data sheets, by a part of the device's name."""


class Machine:
    """The GPU, or the CPU for a dry run with `small` networks."""

    def __init__(self, *, small: bool, minutes: float) -> None:
        self.small = small
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._ends = time.monotonic() + 60 * minutes
        torch.backends.cuda.matmul.allow_tf32 = (
            False  # float32 is what it says; the speed is measured in bfloat16
        )

    def left_s(self) -> float:
        """Seconds until the time is up."""
        return self._ends - time.monotonic()

    @property
    def peak(self) -> float | None:
        """Dense bfloat16 operations a second; None for an unknown device."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        return next((peak for part, peak in PEAK_BF16.items() if part in name), None)

    def described(self) -> Mapping[str, Json]:
        """Names and versions for the results."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {"device": name, "torch": torch.__version__, "small": self.small}

    def autocast(self, enabled: bool = True) -> torch.autocast:
        """Mixed precision in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(
        self, run: Callable[[], object], *, warm: int = 1, least_s: float = 1.0, most: int = 20
    ) -> float:
        """Median wall time of `run` after `warm` runs, over at least `least_s` seconds or `most` runs."""
        for _ in range(warm):
            run()
        self.synchronize()
        taken: list[float] = []
        while len(taken) < (1 if self.small else 3) or (sum(taken) < least_s and len(taken) < most):
            started = time.perf_counter()
            run()
            self.synchronize()
            taken.append(time.perf_counter() - started)
            if self.small:
                break
        return sorted(taken)[len(taken) // 2]
