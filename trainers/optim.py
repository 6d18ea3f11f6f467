"""Optimisers and learning-rate schedules. A schedule is a pure function, so there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.checkpoints import Record
from trainers.sharding import gradient_norm, local


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule; a step is one update."""

    lr: float = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled; applied to every parameter whose group does not say otherwise."""
    warmup_steps: int = 0
    """Linear from lr / warmup_steps."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up, over what is left until the first stop rule (steps, epochs or minutes)."""
    final_lr_ratio: float = 0.0
    """Where linear and cosine end, as a share of `lr`."""
    decay_steps: int | None = None
    """The update at which linear and cosine have reached their end, and stay there; None: where the training ends."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 turns clipping off."""

    def __post_init__(self) -> None:
        for name in ("lr", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must be above 0")
        for name in ("weight_decay", "warmup_steps", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must not be negative")
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ValueError(
                f"decay_steps is {self.decay_steps}: must be above warmup_steps, which is {self.warmup_steps}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}: each must be in [0, 1)")
        if not 0 <= self.final_lr_ratio <= 1:
            raise ValueError(f"final_lr_ratio is {self.final_lr_ratio}: must be in [0, 1]")


def build_optimizer(groups: list[Record], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameter groups of one phase."""
    ready = [{**group, "lr_scale": group.get("lr_scale", 1.0)} for group in groups]
    return torch.optim.AdamW(
        ready, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )


def lr_factor(config: OptimConfig, step: int, progress: float) -> float:
    """Share of the peak learning rate for update `step` (from 0) at `progress` in [0, 1] of the whole
    training.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.decay_steps is not None:
        progress = step / config.decay_steps
    done = min(max(progress, 0.0), 1.0)
    left = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.final_lr_ratio + (1.0 - config.final_lr_ratio) * left


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def scale_gradients(parameters: Iterable[Tensor], scale: Tensor, clip_norm: float) -> Tensor:
    """Multiply all gradients by `scale`, then clip them to `clip_norm`, in one pass; returns the norm
    before clipping.

    A non-finite norm leaves the gradients as they are: the caller stops.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = gradient_norm(gradients) * scale
    if clip_norm > 0:
        scale = scale * torch.clamp(clip_norm / (norm + 1e-6), max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], scale)
    return norm
