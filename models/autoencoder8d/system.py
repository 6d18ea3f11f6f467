"""The 8-D autoencoder as a system: encode, decode, convert, and speak if a first stage writes semantic tokens.

Shapes: T samples or frames, c channels of the latents.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.autoencoder8d.decode import SPEECH_PRESETS, Autoencoder8dOptions, DecodeTask
from models.cascade import Cascade, ConvertTask, SpeakTask, without
from models.checkpoints import Json
from models.codecs.interface import Latents, Wave
from models.content import Content, Voice
from models.manifest import Parts
from models.maskgct.options import SEMANTIC_PRESETS
from models.maskgct.semantic_stages import SpeechStage
from models.maskgct.semantic_system import SYSTEM as MASKGCT
from models.maskgct.semantic_system import networks
from models.prompt import Prompt, check_prompt, prompt_samples
from models.semantic.tokenizer import SemanticTokenizer
from models.settings import check_keys, replaced, with_preset
from models.system import System

NAME = "autoencoder8d"


class Autoencoder8d(System):
    """MaskGCT's speech stage behind latents; see `PUBLISHED` in `decode.py` for what the reference does otherwise."""

    name = NAME

    def __init__(self, parts: Parts) -> None:
        """ValueError for parts or options that do not fit."""
        tokenizer = parts.codecs.get("semantic")
        if not isinstance(tokenizer, SemanticTokenizer):
            raise ValueError(f"{NAME} needs a semantic tokenizer with latents in the role 'semantic'")
        self.codec = parts.codec
        self.tokenizer: SemanticTokenizer = tokenizer
        self._parts: Parts = parts
        t2s = parts.text_stages.get("t2s")
        self._cascade: Cascade[object, Voice] = Cascade(
            NAME, parts.codec, self._stage, t2s, parts.options, SEMANTIC_PRESETS
        )
        self.capabilities = self._cascade.capabilities | {"encode"}

    def speak(self, options: Mapping[str, Json]) -> SpeakTask[object, Voice]:
        """See System."""
        return self._cascade.speak(options)

    def convert(self, options: Mapping[str, Json]) -> ConvertTask[Voice]:
        """See System: the source's latents in the voice of the reference."""
        return self._cascade.convert(options)

    def encode(self, options: Mapping[str, Json]) -> EncodeTask:
        """Waveform to latents. ValueError for any option."""
        check_keys(options, [], f"the options of encoding with {NAME}")
        return EncodeTask(self.tokenizer, self._options({}).max_source_s)

    def decode(self, options: Mapping[str, Json]) -> DecodeTask:
        """Latents to speech, with or without a reference. ValueError for an option that it does not have."""
        given = self._options(options)
        return DecodeTask(self._stage_of(given), self.tokenizer.repcodec.codebook, given.metric)

    def _options(self, options: Mapping[str, Json]) -> Autoencoder8dOptions:
        what = f"the options of {NAME}"
        own, given = (with_preset(SPEECH_PRESETS, one, what) for one in (self._parts.options, options))
        return replaced(Autoencoder8dOptions(), {**without(own, "text"), **given}, what)

    def _stage(self, options: Mapping[str, Json]) -> SpeechStage:
        return self._stage_of(replaced(Autoencoder8dOptions(), options, f"the options of {NAME}"))

    def _stage_of(self, options: Autoencoder8dOptions) -> SpeechStage:
        tokenizer = copy.copy(self.tokenizer)
        tokenizer.metric = options.metric
        return SpeechStage(*networks(self._parts), Content(self.codec, tokenizer), options)


class EncodeTask:
    """Recordings to latents."""

    def __init__(self, tokenizer: SemanticTokenizer, longest_s: float) -> None:
        self._tokenizer, self._longest_s = tokenizer, longest_s
        self.options: Mapping[str, Json] = {}

    def prepare(self, wave: Wave) -> Tensor:
        """Samples (T,) at the tokenizer's rate. ValueError with one line for a recording that cannot be encoded."""
        recording = Prompt(wave)
        check_prompt(recording, self._longest_s, needs_text=False, what="recording", option="max_source_s")
        return prompt_samples(recording, self._tokenizer.sample_rate)

    def run(self, prepared: Sequence[Tensor], generators: Sequence[torch.Generator] = ()) -> list[Latents]:  # noqa: ARG002
        """Latents (1, T, c) of each recording; nothing is drawn."""
        return [
            self._tokenizer.encode_latents(wave_T[None], torch.tensor([len(wave_T)])) for wave_T in prepared
        ]


SYSTEM = replace(MASKGCT, build=Autoencoder8d)
