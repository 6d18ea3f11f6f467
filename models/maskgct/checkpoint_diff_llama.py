"""The Llama-based diffusion backbone (`diff_estimator.*`) of the published MaskGCT code."""

import torch
from torch import Tensor

from models.checkpoints import StateReader, under


def read_text_prefix(
    reader: StateReader, vocab: int, dim: int, n_layers: int, text_mlp: str
) -> dict[str, Tensor]:
    """Return the state of a TextPrefixTransformer; `text_mlp` is the reference's name of the text network."""
    state = {"text_table.weight": reader.take("phone_emb.weight", vocab, dim)}
    state |= under("text_mlp", read_mlp(reader, f"diff_estimator.{text_mlp}", dim))
    state |= under("transformer", read_transformer(reader, dim, n_layers))
    return under("trunk", state)


def read_transformer(reader: StateReader, dim: int, n_layers: int) -> dict[str, Tensor]:
    """Return the state of a NonCausalTransformer."""
    state = under("time.mlp", read_mlp(reader, "diff_estimator.diff_step_mlp", dim))
    state |= under("norm", _read_norm(reader, "diff_estimator.norm", dim))
    for index in range(n_layers):
        state |= under(f"blocks.{index}", _read_block(reader, f"diff_estimator.layers.{index}", dim))
    return state


def read_mlp(reader: StateReader, prefix: str, dim: int) -> dict[str, Tensor]:
    """Return the state of `silu_mlp(dim, 4)`."""
    shapes = {"0.weight": (4 * dim, dim), "0.bias": (4 * dim,), "2.weight": (dim, 4 * dim), "2.bias": (dim,)}
    return {name: reader.take(f"{prefix}.{name}", *shape) for name, shape in shapes.items()}


def _read_norm(reader: StateReader, prefix: str, dim: int) -> dict[str, Tensor]:
    return {
        "gain.weight": reader.take(f"{prefix}.to_weight.weight", dim, dim),
        "gain.bias": reader.take(f"{prefix}.to_weight.bias", dim),
    }


def _read_block(reader: StateReader, prefix: str, dim: int) -> dict[str, Tensor]:
    attention = [reader.take(f"{prefix}.self_attn.{name}_proj.weight", dim, dim) for name in "qkvo"]
    gate_up = [reader.take(f"{prefix}.mlp.{name}_proj.weight", 4 * dim, dim) for name in ("gate", "up")]
    state = {
        "attention.qkv.weight": torch.cat(attention[:3]),
        "attention.out.weight": attention[3],
        "feed_forward.gate_up.weight": torch.cat(gate_up),
        "feed_forward.down.weight": reader.take(f"{prefix}.mlp.down_proj.weight", dim, 4 * dim),
    }
    state |= under("attention_norm", _read_norm(reader, f"{prefix}.input_layernorm", dim))
    return state | under("feed_forward_norm", _read_norm(reader, f"{prefix}.post_attention_layernorm", dim))
