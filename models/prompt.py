"""The voice prompt of a system: a recording of the voice and what is said in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torchaudio
from torch import Tensor

from models.codecs.interface import Codec, Tokenizer, Wave

SILENCE_PEAK = 1e-4
"""-80 dBFS."""
MIN_PROMPT_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """A recording of one row, with its transcript where the system needs one."""

    wave: Wave
    text: str | None = None
    language: str | None = None


def prompt_samples(prompt: Prompt, sample_rate: int) -> Tensor:
    """The prompt's samples (T,) float32 at `sample_rate` Hz."""
    return resampled(
        prompt.wave.wave_BT[0, : int(prompt.wave.lengths_B[0])], prompt.wave.sample_rate, sample_rate
    )


def resampled(wave_T: Tensor, source_rate: int, sample_rate: int) -> Tensor:
    """Samples at another rate, Hz, as the published system does it: Kaiser-windowed sinc, width 64."""
    if source_rate == sample_rate:
        return wave_T
    found_T: Tensor = torchaudio.functional.resample(
        wave_T,
        source_rate,
        sample_rate,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )
    return found_T


def prompt_length(prompt: Prompt, sample_rate: int) -> int:
    """The number of samples that `prompt_samples` returns."""
    return math.ceil(int(prompt.wave.lengths_B[0]) * sample_rate / prompt.wave.sample_rate)


def check_prompt(
    prompt: Prompt,
    longest_s: float,
    *,
    needs_text: bool = True,
    what: str = "prompt",
    option: str = "max_prompt_s",
) -> None:
    """Raise ValueError for a recording that is empty, silent, not finite, too short, too long or without its words.

    `what` names it in the message, `option` what sets the length.
    """
    samples = int(prompt.wave.lengths_B[0])
    wave_T = prompt.wave.wave_BT[0, :samples]
    seconds = samples / prompt.wave.sample_rate
    if needs_text and not (prompt.text or "").strip():
        raise ValueError(f"{what} text is empty; it must be what is said in the {what}")
    if not samples or not bool(wave_T.isfinite().all()):
        raise ValueError(f"{what} holds no samples, or samples that are not finite")
    if float(wave_T.abs().max()) < SILENCE_PEAK:
        raise ValueError(f"{what} is silent; it must be a recording of a voice")
    if seconds < MIN_PROMPT_S:
        raise ValueError(f"{what} is {seconds:.3f} s long; the least is {MIN_PROMPT_S:g} s")
    if seconds > longest_s:
        raise ValueError(f"{what} is {seconds:.1f} s long; the most is {longest_s:g} s ({option})")


class PerPrompt(Generic[T]):
    """A function of voice prompts, called once for each distinct `Prompt` object; the last ones are remembered."""

    def __init__(self, make: Callable[[Prompt], T], remembered: int = 64) -> None:
        self._make, self._remembered = make, remembered
        self._known: dict[int, tuple[Prompt, T]] = {}

    def __call__(self, prompt: Prompt) -> T:
        """The result for `prompt`, which is kept too, so that its id stays its own."""
        if id(prompt) not in self._known:
            while len(self._known) >= self._remembered:
                self._known.pop(next(iter(self._known)))
            self._known[id(prompt)] = (prompt, self._make(prompt))
        return self._known[id(prompt)][1]


def prompt_codes(prompt: Prompt, codec: Codec) -> Tensor:
    """The prompt through a codec: (Q, P) int64, on the device of the codec's results."""
    return codes_of(prompt_samples(prompt, codec.sample_rate), codec)


def codes_of(wave_T: Tensor, codec: Tokenizer) -> Tensor:
    """One recording at the codec's rate through it: (Q, P) int64, on the device of the codec's results."""
    codes = codec.encode(wave_T[None], torch.tensor([len(wave_T)]))
    return codes.codes_BQT[0, :, : int(codes.lengths_B[0])]
