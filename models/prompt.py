"""The voice prompt of a system: a recording of the voice and what is said in it."""

import math
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor

from models.codecs.interface import Codec, Wave

SILENCE_PEAK = 1e-4
"""-80 dBFS."""


@dataclass(frozen=True)
class Prompt:
    """A recording of one row, with its transcript where the system needs one."""

    wave: Wave
    text: str | None = None
    language: str | None = None


def prompt_samples(prompt: Prompt, sample_rate: int) -> Tensor:
    """The prompt's samples (T,) float32 at `sample_rate` Hz.

    Resampled as the published system does it: Kaiser-windowed sinc, width 64.
    """
    wave_T = prompt.wave.wave_BT[0, : int(prompt.wave.lengths_B[0])]
    if prompt.wave.sample_rate == sample_rate:
        return wave_T
    resampled: Tensor = torchaudio.functional.resample(
        wave_T,
        prompt.wave.sample_rate,
        sample_rate,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )
    return resampled


def prompt_length(prompt: Prompt, sample_rate: int) -> int:
    """The number of samples that `prompt_samples` returns."""
    return math.ceil(int(prompt.wave.lengths_B[0]) * sample_rate / prompt.wave.sample_rate)


def check_prompt(prompt: Prompt, max_prompt_s: float, *, needs_text: bool = True) -> None:
    """Raise ValueError for a prompt that is empty, silent, not finite, too long or without the words it needs."""
    samples = int(prompt.wave.lengths_B[0])
    wave_T = prompt.wave.wave_BT[0, :samples]
    seconds = samples / prompt.wave.sample_rate
    if needs_text and not (prompt.text or "").strip():
        raise ValueError("prompt text is empty; it must be what is said in the prompt")
    if not samples or not bool(wave_T.isfinite().all()):
        raise ValueError("prompt holds no samples, or samples that are not finite")
    if float(wave_T.abs().max()) < SILENCE_PEAK:
        raise ValueError("prompt is silent; it must be a recording of the voice to speak with")
    if seconds > max_prompt_s:
        raise ValueError(f"prompt is {seconds:.1f} s long; the most is {max_prompt_s:g} s (max_prompt_s)")


class PromptCodes:
    """Codes of voice prompts, each distinct `Prompt` object encoded once; the last ones are remembered."""

    def __init__(self, codec: Codec, remembered: int = 64) -> None:
        self._codec, self._remembered = codec, remembered
        self._known: dict[int, tuple[Prompt, Tensor]] = {}

    def __call__(self, prompt: Prompt) -> Tensor:
        """Codes (Q, P) int64 on the device of the codec's results."""
        # The prompt is kept too, so that its id stays its own.
        if id(prompt) not in self._known:
            while len(self._known) >= self._remembered:
                self._known.pop(next(iter(self._known)))
            samples_T = prompt_samples(prompt, self._codec.sample_rate)
            codes = self._codec.encode(samples_T[None], torch.tensor([len(samples_T)]))
            self._known[id(prompt)] = (prompt, codes.codes_BQT[0, :, : int(codes.lengths_B[0])])
        return self._known[id(prompt)][1]
