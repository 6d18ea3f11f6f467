"""The speech stage: content tokens and a voice to the latents of a codec, and these to a waveform.

Shapes: B rows, P prompt frames, T frames, Q levels, V codes, Z channels of the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.cascade import Presets
from models.codecs.interface import Latents, Wave
from models.codecs.latents import decode_latents, has_latents, latents_of
from models.content import Content, ContentStage, RecordingLimits, Voice, pad_voices
from models.flow_matching.network import ConditionalFlowMatcher, HierarchicalConditionalFlowMatcher
from models.flow_matching.sampling import Conditions, FlowMatcher, FlowOptions, PromptState, generate
from models.layers.masks import pad_rows
from models.sampling.draws import RowDraws
from models.sampling.flow import FlowSteps, Grid, Method
from models.sampling.guidance import VelocityGuidance


@dataclass(frozen=True)
class FlowMatchingOptions(RecordingLimits):
    """Options of a system: how the flow is solved, and the longest recordings."""

    steps: int = 4
    method: Method = "midpoint"
    """`euler`: one evaluation a step; `midpoint`: two."""
    grid: Grid = "uniform"
    """`epss` has 5, 6, 7, 10, 12 or 16 steps and is meant for `euler`; `published`: 16 whatever `steps` is."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
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


PRESETS: Presets = {
    "best": {"steps": 4, "method": "midpoint", "grid": "uniform"},
    "fast": {"steps": 2, "method": "midpoint", "grid": "uniform", "text": {"t2s_steps": 8}},
}
"""`best` is the default, also of the text stage."""


class SpeechStage(ContentStage):
    """A flow matcher with its codec and options bound; see `models.cascade.TokensToSpeech`."""

    def __init__(
        self, model: FlowMatcher, codebooks_QVZ: Tensor, content: Content, options: FlowMatchingOptions
    ) -> None:
        """`codebooks_QVZ` are the codec's. ValueError for a network that does not fit them and the content tokens."""
        _check(model, codebooks_QVZ.shape[-1], content)
        super().__init__(model, content, options)
        self._model, self._codebooks_QVZ, self._flow = model.eval(), codebooks_QVZ, options.flow()

    def frames(self, wave_T: Tensor, codes_PQ: Tensor) -> Tensor:
        """Latents, quantized or not, as the network learned them."""
        if _continuous(self._model) and has_latents(self.codec):
            return self.codec.encode_latents(wave_T[None], torch.tensor([len(wave_T)])).latents_BTD[0]
        return latents_of(codes_PQ, self._codebooks_QVZ)

    def run(
        self, tokens: Sequence[Tensor], voices: Sequence[Voice | None], draws: RowDraws
    ) -> tuple[Wave, int]:
        """See TokensToSpeech."""
        semantic, given = self.aligned(tokens, voices)
        conditions = conditions_of(self._model, self._codebooks_QVZ[0], semantic, given)
        made = generate(self._model, conditions, self._flow, draws)
        lengths_B = torch.tensor([len(row_T) for row_T in semantic], device=self.device)
        return decode_latents(self.codec, Latents(made.latents_BTZ, lengths_B)), made.evaluations


def conditions_of(
    model: FlowMatcher, codebook_VZ: Tensor, tokens: Sequence[Tensor], voices: Sequence[Voice | None]
) -> Conditions:
    """A batch of rows: content tokens (T,) of each, and the aligned voice of each that has one.

    `codebook_VZ` are the codec's vectors of the tokens, which a ConditionalFlowMatcher reads.
    """
    none = Voice(tokens[0].new_zeros(0), codebook_VZ.new_zeros(0, model.config.latent_size))
    prompt_semantic_BP, prompt_BPZ, prompt_lengths = pad_voices(voices, none)
    semantic_BT, lengths = pad_rows(tokens)[0], [len(row_T) for row_T in tokens]
    if isinstance(model, ConditionalFlowMatcher):
        semantic_BT, prompt_semantic_BP = codebook_VZ[semantic_BT], codebook_VZ[prompt_semantic_BP]
    return Conditions(semantic_BT, lengths, prompt_semantic_BP, prompt_BPZ, prompt_lengths)


def _continuous(model: FlowMatcher) -> bool:
    """True if the network makes latents from before quantization."""
    return isinstance(model, HierarchicalConditionalFlowMatcher) and model.config.latents == "continuous"


def _check(model: FlowMatcher, channels: int, content: Content) -> None:
    codec = content.codec
    if model.config.latent_size != channels:
        raise ValueError(
            f"the flow has latents of {model.config.latent_size} channels; {codec.name} has {channels}"
        )
    if isinstance(model, ConditionalFlowMatcher):
        if not content.own:
            raise ValueError(
                "flow_matching reads the codec's own first level; a further semantic codec needs "
                "flow_matching_hierarchical"
            )
        return
    if model.config.n_semantic_tokens != content.identity.codebook_size:
        raise ValueError(
            f"flow_matching_hierarchical reads {model.config.n_semantic_tokens} semantic tokens; "
            f"{content.identity.source} has {content.identity.codebook_size}"
        )
    if _continuous(model) and not has_latents(codec):
        raise ValueError(
            f"flow_matching_hierarchical makes latents before quantization; {codec.name} decodes codes only"
        )
