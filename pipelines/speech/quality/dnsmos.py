"""DNSMOS P.835, the overall score (Reddy, Gopal and Cutler 2022, arXiv:2110.01763), as the package speechmos gives it.

The score of a recording is the mean over windows of 9.01 s, a second apart. The network convolves a log-power
spectrogram seven times and takes the maximum over time and frequency, so windows share nearly all their work:

- `_lower` (four convolutions at full resolution, 97 % of the arithmetic) runs once over all windows that overlap, in
  strips that stay in the processor's cache. The next two convolutions are shared too; only the last one, whose grid of
  80 ms does not fit a hop of a second, runs for each window.
- A window's first and last frames differ from the shared ones, since every convolution pads the window with zeros.
  They are computed for each window from a few frames (`_Edges`) and put in their place.

Letters: B windows, C channels, T time, F frequency.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.audio.containers import Samples
from pipelines.speech.quality.onnx_weights import Weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16_000
WINDOW_S = 9.01
WINDOW = 144_160
"""Samples of a window: 900 frames of 320, 160 apart."""
_FRAME, _FRAME_HOP, _FRAMES = 320, 160, 900
# speechmos 0.0.1.1, DNSMOS.get_polyfit_val: from the network's overall score to the scale of the listeners.
_TO_MOS = (-0.06766283, 1.11546468, 0.04602535)
_STRIP = 92
"""Frames: 96 steps after the second convolution, a whole number of NNPACK's Winograd tiles of 6."""
_WINDOWS_AT_ONCE = 128
_LAYERS = ("conv2d", *(f"conv2d_{layer}" for layer in range(1, 7)))
_DENSE = ("dense", "dense_1", "dense_3")
_REACH = 4
"""Frames at each end of a window that the padding of the four lower convolutions reaches."""


def window_starts(samples: int, hop_s: int = 1) -> list[int]:
    """First samples of the windows that speechmos scores in a recording of at least 9.01 s.

    Windows 7 to 23 are missing: there, `int((i + 9.01) * 16000)` rounds to a sample less than a whole window, which
    speechmos leaves out. Scores stay comparable with published ones only if it is done here too.
    """
    count = int(math.floor(samples / SAMPLE_RATE) - WINDOW_S) + 1
    ends = [(index, int((index + WINDOW_S) * SAMPLE_RATE)) for index in range(0, count, hop_s)]
    whole = [index for index, end in ends if min(end, samples) - index * SAMPLE_RATE >= WINDOW]
    return [index * SAMPLE_RATE for index in whole]


def repeated(samples: Samples) -> Samples:
    """A recording doubled until it fills a window, as speechmos does."""
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    return samples


class Dnsmos:
    """Scores waves one by one, so that no score depends on another wave."""

    def __init__(self, hop_s: int = 1, device: str = "cpu") -> None:
        """`hop_s`: whole seconds between windows; 1 is what speechmos does, more scores fewer windows."""
        import torch

        if hop_s < 1:
            raise ValueError(f"hop_s is {hop_s}, must be a whole number of seconds from 1")
        self._hop_s = hop_s
        self._network = _Network(read_weights(_model_path()), device)
        self._inference = torch.inference_mode

    def __call__(self, samples: Samples) -> float | None:
        """Overall score, about 1 to 5, of mono samples (T,) at 16 kHz, clipped to [-1, 1]; None without samples."""
        import torch

        if not len(samples):
            return None
        wave = repeated(np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False))
        scores: list[float] = []
        with self._inference():
            for first, starts in _runs(window_starts(len(wave), self._hop_s)):
                run_T = torch.from_numpy(np.array(wave[first : first + starts[-1] + WINDOW]))
                scores += self._network.overall(run_T, starts)
        return float(np.polyval(_TO_MOS, np.asarray(scores)).mean())


def _model_path() -> Path:
    spec = importlib.util.find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("DNSMOS needs the package speechmos, which holds its weights")
    return Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"


def _runs(starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Windows that overlap, at most `_WINDOWS_AT_ONCE`: the first sample, and starts counted from it."""
    run: list[int] = []
    for start in starts:
        if run and (start >= run[-1] + WINDOW or len(run) == _WINDOWS_AT_ONCE):
            yield run[0], [one - run[0] for one in run]
            run = []
        run.append(start)
    yield run[0], [one - run[0] for one in run]


@dataclass(frozen=True)
class _Edges:
    """The first and last steps of each window (B, C, T, F), as the padding of the window makes them."""

    left: Tensor
    right: Tensor

    def of(self, window: int, inner_CTF: Tensor) -> Tensor:
        """One window: its own edges around the shared steps between."""
        import torch

        return torch.cat([self.left[window], inner_CTF, self.right[window]], 1)


class _Network:
    """The layers of sig_bak_ovr.onnx."""

    def __init__(self, weights: Weights, device: str) -> None:
        import torch

        def load(name: str) -> Tensor:
            if name not in weights:
                raise ValueError(
                    f"speechmos' sig_bak_ovr.onnx has no {name}: not the DNSMOS P.835 known here"
                )
            return torch.from_numpy(weights[name].copy()).to(device)

        prefix, suffix = "mos_estimator_logpow", "ReadVariableOp/resource:0"
        self._basis_KN = torch.cat(
            [load(f"time2freq/stft-{part}/kernel:0")[:, :, 0] for part in ("real", "imag")]
        )
        self._floor = load(f"{prefix}/Maximum/x:0")
        self._scale = load(f"{prefix}/truediv/y:0")
        self._convolutions = [(load(f"{name}/kernel:0"), load(f"{name}/bias:0")) for name in _LAYERS]
        self._dense = [
            (load(f"{prefix}/{name}/MatMul/{suffix}"), load(f"{prefix}/{name}/BiasAdd/{suffix}"))
            for name in _DENSE
        ]
        # NNPACK's Winograd convolutions take about 0.6 of the time of oneDNN's direct ones where it runs.
        self._nnpack = device == "cpu" and torch._nnpack_available()

    def overall(self, wave_T: Tensor, starts: Sequence[int]) -> list[float]:
        """The network's overall score of the windows at `starts` (samples, multiples of a second from 0)."""
        import torch

        frames_TF = self._log_power(wave_T.to(self._basis_KN.device))
        firsts = [start // _FRAME_HOP for start in starts]
        full, shared = self._lower_shared(frames_TF, firsts)
        half, shared = self._middle(full, shared, [first // 2 for first in firsts])
        quarter, shared = self._upper_shared(half, shared, [first // 4 for first in firsts])
        steps = _FRAMES // 4
        pooled = [
            self._top(quarter.of(window, shared[:, first // 4 : first // 4 + steps - 6]))
            for window, first in enumerate(firsts)
        ]
        return [float(score) for score in self._regress(torch.stack(pooled))[:, 2]]

    def _log_power(self, wave_T: Tensor) -> Tensor:
        import torch

        spectrum = wave_T.unfold(0, _FRAME, _FRAME_HOP) @ self._basis_KN.T
        bins = spectrum.shape[1] // 2
        power = spectrum[:, :bins] ** 2 + spectrum[:, bins:] ** 2
        return torch.log(torch.maximum(power, self._floor)) / self._scale

    def _lower_shared(self, frames_TF: Tensor, firsts: Sequence[int]) -> tuple[_Edges, Tensor]:
        """Edges of 2 pooled steps, and the shared steps (C, T, F) from the third one of the first window on."""
        import torch

        strips = []
        stop = frames_TF.shape[0] - _REACH
        for begin in range(_REACH, stop, _STRIP):
            end = min(begin + _STRIP, stop)
            strips.append(self._lower(frames_TF[None, None, begin - _REACH : end + _REACH])[0])
        left = torch.stack([frames_TF[first : first + 2 * _REACH] for first in firsts])
        right = torch.stack([frames_TF[first + _FRAMES - 2 * _REACH : first + _FRAMES] for first in firsts])
        edges = _Edges(self._lower(left[:, None], left=1), self._lower(right[:, None], right=1))
        return edges, torch.cat(strips, 1)

    def _lower(self, batch_BCTF: Tensor, left: int = 0, right: int = 0) -> Tensor:
        """The four lower convolutions; time is padded only at the named side, and shrinks by a step at the others."""
        from torch.nn import functional

        for layer in range(4):
            batch_BCTF = self._convolve(layer, batch_BCTF, left, right)
        return functional.max_pool2d(batch_BCTF, 2)

    def _middle(self, edges: _Edges, shared_CTF: Tensor, firsts: Sequence[int]) -> tuple[_Edges, Tensor]:
        """The fifth convolution, at half resolution: edges of 2 pooled steps out of 2."""
        from torch.nn import functional

        left, right = self._with_neighbours(edges, shared_CTF, firsts, _FRAMES // 2 - 4, 3)
        shared = self._convolve(4, shared_CTF[None])
        edges = _Edges(
            functional.max_pool2d(self._convolve(4, left, left=1), 2),
            functional.max_pool2d(self._convolve(4, right, right=1), 2),
        )
        # The shared steps began 2 after the window's first and have lost one: dropping one more restores the pairs.
        return edges, functional.max_pool2d(shared[:, :, 1:], 2)[0]

    def _upper_shared(
        self, edges: _Edges, shared_CTF: Tensor, firsts: Sequence[int]
    ) -> tuple[_Edges, Tensor]:
        """The sixth convolution, at quarter resolution: edges of 3 steps out of 2."""
        left, right = self._with_neighbours(edges, shared_CTF, firsts, _FRAMES // 4 - 4, 2)
        shared = self._convolve(5, shared_CTF[None])[0]
        return _Edges(self._convolve(5, left, left=1), self._convolve(5, right, right=1)), shared

    def _with_neighbours(
        self, edges: _Edges, shared_CTF: Tensor, firsts: Sequence[int], inner: int, neighbours: int
    ) -> tuple[Tensor, Tensor]:
        """Each edge with the shared steps beside it; a window has `inner` shared steps."""
        import torch

        left, right = [], []
        for window, first in enumerate(firsts):
            steps = shared_CTF[:, first : first + inner]
            left.append(torch.cat([edges.left[window], steps[:, :neighbours]], 1))
            right.append(torch.cat([steps[:, -neighbours:], edges.right[window]], 1))
        return torch.stack(left), torch.stack(right)

    def _top(self, window_CTF: Tensor) -> Tensor:
        from torch.nn import functional

        pooled = functional.max_pool2d(window_CTF[None], 2)
        return self._convolve(6, pooled, left=1, right=1)[0].amax((1, 2))

    def _convolve(self, layer: int, batch_BCTF: Tensor, left: int = 0, right: int = 0) -> Tensor:
        """A 3 x 3 convolution and ReLU; frequency is always padded, time where it is said."""
        import torch
        from torch.nn import functional

        kernel, bias = self._convolutions[layer]
        if left or right:
            batch_BCTF = functional.pad(batch_BCTF, (0, 0, left, right))
        if self._nnpack and 1 <= layer <= 3:
            return torch._nnpack_spatial_convolution(batch_BCTF, kernel, bias, [0, 1], [1, 1]).relu_()
        return functional.conv2d(batch_BCTF, kernel, bias, padding=(0, 1)).relu_()

    def _regress(self, pooled_BC: Tensor) -> Tensor:
        for index, (matrix, bias) in enumerate(self._dense):
            pooled_BC = pooled_BC @ matrix + bias
            if index < len(self._dense) - 1:
                pooled_BC = pooled_BC.relu()
        return pooled_BC
