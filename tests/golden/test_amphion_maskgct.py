"""Amphion's own numbers: same weights, inputs and draws give the same logits and codes."""

import itertools

import pytest
import torch

from models.layers.levels import hidden_codes
from models.maskgct.checkpoint_amphion import convert_s2a, convert_t2s
from models.maskgct.corruption import CorruptionConfig, corrupt, level_weights
from models.maskgct.sampling import (
    Conditions,
    SemanticConditions,
    generate_semantic_s2a,
    generate_t2s,
)
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice, remask_counts


def corrupted(section, config, weights=None):
    """Repeat the reference's draws; it takes padding for frames."""
    n_rows, n_frames = section["x_mask"].shape
    found = corrupt(torch.full((n_rows,), n_frames), n_frames, config, section.draws, weights)
    final = found.masked_BT & section["x_mask"].bool()
    named = {"t": found.times_B, "mask_prob": found.mask_prob_B, "prompt_len": found.prompt_lengths_B}
    return found, named | {"mask": found.masked_BT[..., None], "final_mask": final[..., None]}


def watched_layers(section, transformer, call):
    """The result of `call`, what every layer made of it, and the final hidden states."""
    blocks = [section.record(block) for block in transformer.blocks]
    hidden, time = section.record(transformer), section.record(transformer.time)
    logits = call()
    layers = torch.stack([seen[0] for seen in blocks])
    return {"logits": logits, "layers": layers, "hidden": hidden[0], "time_emb": time[0]}


def t2s_logits(section, masked, times):
    module, text_mask = section.module, section["text_mask"].bool()
    speech_mask = section["x_mask"].bool()
    # The reference counts positions through the text's padding.
    positions = torch.arange(text_mask.shape[1] + speech_mask.shape[1]).expand(len(speech_mask), -1)
    text_emb = section.record(module.trunk.text_mlp)
    found = watched_layers(
        section,
        module.trunk.transformer,
        lambda: module(section["text_ids"], text_mask, section["x0"], masked, speech_mask, times, positions),
    )
    hidden = found["hidden"][:, text_mask.shape[1] :]
    return found | {
        "hidden": hidden,
        "text_emb": text_emb[0],
        "xt": module.embed_codes(section["x0"], masked),
    }


def t2s_forward(section):
    return t2s_logits(section, section["mask"][..., 0].bool(), section["t"])


def t2s_train(section):
    config = CorruptionConfig(0.2, section.constructor["cfg_scale"], text_drop_prob=0, draw_per="batch")
    found, named = corrupted(section, config)
    return t2s_logits(section, found.masked_BT, found.times_B) | named


def sampler(section):
    args = section.args
    choice = TokenChoice(args["temp"], args["filter_thres"])
    return choice, Guidance(args["cfg"], args["rescale_cfg"], deviation="batch"), section.draws


def t2s_reverse(section):
    trace, text, prompt = section.record(section.module.head), section["text_ids"], section["prompt"]
    masks = [torch.ones_like(part, dtype=torch.bool) for part in (text, prompt)]
    lengths = [int(section["target_length"])] * len(text)
    given = Conditions(text, masks[0], prompt[..., None], masks[1], lengths)
    made = generate_t2s(section.module, given, section.args["n_timesteps"], *sampler(section))
    return {"codes": made.codes_BTQ[..., 0], "trace_logits": every_step(section, trace, lengths[0])}


def every_step(section, trace, length):
    """Logits of all steps: those of steps that fix nothing we do not compute, so the recorded ones stand in."""
    counts = [length, *remask_counts([length], section.args["n_timesteps"])[:, 0].tolist()]
    fixing = [after < before for before, after in itertools.pairwise(counts)]
    if all(fixing):
        return torch.stack(trace)
    ours, recorded = iter(trace), section.tensors[f"{section.name}.out.trace_logits"]
    return torch.stack([next(ours) if fixes else recorded[step] for step, fixes in enumerate(fixing)])


def s2a_logits(section, masked, prompt_lengths, levels, times):
    module, codes = section.module, section["x0"]
    prompt = torch.arange(codes.shape[1]) < prompt_lengths[:, None]
    masks = (masked, prompt, section["x_mask"].bool())
    # The reference counts positions through the padding, and computes something there.
    positions = torch.arange(codes.shape[1]).expand(codes.shape[:2])

    def logits():
        return module(section["cond_code"], codes, *masks, levels, times, positions)

    found = watched_layers(section, module.transformer, logits)
    hidden = hidden_codes(codes.shape[-1], masked, prompt, levels)
    return found | {"xt": module.embed_codes(codes, hidden)}


def s2a_forward(section):
    levels = section["layer"].expand(len(section["x0"]))
    masked = section["mask"][..., 0].bool()
    return s2a_logits(section, masked, section["prompt_len"], levels, section["t"])


def s2a_train(section):
    given = section.constructor
    weights = level_weights(given["num_quantizer"], given["mask_layer_schedule"], section.module.first_level)
    shares = {"max_prompt_fraction": 0.5, "text_drop_prob": 0}
    found, named = corrupted(
        section, CorruptionConfig(0.0, given["cfg_scale"], draw_per="batch", **shares), weights
    )
    results = s2a_logits(section, found.masked_BT, found.prompt_lengths_B, found.levels_B, found.times_B)
    return results | named | {"mask_layer": found.levels_B[:1]}


def s2a_reverse(section):
    trace, prompt, semantic = section.record(section.module.heads), section["prompt"], section["semantic"]
    (n_rows, n_prompt), length = prompt.shape[:2], semantic.shape[1] - prompt.shape[1]
    given = SemanticConditions(
        semantic[:, n_prompt:],
        semantic[:, :n_prompt],
        prompt,
        torch.ones(n_rows, n_prompt, dtype=torch.bool),
        [length] * n_rows,
    )
    known = section.get("given")
    known = semantic.new_zeros(n_rows, length, 0) if known is None else known
    made = generate_semantic_s2a(section.module, given, known, section.args["n_timesteps"], *sampler(section))
    return {"codes": made.codes_BTQ, "trace_logits": torch.stack(trace)}


@pytest.mark.golden(
    "raoabinav/versaface_autoencoder", "models.tts.maskgct.maskgct_t2s.MaskGCT_T2S", convert_t2s
)
def test_t2s(section):
    section.run({"forward": t2s_forward, "train": t2s_train, "reverse": t2s_reverse})


@pytest.mark.golden(
    "raoabinav/versaface_autoencoder", "models.tts.maskgct.maskgct_s2a.MaskGCT_S2A", convert_s2a
)
def test_s2a(section):
    section.run({"forward": s2a_forward, "train": s2a_train, "reverse": s2a_reverse})
