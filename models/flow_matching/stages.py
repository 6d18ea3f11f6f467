"""The speech stage: content tokens and a voice to the latents of a codec, and these to a waveform.

Shapes: B rows, S content tokens, P prompt frames, T frames, Q levels, V codes, Z channels of the latents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints import Json
from models.codecs.interface import Codec, Latents, Wave
from models.codecs.latents import decode_latents, has_latents, latents_of
from models.content import Content
from models.flow_matching.network import ConditionalFlowMatcher, HierarchicalConditionalFlowMatcher
from models.flow_matching.sampling import Conditions, FlowMatcher, FlowOptions, PromptState, generate
from models.layers.masks import pad_rows
from models.prompt import codes_of
from models.sampling.draws import RowDraws
from models.sampling.flow import FlowSteps, Grid, Method
from models.sampling.guidance import VelocityGuidance


@dataclass(frozen=True)
class FlowMatchingOptions:
    """Options of a system: how the flow is solved, and the longest recordings."""

    steps: int = 7
    method: Method = "euler"
    """`euler`: one evaluation a step; `midpoint`: two."""
    grid: Grid = "epss"
    """`epss` has 5, 6, 7, 10, 12 or 16 steps; `published`: 16 whatever `steps` is."""
    sway: float = -1.0
    """Coefficient of the grid `sway`."""
    guidance: float = 0.0
    """Multiple of the difference to the unconditional velocity that is added; 0 switches it off."""
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    """Times between these are guided."""
    guidance_parallel: float = 1.0
    guidance_momentum: float = 0.0
    guidance_max_rms: float = 0.0
    """Of adaptive projected guidance, see VelocityGuidance."""
    prompt_state: PromptState = "solved"
    """`overwritten` keeps the prompt's frames on their path."""
    max_prompt_s: float = 30.0
    """Of a reference."""
    max_source_s: float = 30.0
    """Of a source that is converted at once."""

    def __post_init__(self) -> None:
        for name in ("max_prompt_s", "max_source_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        self.flow()

    def flow(self) -> FlowOptions:
        """The options of `generate`."""
        guidance = VelocityGuidance(
            self.guidance,
            self.guidance_start,
            self.guidance_stop,
            self.guidance_parallel,
            self.guidance_momentum,
            self.guidance_max_rms,
        )
        steps = FlowSteps(self.steps, self.method, self.grid, self.sway)
        return FlowOptions(steps, guidance, self.prompt_state)


@dataclass(frozen=True)
class Voice:
    """A reference."""

    content_S: Tensor
    """Its content tokens."""
    latents_PZ: Tensor


class SpeechStage:
    """A flow matcher with its codec and options bound; see `models.cascade.TokensToSpeech`."""

    def __init__(
        self,
        model: FlowMatcher,
        codec: Codec,
        codebooks_QVZ: Tensor,
        content: Content,
        options: FlowMatchingOptions,
    ) -> None:
        """`codebooks_QVZ` are the codec's. ValueError for a network that does not fit them and the content tokens."""
        if model.config.latent_size != codebooks_QVZ.shape[-1]:
            raise ValueError(
                f"the flow has latents of {model.config.latent_size} channels; {codec.name} has "
                f"{codebooks_QVZ.shape[-1]}"
            )
        if isinstance(model, HierarchicalConditionalFlowMatcher):
            _check_hierarchical(model, codec, content)
        elif not content.own:
            raise ValueError(
                "flow_matching reads the codec's own first level; a further semantic codec needs "
                "flow_matching_hierarchical"
            )
        self._model, self._codec, self._codebooks_QVZ = model.eval(), codec, codebooks_QVZ
        self._content, self._flow = content, options.flow()
        self.reads, self.sample_rate = content.identity, codec.sample_rate
        self.device = next(model.parameters()).device
        self.max_prompt_s, self.max_source_s = options.max_prompt_s, options.max_source_s
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def content(self, wave_T: Tensor) -> Tensor:
        """See TokensToSpeech."""
        return self._content.encode(wave_T)

    def voice(self, wave_T: Tensor) -> Voice:
        """See TokensToSpeech."""
        codes_PQ = codes_of(wave_T, self._codec).T
        content_S = codes_PQ[:, 0] if self._content.own else self._content.encode(wave_T)
        return Voice(content_S, self._latents(wave_T, codes_PQ))

    def _latents(self, wave_T: Tensor, codes_PQ: Tensor) -> Tensor:
        model, codec = self._model, self._codec
        continuous = (
            isinstance(model, HierarchicalConditionalFlowMatcher) and model.config.latents == "continuous"
        )
        if continuous and has_latents(codec):
            return codec.encode_latents(wave_T[None], torch.tensor([len(wave_T)])).latents_BTD[0]
        return latents_of(codes_PQ, self._codebooks_QVZ)

    def content_of(self, voice: Voice) -> Tensor:
        """See TokensToSpeech."""
        return voice.content_S

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """See TokensToSpeech."""
        semantic = [self._content.aligned(tokens_S.to(self.device)) for tokens_S in tokens]
        given = [None if voice is None else self._aligned(voice) for voice in voices]
        conditions = conditions_of(self._model, self._codebooks_QVZ[0], semantic, given)
        made = generate(self._model, conditions, self._flow, draws)
        lengths_B = torch.tensor([len(row_T) for row_T in semantic], device=self.device)
        return decode_latents(self._codec, Latents(made.latents_BTZ, lengths_B)), made.evaluations

    def _aligned(self, voice: Voice) -> Voice:
        return Voice(self._content.aligned(voice.content_S, len(voice.latents_PZ)), voice.latents_PZ)


def conditions_of(
    model: FlowMatcher, codebook_VZ: Tensor, tokens: Sequence[Tensor], voices: Sequence[Voice | None]
) -> Conditions:
    """A batch of rows: content tokens (T,) of each, and the prompt of each that has one, token for frame.

    `codebook_VZ` are the codec's vectors of the tokens, which a ConditionalFlowMatcher reads.
    """
    nothing = tokens[0].new_zeros(0)
    none = Voice(nothing, codebook_VZ.new_zeros(0, model.config.latent_size))
    prompts = [none if voice is None else voice for voice in voices]
    semantic_BT, prompt_semantic_BP = pad_rows(tokens)[0], pad_rows([one.content_S for one in prompts])[0]
    if isinstance(model, ConditionalFlowMatcher):
        semantic_BT, prompt_semantic_BP = codebook_VZ[semantic_BT], codebook_VZ[prompt_semantic_BP]
    return Conditions(
        semantic_BT,
        [len(row_T) for row_T in tokens],
        prompt_semantic_BP,
        pad_rows([prompt.latents_PZ for prompt in prompts])[0],
        [len(prompt.latents_PZ) for prompt in prompts],
    )


def _check_hierarchical(model: HierarchicalConditionalFlowMatcher, codec: Codec, content: Content) -> None:
    if model.config.n_semantic_tokens != content.identity.codebook_size:
        raise ValueError(
            f"flow_matching_hierarchical reads {model.config.n_semantic_tokens} semantic tokens; "
            f"{content.identity.source} has {content.identity.codebook_size}"
        )
    if model.config.latents == "continuous" and not has_latents(codec):
        raise ValueError(
            f"flow_matching_hierarchical makes latents before quantization; {codec.name} decodes codes only"
        )
