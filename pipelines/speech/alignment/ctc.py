"""Alignment with a CTC model of the wav2vec 2.0 kind: a directory, or a hub name that transformers knows.

The model hears overlapping segments of fixed length, so memory for its activations does not grow with the recording;
its log-probabilities of the transcript's letters are kept in half precision (12 MB per hour for an English model).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from catalog.command import UsageError
from pipelines.audio.containers import Samples
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignedWord, AlignmentError
from pipelines.speech.alignment.text_units import Word, phrases
from pipelines.speech.alignment.viterbi import ANY, Transcript, best_states

if TYPE_CHECKING:
    import transformers

Integers = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

_CORE_S, _CONTEXT_S = 20.0, 2.0


class CtcAligner:
    """Aligner `ctc`. The language is the model's own; the one of a row is not looked at."""

    min_score = 0.3
    """Not measured: trained models give about 0.9 to what is said and less than 0.1 to what is not."""

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._network = _Network.load(model, device)

    def align(self, samples: Samples, words: Sequence[Word], language: str | None) -> list[AlignedWord]:  # noqa: ARG002
        """One entry a word; its score is the geometric mean of its letters' probabilities, frame by frame.

        A word without a letter gets no time, and the score of the word before it. Raises AlignmentError where there
        is less audio than text.
        """
        if not words:
            raise AlignmentError("the transcript has no word")
        spelled = [self._network.spell(word.text) for word in words]
        tokens = np.array([token for word in spelled for token in word], np.int64)
        if not len(tokens):
            raise AlignmentError("the transcript has no letter")
        emissions, loudest, columns = self._network.hear(samples, tokens)
        transcript = Transcript(columns, _open_places(words, spelled))
        states = best_states(emissions, loudest, transcript, blank=0)
        if states is None:
            frames = f"{len(emissions)} frames of {self._network.hop / SAMPLE_RATE * 1000:g} ms"
            raise AlignmentError(f"the transcript's {len(tokens)} letters do not fit into {frames}")
        said = _said(emissions, loudest, transcript, states)
        return _words(spelled, states, said, self._network.hop / SAMPLE_RATE)


@dataclass(frozen=True)
class _Network:
    model: transformers.PreTrainedModel
    extractor: transformers.FeatureExtractionMixin
    vocabulary: dict[str, int]
    delimiter: int | None
    blank: int
    hop: int
    device: str

    @classmethod
    def load(cls, name: str, device: str) -> _Network:
        """Raises UsageError for what is no such model."""
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        from models.building import as_stored

        if not Path(name).is_dir() and (name.startswith((".", "/")) or name.count("/") > 1):
            raise UsageError(
                f"align.model {name!r} is not a directory; give one or a hub name like owner/model"
            )
        try:
            with as_stored(name):
                model = AutoModelForCTC.from_pretrained(name, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(f"align.model {name!r} cannot be loaded as a CTC model: {reason}") from error
        hop = getattr(model.config, "inputs_to_logits_ratio", None)
        if model.main_input_name != "input_values" or not hop:
            raise UsageError(
                f"align.model {name!r} is a {model.config.model_type} model; it must take waveforms (wav2vec 2.0 kind)"
            )
        if extractor.sampling_rate != SAMPLE_RATE:
            raise UsageError(
                f"align.model {name!r} takes {extractor.sampling_rate} Hz; it must be {SAMPLE_RATE} Hz"
            )
        vocabulary = tokenizer.get_vocab()
        delimiter = vocabulary.get(getattr(tokenizer, "word_delimiter_token", None) or "|")
        blank = model.config.pad_token_id
        blank = tokenizer.pad_token_id if blank is None else blank
        return cls(model.eval().to(device), extractor, vocabulary, delimiter, int(blank), int(hop), device)

    def spell(self, word: str) -> list[int]:
        """Token ids of a word's letters. Punctuation is left out; a run of letters unknown to the model is one ANY."""
        found: list[int] = []
        for char in unicodedata.normalize("NFC", word):
            tokens = self._letter(char)
            if tokens == [ANY] and found[-1:] == [ANY]:
                continue
            found += tokens
        return found

    def _letter(self, char: str) -> list[int]:
        for form in (char, char.lower(), char.upper(), unicodedata.normalize("NFD", char)[0].lower(),
                     unicodedata.normalize("NFD", char)[0].upper()):  # fmt: skip
            token = self.vocabulary.get("'" if form == "’" else form)
            if token is not None and token not in (self.blank, self.delimiter):
                return [token]
        return (
            [ANY]
            if char.isalnum() or unicodedata.category(char) in ("Sc", "So", "Sm") or char in "%&@"
            else []
        )

    def hear(
        self, samples: Samples, tokens: Integers
    ) -> tuple[npt.NDArray[np.float16], FloatArray, Integers]:
        """Log-probabilities (T, 1 + K) of silence (blank or word delimiter) and the K letters in use, the highest of
        each frame (T,), and `tokens` as columns of the former."""
        used = np.unique(tokens[tokens != ANY])
        kept = [self.blank, *used.tolist()]
        parts, highest = [], []
        for block in self._log_probabilities(samples):
            if self.delimiter is not None:
                block[:, self.blank] = np.logaddexp(block[:, self.blank], block[:, self.delimiter])
            parts.append(block[:, kept].astype(np.float16))
            highest.append(block.max(axis=1))
        columns = np.where(tokens == ANY, ANY, np.searchsorted(used, tokens) + 1)
        return np.concatenate(parts), np.concatenate(highest), columns

    def _log_probabilities(self, samples: Samples) -> Iterator[FloatArray]:
        """Blocks (t, V), one after another; each is heard with seconds of context on both sides."""
        import torch

        frames = -(-len(samples) // self.hop)
        core, context = int(_CORE_S * SAMPLE_RATE) // self.hop, int(_CONTEXT_S * SAMPLE_RATE) // self.hop
        for first in range(0, frames, core):
            stop, left = min(first + core, frames), min(first, context)
            # The receptive field of a frame is a little longer than the hop: two more hops give the last frame.
            begin, end = (first - left) * self.hop, (stop + context) * self.hop
            part = samples[begin:end]
            missing = (stop - first + left + 2) * self.hop - len(part)
            part = np.pad(part, (0, max(0, missing)))
            values = self.extractor(part, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
            with torch.inference_mode():
                logits = self.model(values.to(self.device)).logits[0, left : left + stop - first]
            yield torch.log_softmax(logits.float(), dim=-1).cpu().numpy()


def _open_places(words: Sequence[Word], spelled: Sequence[Sequence[int]]) -> npt.NDArray[np.bool_]:
    """Speech that the transcript lacks may lie before the first phrase and after each."""
    counts = np.cumsum([0, *(len(word) for word in spelled)])
    places = np.zeros(counts[-1] + 1, np.bool_)
    places[0] = True
    for group in phrases(words):
        places[counts[group.stop]] = True
    return places


def _said(
    emissions: npt.NDArray[np.float16], loudest: FloatArray, transcript: Transcript, states: Integers
) -> FloatArray:
    """Log-probability of each frame's token (T,); of blanks nothing that is used."""
    tokens = np.append(transcript.tokens, 0)[states // 2]
    heard = emissions[np.arange(len(states)), np.where(tokens == ANY, 0, tokens)].astype(np.float32)
    return np.where(tokens == ANY, loudest, heard)


def _words(
    spelled: Sequence[Sequence[int]], states: Integers, said: FloatArray, frame_s: float
) -> list[AlignedWord]:
    found: list[AlignedWord] = []
    token = 0
    for letters in spelled:
        if not letters:
            before = found[-1] if found else AlignedWord(0.0, 0.0, 0.0)
            found.append(AlignedWord(before.end_s, before.end_s, before.score))
            continue
        first, last = 2 * token + 1, 2 * (token + len(letters)) - 1
        start, stop = (int(at) for at in np.searchsorted(states, [first, last + 1]))
        spoken = states[start:stop] % 2 == 1
        score = float(np.exp(said[start:stop][spoken].mean()))
        found.append(AlignedWord(start * frame_s, stop * frame_s, score))
        token += len(letters)
    return found
