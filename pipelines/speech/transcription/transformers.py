"""transformers' speech recognition pipeline: models that CTranslate2 cannot run, and Whisper for comparison.

Whisper runs in batches: every window is padded to 30 s. Other models hear one wave at a time, because padding changes
what many of them say (wav2vec 2.0 normalises over the whole padded wave).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.command import UsageError
from pipelines.audio.containers import Samples
from pipelines.speech.transcription.interface import SAMPLE_RATE, Language, TranscribeSettings, Transcript
from pipelines.speech.transcription.whisperx import numeral_tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers.modeling_outputs import BaseModelOutput


class TransformersTranscriber:
    """Whisper, CTC models (with the log-probability of their best path), and any other that the pipeline runs."""

    def __init__(self, settings: TranscribeSettings, device: str, threads: int) -> None:
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        if device == "cpu":
            torch.set_num_threads(threads)
        folder = Path(settings.model).expanduser()
        self._pipeline = transformers.pipeline(
            "automatic-speech-recognition",
            model=str(folder) if folder.is_dir() else settings.model,
            device=device,
            dtype=_dtype(settings.compute_type, device),
            trust_remote_code=False,
        )
        self._settings = settings
        self._model, self._tokenizer = self._pipeline.model, self._pipeline.tokenizer
        self._whisper = self._pipeline.type == "seq2seq_whisper"
        self._language_tokens: dict[str, int] = {}
        if self._whisper and getattr(self._model.generation_config, "is_multilingual", False):
            self._language_tokens = dict(self._model.generation_config.lang_to_id)
        self.detects = bool(self._language_tokens)
        self.languages = frozenset(token.strip("<|>") for token in self._language_tokens)
        if self._whisper and not self.detects:
            self.languages = frozenset({"en"})
        if not self._whisper and (settings.initial_prompt or settings.suppress_numerals):
            raise UsageError(
                f"transcribe.initial_prompt and suppress_numerals are for Whisper; {settings.model!r} is not one"
            )
        self._suppressed = self._suppressed_tokens() if self._whisper else []
        self._options = self._whisper_options() if self._whisper else {}

    def detect(self, waves: Sequence[Samples]) -> list[Language]:
        """The likeliest language token after the start of the transcript."""
        return self._detect(self._encode(self._extract(waves)["input_features"]))

    def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """Raises RuntimeError of torch, out of memory included."""
        if self._whisper:
            return self._write(waves, languages)
        spell = self._best_path if self._pipeline.type.startswith("ctc") else self._any
        return [spell(wave) for wave in waves]

    def _write(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        import torch

        features = self._extract(waves)["input_features"]
        encoded = self._encode(features)
        # `generate` repeats the rows of `encoded` for its beams, in place.
        hidden = encoded.last_hidden_state
        detected: list[Language | None] = [None] * len(waves)
        options = dict(self._options)
        if self.detects:
            if None in languages:
                found = self._detect(encoded)
                detected = [one if code is None else None for one, code in zip(found, languages, strict=True)]
            codes = [
                code or (one.code if one else "en") for code, one in zip(languages, detected, strict=True)
            ]
            options["language"] = codes
        with torch.inference_mode():
            sequences = self._model.generate(
                features,
                encoder_outputs=encoded,
                num_beams=self._settings.beam_size,
                do_sample=False,
                max_new_tokens=self._settings.max_tokens,
                return_timestamps=False,
                return_dict_in_generate=True,
                # Else a time stamp in a text, allowed or not, makes it hear the rest of the window again.
                force_unique_generate_call=True,
                **options,
            ).sequences.tolist()
        return [
            self._transcript(row, states[None], one)
            for row, states, one in zip(sequences, hidden, detected, strict=True)
        ]

    def _transcript(self, row: list[int], states: Tensor, detected: Language | None) -> Transcript:
        """Tokens after the prompt in a row of token ids, up to its end token."""
        config = self._model.generation_config
        begin, end = row.index(config.no_timestamps_token_id) + 1, config.eos_token_id
        written = row[begin:]
        if end in written:
            written = written[: written.index(end) + 1]
        tokens = len(written) - (end in written)
        text = self._tokenizer.decode([token for token in written if token < end], skip_special_tokens=True)
        logprob = self._logprob(row[:begin], written, states) if tokens else None
        return Transcript(text, detected, logprob, tokens + 1)

    def _logprob(self, prompt: list[int], written: list[int], states: Tensor) -> float:
        """Sum over the tokens written, from one more pass of the decoder.

        `generate` would keep the scores of the whole vocabulary for all rows, beams and steps: 1.9 GB for 8 windows.
        """
        import torch

        config, device = self._model.generation_config, self._model.device
        inputs = torch.tensor([[*prompt, *written[:-1]]], device=device)
        targets = torch.tensor(written, device=device)
        with torch.inference_mode():
            output = self._model(encoder_outputs=(states,), decoder_input_ids=inputs)
            logits_TV = output.logits[0, len(prompt) - 1 :].float()
            logits_TV[:, self._suppressed] = -torch.inf
            logits_TV[0, list(config.begin_suppress_tokens or [])] = -torch.inf
            return float(logits_TV.log_softmax(-1).gather(1, targets[:, None]).sum())

    def _best_path(self, wave: Samples) -> Transcript:
        import torch

        inputs = self._extract([wave])
        with torch.inference_mode():
            logits_TV = self._model(**inputs).logits[0].float()
        best_T, ids_T = logits_TV.log_softmax(-1).max(-1)
        # The blank is a special token, too: without it a letter said twice would be one.
        text = self._tokenizer.decode(ids_T.tolist(), skip_special_tokens=False)
        return Transcript(f" {text}", None, float(best_T.sum()), len(ids_T))

    def _any(self, wave: Samples) -> Transcript:
        heard = {"raw": np.array(wave, np.float32), "sampling_rate": SAMPLE_RATE}
        options = {"num_beams": self._settings.beam_size, "max_new_tokens": self._settings.max_tokens}
        said = self._pipeline(heard, generate_kwargs=options if self._pipeline.type == "seq2seq" else {})
        return Transcript(f" {said['text']}", None, None, 0)

    def _detect(self, encoded: BaseModelOutput) -> list[Language]:
        import torch

        config = self._model.generation_config
        rows = len(encoded.last_hidden_state)
        start = torch.full((rows, 1), config.decoder_start_token_id, device=self._model.device)
        names, ids = zip(*sorted(self._language_tokens.items()), strict=True)
        with torch.inference_mode():
            logits = self._model(encoder_outputs=encoded, decoder_input_ids=start).logits[:, 0, list(ids)]
        chances, indices = logits.float().softmax(-1).max(-1)
        return [
            Language(names[index].strip("<|>"), chance)
            for index, chance in zip(indices.tolist(), chances.tolist(), strict=True)
        ]

    def _encode(self, features: Tensor) -> BaseModelOutput:
        import torch

        with torch.inference_mode():
            return self._model.get_encoder()(features)

    def _extract(self, waves: Sequence[Samples]) -> dict[str, Tensor]:
        heard = [np.array(wave, np.float32) for wave in waves]
        found = self._pipeline.feature_extractor(heard, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return {
            name: tensor.to(self._model.device, self._model.dtype if tensor.is_floating_point() else None)
            for name, tensor in found.items()
        }

    def _whisper_options(self) -> dict[str, object]:
        options: dict[str, object] = {"task": "transcribe"} if self.detects else {}
        if self._settings.initial_prompt:
            prompt = self._tokenizer.get_prompt_ids(
                self._settings.initial_prompt.strip(), return_tensors="pt"
            )
            options["prompt_ids"] = prompt.to(self._model.device)
        options["suppress_tokens"] = self._suppressed
        return options

    def _suppressed_tokens(self) -> list[int]:
        config = self._model.generation_config
        numerals = (
            numeral_tokens(self._tokenizer, config.eos_token_id) if self._settings.suppress_numerals else []
        )
        return sorted({*(config.suppress_tokens or []), *numerals})


def _dtype(wanted: str, device: str) -> torch.dtype:
    import torch

    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if wanted == "default":
        return torch.float32 if device == "cpu" else torch.float16
    if wanted not in kinds:
        raise UsageError(
            f"transcribe.compute_type is {wanted!r}; transformers can do default, {', '.join(kinds)}"
        )
    return kinds[wanted]
