"""Optimisers and learning-rate schedules. A schedule is a pure function, so there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.checkpoints import Record, Values
from trainers.sharding import gradient_norm, load_optimizer, local

MUON_KEYS = ("muon_momentum", "muon_lr_scale")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its schedule; a step is one update."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: Muon (arXiv 2502.16982) for the matrices of linear layers within stacks of layers, AdamW for everything
    else: embeddings, norms, biases, heads, convolutions."""
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
    muon_momentum: float = 0.95
    muon_lr_scale: float = 1.0
    """Of Muon's learning rate; at 1 its updates are about as large as AdamW's at the same `lr`."""

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "muon"):
            raise ValueError(f"kind is {self.kind!r}: must be 'adamw' or 'muon'")
        for name in ("lr", "eps", "muon_lr_scale"):
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
        if not 0 <= self.muon_momentum < 1:
            raise ValueError(f"muon_momentum is {self.muon_momentum}: must be in [0, 1)")
        if not 0 <= self.final_lr_ratio <= 1:
            raise ValueError(f"final_lr_ratio is {self.final_lr_ratio}: must be in [0, 1]")

    def identity(self) -> Record:
        """The settings that a continued run must share. Those of AdamW alone read as they did before there was Muon."""
        skipped = ("kind", *MUON_KEYS) if self.kind == "adamw" else ()
        return {name: value for name, value in asdict(self).items() if name not in skipped}


class PhaseOptimizer:
    """AdamW over the parameter groups of one phase, with Muon beside it for matrices if the settings say so."""

    def __init__(self, groups: list[Record], config: OptimConfig, matrices: Iterable[Tensor]) -> None:
        """`matrices` are those that Muon would take; ValueError if it shall and none is among the groups."""
        ids = {id(matrix) for matrix in matrices} if config.kind == "muon" else set()
        self.adamw = torch.optim.AdamW(
            [_part(group, lambda p: id(p) not in ids) for group in groups],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.muon: torch.optim.Muon | None = None
        if config.kind == "muon":
            taken = [_part(group, lambda p: id(p) in ids, config.muon_lr_scale) for group in groups]
            if not any(group["params"] for group in taken):
                raise ValueError(
                    "optim.kind is 'muon': the network has no linear layers within a stack of layers; use adamw"
                )
            self.muon = torch.optim.Muon(
                [group for group in taken if group["params"]],
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
                adjust_lr_fn="match_rms_adamw",
            )

    @property
    def parts(self) -> list[torch.optim.Optimizer]:
        """The optimisers behind it."""
        return [self.adamw] if self.muon is None else [self.adamw, self.muon]

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, lr: float) -> None:
        """Update every group at the learning rate `lr` times its `lr_scale`."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * group["lr_scale"]
            part.step()

    def state_dict(self) -> Record:
        """AdamW's state as torch has it, and Muon's under `muon`."""
        muon: Record = {} if self.muon is None else {"muon": self.muon.state_dict()}
        return {**self.adamw.state_dict(), **muon}

    def load_state_dict(self, state: Values) -> None:
        """Take over a state of whole tensors."""
        load_optimizer(self.adamw, {key: state[key] for key in ("state", "param_groups")})
        if self.muon is not None:
            load_optimizer(self.muon, state["muon"])


def _part(group: Record, wanted: Callable[[Tensor], bool], scale: float = 1.0) -> Record:
    """The group with the wanted parameters alone."""
    params = [p for p in group["params"] if wanted(p)]
    return {**group, "params": params, "lr_scale": scale * group.get("lr_scale", 1.0)}


def stack_matrices(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Weights of linear layers within stacks of layers (`nn.ModuleList`), heads and embeddings not among them."""
    modules = [module for network in networks for module in network.modules()]
    layers = [layer for stack in modules if isinstance(stack, nn.ModuleList) for layer in stack.modules()]
    return [layer.weight for layer in dict.fromkeys(layers) if isinstance(layer, nn.Linear)]


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


def scale_gradients(parameters: Iterable[Tensor], scale: Tensor, clip_norm: float) -> Tensor:
    """Multiply all gradients by `scale`, then clip them to `clip_norm`, in one pass; returns the norm
    before clipping.

    With a norm that is not finite the gradients are not to be used: the caller stops.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = gradient_norm(gradients) * scale
    if clip_norm > 0:
        scale = scale * torch.clamp(clip_norm / (norm + 1e-6), max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], scale)
    return norm
