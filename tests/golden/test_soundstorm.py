"""SoundStorm of SpeechGPT-Gen: same weights, inputs and draws give the logits and codes of the reference."""

import pytest
import torch
from torch.nn import functional as F

from models.layers.levels import hidden_codes
from models.soundstorm.checkpoint_speechgpt_gen import convert
from models.soundstorm.corruption import CorruptionConfig, corrupt
from models.soundstorm.sampling import Conditions, SoundStormOptions, generate


class Draws:
    """Our draws from the reference's: a time and a level or prompt length are numbers of another kind there."""

    def __init__(self, recorded):
        self.recorded, self.tokens = recorded, recorded.tokens

    def randint(self, low_B, high_B):
        drawn = self.recorded.take("randrange")
        assert (low_B <= drawn).all()
        assert (drawn < high_B).all()
        return drawn.expand_as(low_B)

    def rand(self, *shape):
        return self.recorded.take("uniform" if len(shape) == 1 else "rand", *shape)


def all_logits(section, codes, semantic, hidden, mask):
    """Logits of all levels, and the head vectors before their norm, one (frame, level) after another."""
    module = section.module
    vectors = section.record(module.heads.projection)
    states = module.backbone(module.embed_semantic(semantic) + module.embed_codes(codes, hidden), mask)
    logits = torch.stack([module.heads(states, level) for level in range(codes.shape[2])], dim=2)
    return {"logits": logits.flatten(1, 2), "embeds": torch.stack(vectors, dim=2).flatten(1, 2)}


def logits(section):
    config = section.module.config
    codes = section["flat"].unflatten(1, (-1, config.n_codebooks))
    return all_logits(section, codes, section["sem"], codes == config.codebook_size, section["mask"])


def loss(section):
    module, codes, semantic = section.module, section["codes"], section["sem"]
    n_frames, n_levels = codes.shape[1:]
    mask = (codes != section.constructor["pad_id"]).all(-1)
    config = CorruptionConfig(section.constructor["schedule"], draw_per="batch")
    found = corrupt(mask.sum(1), n_frames, n_levels, config, Draws(section.draws))
    prompt = torch.arange(n_frames) < found.prompt_lengths_B[:, None]
    hidden = hidden_codes(n_levels, found.masked_BT, prompt, found.levels_B)
    results = all_logits(section, codes, semantic, hidden, mask)
    wanted = module(semantic, codes, found.masked_BT, prompt, mask, found.levels_B, where_BT=found.masked_BT)
    level = int(found.levels_B[0])
    same = results["logits"].unflatten(1, (n_frames, n_levels))[:, :, level][found.masked_BT]
    torch.testing.assert_close(wanted, same, rtol=1e-4, atol=1e-5)
    train_ids = codes.masked_fill(hidden, module.config.codebook_size).flatten(1)
    cross_entropy = F.cross_entropy(wanted, codes[..., level][found.masked_BT])
    return results | {"train_ids": train_ids, "loss": cross_entropy}


def sampled(section):
    module, semantic = section.module, section["sem"]
    n_rows, n_frames = semantic.shape
    prompt = section.get("prompt")
    if prompt is None:
        prompt = semantic.new_zeros(n_rows, 0, 1 + module.config.n_codebooks)
    lengths, prompt_lengths = [n_frames] * n_rows, [prompt.shape[1]] * n_rows
    given = Conditions(semantic, lengths, prompt[..., 0], prompt[..., 1:], prompt_lengths)
    asked = []
    embed_codes = module.embed_codes

    def watched(codes, hidden):
        asked.append(codes.masked_fill(hidden, module.config.codebook_size).flatten(1))
        return embed_codes(codes, hidden)

    module.embed_codes = watched
    try:
        options = SoundStormOptions(**section.args, schedule="published")
        made = generate(module, given, options, Draws(section.draws))
    finally:
        del module.embed_codes
    gen = torch.cat([semantic[..., None], made.codes_BTQ], dim=-1)
    return {"gen": gen, "nfe": torch.tensor(made.evaluations), "net_ids": torch.stack(asked)}


@pytest.mark.golden(
    "ZhangXInFD/SpeechGPT-Gen-Perceptual-Model",
    "speechgpt_gen_perceptual.models.soundstorm.SoundStorm",
    convert,
)
def test_soundstorm(section):
    section.run({"logits": logits, "loss": loss, "generate": sampled})
