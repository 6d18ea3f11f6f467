"""The reference's own numbers: same weights, inputs and draws give the same logits, losses and codes."""

import pytest
import torch
from torch.nn import functional as F

from models.layers.levels import hidden_codes
from models.maskgct import checkpoint_choihkk_s2a, checkpoint_choihkk_t2s
from models.maskgct.corruption import CorruptionConfig, corrupt, level_weights
from models.maskgct.sampling import Conditions, generate_s2a, generate_t2s
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice


def recorded_forward(section, forward, **kwargs):
    """Call `forward` with the reference's positions, which count left padding too."""
    trunk = section.module.trunk
    watched = {
        "text_emb": trunk.text_mlp,
        "time_emb": trunk.transformer.time,
        "hidden": trunk,
        **{f"layer{i}": block for i, block in enumerate(trunk.transformer.blocks)},
    }
    seen = {name: section.record(module) for name, module in watched.items()}
    text_mask, x_mask = section["text_mask"].bool(), section["x_mask"].bool()
    positions = torch.arange(text_mask.shape[1] + x_mask.shape[1]).expand(len(x_mask), -1)
    kwargs |= {"text_BL": section["text_ids"], "text_mask_BL": text_mask, "speech_mask_BT": x_mask}
    logits = forward(**kwargs, positions_BN=positions)
    results = {name: outputs[0] for name, outputs in seen.items()} | {"logits": logits}
    results["layers"] = torch.stack([results[f"layer{i}"] for i in range(len(trunk.transformer.blocks))])
    packed = forward(**kwargs)
    atol = section.described[f"{section.name}.out.logits"]["suggested_atol"]
    torch.testing.assert_close(
        packed[x_mask], logits[x_mask], rtol=0, atol=atol, msg="positions are not relative"
    )
    return results


def cross_entropy(section, logits, targets, masked):
    counted = masked & section["x_mask"].bool() & (targets != section.constructor["codebook_size"])
    return F.cross_entropy(logits[counted], targets[counted])


def recorded_corruption(section, min_mask_prob, weights=None):
    """Repeat the reference's draws; it takes padding for frames."""
    n_rows, n_frames = section["x_mask"].shape
    config = CorruptionConfig(
        min_mask_prob, section.constructor["cfg_scale"], text_drop_prob=0, draw_per="batch"
    )
    found = corrupt(torch.full((n_rows,), n_frames), n_frames, config, section.draws, weights)
    named = {"t": found.times_B, "mask": found.masked_BT[..., None], "mask_prob": found.mask_prob_B}
    return found, named | {"prompt_len": found.prompt_lengths_B, "mask_layer": found.levels_B[:1]}


def t2s_forward(section):
    codes, masked = section["x0"], section["mask"][..., 0].bool()
    results = recorded_forward(
        section, section.module, codes_BT=codes, masked_BT=masked, times_B=section["t"]
    )
    return results | {"xt": section.module.embed_codes(codes, masked)}


def t2s_loss(section):
    codes, x_mask, text_mask = section["x0"], section["x_mask"].bool(), section["text_mask"].bool()
    found, results = recorded_corruption(section, min_mask_prob=0.2)
    logits = section.module(section["text_ids"], text_mask, codes, found.masked_BT, x_mask, found.times_B)
    loss = cross_entropy(section, logits, codes, found.masked_BT)
    return results | {"xt": section.module.embed_codes(codes, found.masked_BT), "loss": loss}


def conditions(section, prompt_BPQ, length):
    text, prompt_mask = section["text_ids"], torch.ones(prompt_BPQ.shape[:2], dtype=torch.bool)
    return Conditions(
        text, torch.ones_like(text, dtype=torch.bool), prompt_BPQ, prompt_mask, [length] * len(text)
    )


def guidance_of(args):
    return Guidance(args["cfg"], args["rescale_cfg"], deviation="batch")


def t2s_sample(section, choice):
    trace = section.record(section.module.head)
    given = conditions(section, section["prompt"][..., None], int(section["target_length"]))
    steps, guidance = section.args["n_timesteps"], guidance_of(section.args)
    codes = generate_t2s(section.module, given, steps, choice, guidance, section.draws).codes_BTQ[..., 0]
    return codes, torch.stack(trace)


def t2s_generate(section):
    # The reference's generate() swallows temperature and filter_thres: always its defaults.
    codes, trace = t2s_sample(section, TokenChoice(temperature=0.5, filter_threshold=0.98))
    return {"codes": codes[..., None], "trace_logits": trace}


def t2s_reverse(section):
    choice = TokenChoice(section.args["temp"], section.args["filter_thres"])
    codes, trace = t2s_sample(section, choice)
    return {"codes": codes, "trace_logits": trace}


def s2a_forward(section):
    codes, masked, n_rows = section["x0"], section["mask"][..., 0].bool(), len(section["x0"])
    levels = section["layer"].expand(n_rows)
    prompt = torch.arange(codes.shape[1]) < section["prompt_len"][:, None]
    inputs = {"codes_BTQ": codes, "masked_BT": masked, "prompt_mask_BT": prompt, "levels_B": levels}
    results = recorded_forward(section, section.module, times_B=section["t"], **inputs)
    hidden = hidden_codes(codes.shape[-1], masked, prompt, levels)
    return results | {"xt": section.module.embed_codes(codes, hidden)}


def s2a_loss(section):
    codes, x_mask, text_mask = section["x0"], section["x_mask"].bool(), section["text_mask"].bool()
    given = section.constructor
    first_level = 0 if given["predict_layer_1"] else 1
    weights = level_weights(given["num_quantizer"], given["mask_layer_schedule"], first_level)
    found, results = recorded_corruption(section, min_mask_prob=0.0, weights=weights)
    prompt = torch.arange(codes.shape[1]) < found.prompt_lengths_B[:, None]
    masks = (found.masked_BT, prompt, x_mask)
    logits = section.module(section["text_ids"], text_mask, codes, *masks, found.levels_B, found.times_B)
    hidden = hidden_codes(codes.shape[-1], found.masked_BT, prompt, found.levels_B)
    targets = codes[..., int(found.levels_B[0])]
    loss = cross_entropy(section, logits, targets, found.masked_BT)
    return results | {"xt": section.module.embed_codes(codes, hidden), "loss": loss}


def s2a_weights(section):
    n_levels, results = section.constructor["num_quantizer"], {}
    for schedule in ("cosine", "linear"):
        for name, first_level in (("all", 0), ("skip_first", 1)):
            weights = level_weights(n_levels, schedule, first_level)
            # The reference normalises the linear weights only; multinomial does not care.
            results[f"{schedule}_{name}"] = weights / weights.sum() if schedule == "linear" else weights
    return results


def s2a_generate(section):
    trace, args = section.record(section.module.heads), section.args
    known = section["given"] if section["given"].dim() == 3 else section["given"][..., None]
    given = conditions(section, section["prompt"], known.shape[1])
    choice = TokenChoice(args["temperature"], args["filter_thres"])
    steps, guidance = args["n_timesteps"], guidance_of(args)
    codes = generate_s2a(section.module, given, known, steps, choice, guidance, section.draws).codes_BTQ
    return {"codes": codes, "trace_logits": torch.stack(trace)}


T2S = {"forward": t2s_forward, "loss": t2s_loss, "generate": t2s_generate, "reverse": t2s_reverse}
S2A = {"forward": s2a_forward, "loss": s2a_loss, "layer": s2a_weights, "generate": s2a_generate}


@pytest.mark.golden("choiHkk/maskgct", "maskgct_t2s.MaskGCT_T2S", checkpoint_choihkk_t2s.convert)
def test_t2s(section):
    section.run(T2S)


@pytest.mark.golden("choiHkk/maskgct", "maskgct_s2a.MaskGCT_S2A", checkpoint_choihkk_s2a.convert)
def test_s2a(section):
    section.run(S2A)
