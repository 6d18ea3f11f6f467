"""Latents and a voice to speech: latents are looked up as semantic tokens, S2A makes codes of these.

Shapes: T frames, c channels of the latents, P prompt frames, Q levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from models.cascade import Presets, without
from models.checkpoints import Json
from models.codecs.factorized import FactorizedCodebook, Metric
from models.codecs.interface import check_codes
from models.content import Voice
from models.layers.checks import check_choice
from models.maskgct.options import SEMANTIC_PRESETS, SemanticS2AOptions
from models.maskgct.semantic_stages import SpeechStage
from models.prompt import PerPrompt, Prompt, check_prompt, prompt_samples
from models.sampling.draws import RowDraws, row_seeds
from models.system import Speech, rows_of

PUBLISHED: Mapping[str, Json] = {"first_steps": 40, "s2a_steps": (40, 16, 1), "metric": "euclidean"}
"""Options of raoabinav/versaface_autoencoder@434db72: 92 passes, and tokens that are not those of RepCodec."""

SPEECH_PRESETS: Presets = {name: without(one, "text") for name, one in SEMANTIC_PRESETS.items()}
"""Those of MaskGCT's speech stage."""


@dataclass(frozen=True)
class Autoencoder8dOptions(SemanticS2AOptions):
    """Options of turning latents into speech: those of MaskGCT with the autoencoder's own defaults."""

    first_guidance: float = 0.0
    voice_s: float = 2.0
    metric: Metric = "cosine"
    """How latents are looked up: `cosine` gives the tokens that RepCodec gives; `euclidean` is the published way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "metric", get_args(Metric))


@dataclass(frozen=True)
class DecodeRequest:
    """Latents to be heard in the voice of a reference, or in any."""

    latents_Tc: Tensor
    """float32, 50 frames per second."""
    reference: Prompt | Voice | None = None


@dataclass(frozen=True)
class PlannedDecoding:
    """A checked request."""

    latents_Tc: Tensor
    reference: Prompt | Voice | None


class DecodeTask:
    """Latents to speech with its options bound."""

    def __init__(self, stage: SpeechStage, codebook: FactorizedCodebook, metric: Metric) -> None:
        self._stage, self._codebook, self._metric = stage, codebook, metric
        self._voices = PerPrompt(lambda prompt: stage.voice(prompt_samples(prompt, stage.sample_rate)))
        self.options: Mapping[str, Json] = stage.options

    def prepare(self, request: DecodeRequest) -> PlannedDecoding:
        """Check a request. ValueError with one line for latents or a reference that cannot be used."""
        latents, channels = request.latents_Tc, self._codebook.vectors_Vc.shape[1]
        if latents.dim() != 2 or latents.shape[1] != channels or not len(latents):
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; expected (frames, {channels}), at least 1 frame"
            )
        if not bool(latents.isfinite().all()):
            raise ValueError("latents hold numbers that are not finite")
        longest = self._stage.max_source_s * self._stage.reads.frame_rate
        if len(latents) > longest:
            raise ValueError(f"latents have {len(latents)} frames; the most is {int(longest)} (max_source_s)")
        if isinstance(request.reference, Prompt):
            check_prompt(request.reference, self._stage.max_prompt_s, needs_text=False, what="reference")
        elif request.reference is not None:
            self._check_voice(request.reference)
        return PlannedDecoding(latents, request.reference)

    @torch.no_grad()
    def run(self, prepared: Sequence[PlannedDecoding], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Decode prepared requests together."""
        draws = RowDraws([row_seeds(one, 1)[0] for one in generators], self._stage.device)
        voices = [self._voice(one.reference) for one in prepared]
        wave, evaluations = self._stage.run([self.tokens(one.latents_Tc) for one in prepared], voices, draws)
        return [Speech(row, "length", evaluations) for row in rows_of(wave)]

    def tokens(self, latents_Tc: Tensor) -> Tensor:
        """The semantic tokens (T,) that latents are decoded as."""
        return self._codebook.nearest(latents_Tc[None].to(self._stage.device), self._metric)[0]

    def _voice(self, reference: Prompt | Voice | None) -> Voice | None:
        if isinstance(reference, Prompt):
            return self._voices(reference)
        if reference is None:
            return None
        device = self._stage.device
        return Voice(reference.content_S.to(device), reference.frames_PX.to(device))

    def _check_voice(self, voice: Voice) -> None:
        codec, codes = self._stage.codec, voice.frames_PX
        if codes.dim() != 2 or codes.shape[1] != codec.n_codebooks or not len(voice.content_S):
            raise ValueError(
                f"the reference has codes {tuple(codes.shape)} and {len(voice.content_S)} semantic tokens; "
                f"expected (frames, {codec.n_codebooks}) and at least one"
            )
        check_codes(codes.T[None], codec.n_codebooks, 0, codec.codebook_size - 1)
        check_codes(voice.content_S[None, None], 1, 0, self._stage.reads.codebook_size - 1)
