"""Velocity networks of SpeechGPT-Gen's flow matching: semantic content and a voice prompt -> latents of a codec.

After ZhangXInFD/SpeechGPT-Gen-Perceptual-Model (arXiv 2401.13527). The input of a frame is [state, semantic, prompt,
time]; time is one more channel, and conditions the norms as well if `time_condition_size` is not 0. Differences:
padding never changes a row's result, latents need not have the hidden size, rows can lose their conditions (guidance).
Shapes: B rows, T frames, D hidden channels, Z channels of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.flow_matching.path import Path
from models.layers.backbones import Backbone, BackboneConfig
from models.layers.checks import check_choice, check_positive
from models.layers.time_embedding import LearnedTimeEmbedding

LatentKind = Literal["quantized", "continuous"]


@dataclass(frozen=True, kw_only=True)
class FlowMatchingConfig(BackboneConfig):
    """Sizes, inputs and the probability path; the defaults are the published ones."""

    latent_size: int = 1024
    """Z, of the latents and of the semantic embedding."""
    time_condition_size: int = 0
    """Size of the time embedding that conditions the norms; 0: time is an input channel only."""
    start_from_cond: bool = True
    """The path starts at noise around the semantic embedding instead of plain noise."""
    concat_cond: bool = False
    """The network reads the semantic embedding. It always does if the path starts at plain noise."""
    explicit: bool = False
    """The flow makes what is missing to the semantic embedding, not the latents themselves."""
    sigma: float = 0.0
    """Noise that is left at the end of the path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["latent_size"])
        if self.time_condition_size:
            check_positive(self, ["time_condition_size"])
        if not 0 <= self.sigma < 1:
            raise ValueError(f"sigma is {self.sigma}; it must be in [0, 1)")

    @property
    def reads_semantic(self) -> bool:
        """True if the semantic embedding is an input of the network."""
        return self.concat_cond or not self.start_from_cond

    @property
    def path(self) -> Path:
        """The probability path that the network's velocities belong to."""
        return Path(self.sigma, self.start_from_cond, self.explicit)


class ConditionalFlowMatcher(nn.Module):
    """Velocity of every frame, given the semantic embedding and the latents of the prompt."""

    def __init__(self, config: FlowMatchingConfig) -> None:
        super().__init__()
        self.config = config
        dim, n_parts = config.hidden_size, 3 if config.reads_semantic else 2
        self.embed = nn.Linear(n_parts * config.latent_size + 1, dim)
        self.time: LearnedTimeEmbedding | None = None
        if config.time_condition_size:
            self.time = LearnedTimeEmbedding(dim, config.time_condition_size)
        self.backbone = Backbone(config, config.time_condition_size)
        self.head = nn.Linear(dim, config.latent_size, bias=False)

    def forward(
        self,
        state_BTZ: Tensor,
        times_B: Tensor,
        semantic_BTZ: Tensor,
        prompt_BTZ: Tensor,
        mask_BT: Tensor | None,
        keep_B: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity (B, T, Z) at `times_B` in [0, 1] (0: prior, 1: latents).

        `prompt_BTZ` holds the latents where they are given and 0 elsewhere. `mask_BT` (bool) is true at valid frames,
        None where all are. Rows that `keep_B` (bool) does not keep see neither semantic embedding nor prompt.
        """
        conditions = [semantic_BTZ, prompt_BTZ] if self.config.reads_semantic else [prompt_BTZ]
        if keep_B is not None:
            conditions = [part * keep_B[:, None, None] for part in conditions]
        time_BT1 = times_B[:, None, None].expand(*state_BTZ.shape[:2], 1).to(state_BTZ.dtype)
        x_BTD = self.embed(torch.cat([state_BTZ, *conditions, time_BT1], dim=-1))
        condition_BC = None if self.time is None else self.time(times_B)
        y: Tensor = self.head(self.backbone(x_BTD, mask_BT, condition_BC))
        return y

    def embed_semantic(self, semantic_BTZ: Tensor, mask_BT: Tensor | None) -> Tensor:  # noqa: ARG002
        """The semantic embedding as `forward` takes it: as it is."""
        return semantic_BTZ


@dataclass(frozen=True, kw_only=True)
class HierarchicalFlowMatchingConfig(FlowMatchingConfig):
    """Sizes and inputs; the path starts at plain noise, because the semantic embedding is learned."""

    n_semantic_tokens: int
    """Ids of the semantic tokenizer."""
    start_from_cond: bool = False
    concat_cond: bool = True
    latents: LatentKind = "quantized"
    """Sums of the vectors of a codec's codes, or what its encoder makes before they are quantized."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["n_semantic_tokens"])
        check_choice(self, "latents", get_args(LatentKind))
        for name in ("start_from_cond", "explicit"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} is on; it needs a fixed semantic embedding, and this one is learned"
                )


class HierarchicalConditionalFlowMatcher(nn.Module):
    """A ConditionalFlowMatcher whose semantic content comes as ids of another tokenizer."""

    def __init__(self, config: HierarchicalFlowMatchingConfig) -> None:
        super().__init__()
        self.config = config
        self.semantic_table = nn.Embedding(config.n_semantic_tokens, config.latent_size)
        self.flow = ConditionalFlowMatcher(config)

    def forward(
        self,
        state_BTZ: Tensor,
        times_B: Tensor,
        semantic_BT: Tensor,
        prompt_BTZ: Tensor,
        mask_BT: Tensor | None,
        keep_B: Tensor | None = None,
    ) -> Tensor:
        """See ConditionalFlowMatcher; `semantic_BT` holds ids, int64, one per frame."""
        semantic_BTZ = self.embed_semantic(semantic_BT, mask_BT)
        y: Tensor = self.flow(state_BTZ, times_B, semantic_BTZ, prompt_BTZ, mask_BT, keep_B)
        return y

    def embed_semantic(self, semantic_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Map ids to (B, T, Z), zeros at padding."""
        y: Tensor = self.semantic_table(semantic_BT)
        return y if mask_BT is None else y * mask_BT[..., None]
