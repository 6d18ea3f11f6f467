"""WhisperX's batched path: CTranslate2 Whisper models, many windows of many recordings in one call.

Features, prompt, options and scores are those of `whisperx.asr.FasterWhisperPipeline` 3.8.6 (m-bain/whisperX), and so
are texts and `avg_logprob`. What differs: every row of a batch has its own language, the pipeline has one for all; a
wave is encoded once where its language is detected, there twice; `whisperx.asr` is not imported, because it brings
pyannote's voice activity detection and Lightning: 33 s of processor time at every start of a worker, not 8.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.command import JobError, UsageError
from pipelines.audio.containers import Samples
from pipelines.speech.transcription.interface import Language, TranscribeSettings, Transcript

if TYPE_CHECKING:
    import ctranslate2
    import tokenizers
    import transformers

MELS = (80, 128)
"""Feature sizes that WhisperX has filters for."""
NUMERALS = frozenset("0123456789%$\u00a3")
"""Characters that `suppress_numerals` of WhisperX keeps out."""


class WhisperXTranscriber:
    """A CTranslate2 Whisper model and its tokenizer."""

    def __init__(self, settings: TranscribeSettings, device: str, threads: int) -> None:
        import ctranslate2
        from faster_whisper import WhisperModel

        for name in ("faster_whisper", "whisperx"):
            logging.getLogger(name).setLevel(logging.ERROR)
        ctranslate2.set_log_level(logging.ERROR)
        kind, _, index = device.partition(":")
        self._device = device
        folder = Path(settings.model).expanduser()
        self._model = WhisperModel(
            str(folder) if folder.is_dir() else settings.model,
            device=kind,
            device_index=int(index or 0),
            compute_type=compute_type(settings.compute_type, kind),
            cpu_threads=threads,
        )
        self._settings = settings
        self._text_end = self._token("endoftext")
        if self._model.model.n_mels not in MELS:
            raise JobError(
                f"{settings.model!r} takes {self._model.model.n_mels} mel bands; WhisperX has 80 and 128"
            )
        self.detects = bool(self._model.model.is_multilingual)
        self.languages = frozenset(
            code for code in self._model.supported_languages if not self.detects or self._has(code)
        )
        # -1 stands for those that the model's own configuration suppresses.
        self._suppressed = [-1]
        if settings.suppress_numerals:
            self._suppressed += numeral_tokens(self._model.hf_tokenizer, self._text_end)

    def detect(self, waves: Sequence[Samples]) -> list[Language]:
        """One encoder pass and one decoder step a wave."""
        return self._detect(self._encode(waves))

    def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """Raises RuntimeError of CTranslate2, out of memory included."""
        encoded = self._encode(waves)
        detected: list[Language | None] = [None] * len(waves)
        if self.detects and None in languages:
            found = self._detect(encoded)
            detected = [one if code is None else None for one, code in zip(found, languages, strict=True)]
        codes = [code or (one.code if one else "en") for code, one in zip(languages, detected, strict=True)]
        prompts = [self._prompt(code) for code in codes]
        results = self._model.model.generate(
            encoded,
            prompts,
            beam_size=self._settings.beam_size,
            max_length=self._max_length(len(prompts[0])),
            suppress_tokens=self._suppressed,
            return_scores=True,
        )
        return [self._transcript(result, one) for result, one in zip(results, detected, strict=True)]

    def _encode(self, waves: Sequence[Samples]) -> ctranslate2.StorageView:
        import ctranslate2
        import torch
        from whisperx.audio import N_SAMPLES, log_mel_spectrogram

        device = None if self._device == "cpu" else self._device
        features = []
        for wave in waves:
            padded = np.zeros(N_SAMPLES, np.float32)
            padded[: len(wave)] = wave
            features.append(log_mel_spectrogram(padded, self._model.model.n_mels, device=device))
        batch = torch.stack(features).cpu().numpy()
        return self._model.model.encode(ctranslate2.StorageView.from_array(batch))

    def _detect(self, encoded: ctranslate2.StorageView) -> list[Language]:
        best = [ranked[0] for ranked in self._model.model.detect_language(encoded)]
        return [Language(token.removeprefix("<|").removesuffix("|>"), chance) for token, chance in best]

    def _prompt(self, language: str) -> list[int]:
        from faster_whisper.tokenizer import Tokenizer

        tokenizer = Tokenizer(self._model.hf_tokenizer, self.detects, task="transcribe", language=language)
        before = self._settings.initial_prompt.strip()
        previous = tokenizer.encode(f" {before}") if before else []
        prompt: list[int] = self._model.get_prompt(tokenizer, previous, without_timestamps=True)
        return prompt

    def _transcript(
        self, result: ctranslate2.models.WhisperGenerationResult, detected: Language | None
    ) -> Transcript:
        ids = result.sequences_ids[0]
        text = self._model.hf_tokenizer.decode([token for token in ids if token < self._text_end])
        # The score is the sum over all tokens and the end, divided by the number of tokens without the end. WhisperX
        # and faster-whisper divide the sum by one more.
        logprob = result.scores[0] * len(ids) if ids else None
        return Transcript(text, detected, logprob, len(ids) + 1)

    def _max_length(self, prompt: int) -> int:
        """CTranslate2 writes at most half of `max_length`, and at most what the prompt leaves of it."""
        most = self._settings.max_tokens
        longest: int = self._model.max_length
        return min(max(2 * most, most + prompt), longest)

    def _token(self, name: str) -> int:
        found = self._model.hf_tokenizer.token_to_id(f"<|{name}|>")
        if found is None:
            raise JobError(
                f"the tokenizer of {self._settings.model!r} has no <|{name}|>: it is not Whisper's"
            )
        token: int = found
        return token

    def _has(self, code: str) -> bool:
        return self._model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None


def compute_type(wanted: str, device: str) -> str:
    """The compute type for CTranslate2; UsageError for one that the device cannot do."""
    import ctranslate2

    if wanted == "default":
        return "float16" if device == "cuda" else "float32"
    allowed = ctranslate2.get_supported_compute_types(device)
    if wanted not in allowed:
        raise UsageError(
            f"transcribe.compute_type is {wanted!r}; {device} can do default, {', '.join(sorted(allowed))}"
        )
    return wanted


def numeral_tokens(
    tokenizer: tokenizers.Tokenizer | transformers.PreTrainedTokenizerBase, text_end: int
) -> list[int]:
    """Text tokens with a digit, percent, dollar or pound sign."""
    return [
        token
        for token in range(text_end)
        if not NUMERALS.isdisjoint(tokenizer.decode([token]).removeprefix(" "))
    ]
