"""Checkpoints of toktts: directories of transformers' EncoderDecoderModel with two GPT-2s, read and written.

After alexeyrodriguez/toktts@8d67e39 with huggingface/transformers@v4.45.2. Its encoder is causal, and the codebooks
share their ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints import (
    Json,
    Renamed,
    StateReader,
    filled,
    give_renamed,
    hub_files,
    read_config,
    take_renamed,
)
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS

DEFAULTS = {
    "vocab_size": None,  # 384 of the encoder, 1026 of the decoder
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "n_inner": None,
    # Frames times codebooks of a training example, not part of the network.
    "seq_length": None,
}
_SIZES = ["n_layer", "n_head", "n_embd"]
_ONLY = ("activation_function", "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx")
_TIED = ("decoder.lm_head.weight", "decoder.transformer.wte.weight")
N_CODEBOOKS = 2
"""EnCodec at 1.5 kbit/s; it is not in the configuration."""


def files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a released folder: what the conversion needs of its configuration, and its state dict."""
    config, state = hub_files(folder)
    parts = {}
    for part in ("encoder", "decoder"):
        given = config.get(part)
        if not isinstance(given, Mapping) or given.get("model_type", "gpt2") != "gpt2":
            raise ValueError(f"{folder}: config.json describes no GPT-2 as {part!r}")
        parts[part] = {key: value for key, value in given.items() if key in (*_SIZES, *DEFAULTS)}
    return parts, state


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference."""
    given = read_config(reader.source, config, ["encoder", "decoder"], {"n_codebooks": N_CODEBOOKS})
    encoder, decoder = (_part(reader.source, given, part) for part in ("encoder", "decoder"))
    module = TokTTS(
        TokTTSConfig(
            text_vocab_size=encoder["vocab_size"] or 384,
            n_codebooks=given["n_codebooks"],
            codebook_size=(decoder["vocab_size"] or 1026) - 2,
            code_ids="shared",
            encoder_attention="causal",
            **{f"encoder_{ours}": encoder[theirs] for ours, theirs in _OURS.items()},
            **{f"decoder_{ours}": decoder[theirs] for ours, theirs in _OURS.items()},
            text_positions=encoder["n_positions"],
            token_positions=decoder["n_positions"],
            dropout=decoder["resid_pdrop"],
        )
    )
    for stack, layers in (("encoder", encoder["n_layer"]), ("decoder.transformer", decoder["n_layer"])):
        for layer in range(layers):
            for attention in ("attn", "crossattention"):
                for buffer in ("bias", "masked_bias"):
                    reader.ignore(
                        f"{stack}.h.{layer}.{attention}.{buffer}", "a causal mask that older versions stored"
                    )
    tied = _TIED[0] in reader
    head = reader.take(_TIED[0], *_shape(module)) if tied else None
    state = take_renamed(_names(module), module.state_dict(), reader)
    if head is not None and not torch.equal(head, state["token_tables_KVD"][0]):
        raise ValueError(f"{reader.source}: {_TIED[0]} differs from {_TIED[1]}; they must be one")
    return filled(module, state, reader)


def save(module: TokTTS, folder: Path) -> None:
    """Write what transformers' EncoderDecoderModel reads, into `folder`, which must exist.

    ValueError for a network that it cannot build.
    """
    config = module.config
    for field, only in (("encoder_attention", "causal"), ("pattern", "interleave"), ("code_ids", "shared")):
        if getattr(config, field) != only:
            raise ValueError(f"{field} is {getattr(config, field)!r}; transformers' model needs {only!r}")
    tensors = {
        name: tensor.detach().cpu()
        for name, tensor in give_renamed(_names(module), module.state_dict()).items()
    }
    # The file format has no tied tensors; transformers ties them again.
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(published_config(config), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def published_config(config: TokTTSConfig) -> dict[str, Any]:
    """The configuration of transformers' model."""
    stop = config.tokens().stop
    parts = {}
    for part, vocab, positions in (
        ("encoder", config.text_vocab_size, config.text_positions),
        ("decoder", stop + 1, config.token_positions),
    ):
        parts[part] = {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"] if part == "decoder" else ["GPT2Model"],
            **{theirs: getattr(config, f"{part}_{ours}") for ours, theirs in _OURS.items()},
            "vocab_size": vocab,
            "n_positions": positions,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "activation_function": "gelu_new",
            "is_decoder": part == "decoder",
            "add_cross_attention": part == "decoder",
        }
    return {
        "model_type": "encoder-decoder",
        "architectures": ["EncoderDecoderModel"],
        "is_encoder_decoder": True,
        "decoder_start_token_id": stop - 1,
        "eos_token_id": stop,
        "pad_token_id": stop,
        **parts,
    }


_OURS = {"size": "n_embd", "layers": "n_layer", "heads": "n_head", "attention_dropout": "attn_pdrop"}


def _part(source: str, given: Mapping[str, Any], part: str) -> dict[str, Any]:
    found = read_config(f"{source}: {part}", given[part], _SIZES, DEFAULTS)
    for key in _ONLY:
        if found[key] != DEFAULTS[key]:
            raise ValueError(f"{source}: {part}: {key} is {found[key]!r}; only {DEFAULTS[key]!r} is known")
    if found["n_inner"] not in (None, 4 * found["n_embd"]):
        raise ValueError(f"{source}: {part}: n_inner is {found['n_inner']}; it must be four times n_embd")
    return found


def _shape(module: TokTTS) -> tuple[int, int]:
    return module.pattern.n_ids, module.config.decoder_size


def _names(module: TokTTS) -> Iterator[Renamed]:
    config = module.config
    yield from _stack("encoder", "encoder", config.encoder_size, config.encoder_layers)
    yield from _stack(
        "decoder", "decoder.transformer", config.decoder_size, config.decoder_layers, memory=True
    )
    sizes = {"encoder.wte": ("text_table.weight", (config.text_vocab_size, config.encoder_size))}
    sizes["encoder.wpe"] = ("text_positions.weight", (config.text_positions, config.encoder_size))
    sizes["decoder.transformer.wte"] = ("token_tables_KVD", _shape(module))
    sizes["decoder.transformer.wpe"] = (
        "token_positions.weight",
        (config.token_positions, config.decoder_size),
    )
    for theirs, (ours, shape) in sizes.items():
        yield Renamed(ours, [(f"{theirs}.weight", shape)])
    if config.encoder_size != config.decoder_size:
        shape = (config.decoder_size, config.encoder_size)
        yield Renamed("to_decoder.weight", [("enc_to_dec_proj.weight", shape)])
        yield Renamed("to_decoder.bias", [("enc_to_dec_proj.bias", shape[:1])])


def _stack(ours: str, theirs: str, size: int, n_layers: int, *, memory: bool = False) -> Iterator[Renamed]:
    """GPT-2's layers; their weights are stored as (in, out)."""
    linears = {
        "attention.qkv": ("attn.c_attn", size, 3 * size),
        "attention.out": ("attn.c_proj", size, size),
        "feed_forward.0": ("mlp.c_fc", size, 4 * size),
        "feed_forward.3": ("mlp.c_proj", 4 * size, size),
    }
    norms = {"attention_norm": "ln_1", "feed_forward_norm": "ln_2"}
    if memory:
        linears |= {
            "cross_attention.query": ("crossattention.q_attn", size, size),
            "cross_attention.key_value": ("crossattention.c_attn", size, 2 * size),
            "cross_attention.out": ("crossattention.c_proj", size, size),
        }
        norms["cross_attention_norm"] = "ln_cross_attn"
    for layer in range(n_layers):
        to, of = f"{ours}.blocks.{layer}", f"{theirs}.h.{layer}"
        for name, (published, inputs, outputs) in linears.items():
            yield Renamed(
                f"{to}.{name}.weight", [(f"{of}.{published}.weight", (inputs, outputs))], transposed=True
            )
            yield Renamed(f"{to}.{name}.bias", [(f"{of}.{published}.bias", (outputs,))])
        for name, norm in norms.items():
            yield from _norm(f"{to}.{name}", f"{of}.{norm}", size)
    yield from _norm(f"{ours}.norm", f"{theirs}.ln_f", size)


def _norm(ours: str, theirs: str, size: int) -> Iterator[Renamed]:
    for kind in ("weight", "bias"):
        yield Renamed(f"{ours}.{kind}", [(f"{theirs}.{kind}", (size,))])
