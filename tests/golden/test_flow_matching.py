"""Flow matching of SpeechGPT-Gen-Perceptual-Model: same weights, inputs and draws give the reference's own numbers."""

import pytest
import torch

from models.flow_matching.checkpoint_speechgpt_gen import convert, convert_hierarchical
from models.flow_matching.corruption import CorruptionConfig, corrupt
from models.flow_matching.network import HierarchicalConditionalFlowMatcher
from models.flow_matching.sampling import Conditions, FlowOptions, generate
from models.sampling.flow import FlowSteps

REPOSITORY = "ZhangXInFD/SpeechGPT-Gen-Perceptual-Model"
MAX_PROMPT_FRAMES = 300
AS_PUBLISHED = FlowOptions(FlowSteps(grid="published"))


class Draws:
    """Our draws from the reference's."""

    def __init__(self, recorded):
        self.recorded = recorded

    def randint(self, low_B, high_B):
        drawn = self.recorded.take("randrange")
        assert (low_B <= drawn).all()
        assert (drawn < high_B).all()
        return drawn.expand_as(low_B)

    def randn(self, *shape):
        return self.recorded.take("randn_like", *shape)

    def rand(self, *shape):
        return self.recorded.take("rand", *shape)

    def normal(self, lengths, n_channels):
        return self.recorded.take("randn_like", len(lengths), max(lengths), n_channels)


def flow_of(module):
    return module.flow if isinstance(module, HierarchicalConditionalFlowMatcher) else module


def mask_of(section, like):
    given = section.get("mask")
    return torch.ones(like.shape[:2], dtype=torch.bool) if given is None else given


def either(section, *names):
    return next(found for found in map(section.get, names) if found is not None)


def network(section):
    module, mask = section.module, section.get("mask")
    seen = {name: section.record(part) for name, part in (("embed", module.embed), ("net", module.backbone))}
    times = section["t"].expand(len(section["x"]))
    velocity = module(section["x"], times, section["cond"], section["context"], mask)
    return {"pred": velocity, **{name: outputs[0] for name, outputs in seen.items()}}


def loss(section):
    latents, flow = section["x1"], flow_of(section.module)
    mask = mask_of(section, latents)
    semantic = section.module.embed_semantic(either(section, "tokens", "x0"), mask)
    most = section.args.get("max_cond_seq", MAX_PROMPT_FRAMES)
    config = CorruptionConfig(max_prompt_frames=most, condition_drop_prob=0, draw_per="batch")
    found = corrupt(latents, semantic, mask.sum(1), flow.config.path, config, Draws(section.draws))
    # The reference's prompt also holds the padding, which nothing valid reads but whose outputs are compared, too.
    prompt = torch.where(mask[..., None], found.prompt_BTZ, latents)
    net_in = section.record(flow.embed)
    velocity = flow(found.state_BTZ, found.times_B, semantic, prompt, mask)
    errors = (velocity - found.velocity_BTZ)[found.hidden_BT].square()
    named = {"loss": errors.mean(), "w": found.state_BTZ, "net_in": net_in[0], "pred": velocity}
    return named | {"mask_after": found.hidden_BT}


def sampled(section):
    semantic = either(section, "tokens", "sem")
    mask, flow, times = mask_of(section, semantic), flow_of(section.module), []
    prompt, prompt_semantic = semantic[:, :0], semantic[:, :0]
    if section.name != "generate_plain":
        prompt, prompt_semantic = section["ctx"], either(section, "ctx_tokens", "ctx_sem")
    prompt_lengths = [prompt.shape[1]] * len(semantic)
    given = Conditions(semantic, mask.sum(1).tolist(), prompt_semantic, prompt, prompt_lengths)
    evaluated = section.record(flow)
    section.hooks.append(flow.register_forward_pre_hook(lambda _, inputs: times.append(inputs[1][0])))
    made = generate(section.module, given, AS_PUBLISHED, Draws(section.draws))
    gen = made.latents_BTZ
    if flow.config.explicit:
        gen = gen - semantic  # the reference leaves the addition to its caller
    # What the reference returns at padding is nobody's.
    gen = torch.where(mask[..., None], gen, section.tensors[f"{section.name}.out.gen"])
    assert len(evaluated) == made.evaluations
    nfe = torch.tensor(made.evaluations)
    return {"gen": gen, "first_eval": evaluated[0], "times": torch.stack(times), "nfe": nfe}


KINDS = {"net": network, "loss": loss, "generate": sampled}


@pytest.mark.golden(
    REPOSITORY, "speechgpt_gen_perceptual.models.flowmatching.ConditionalFlowMatcher", convert
)
def test_flow_matcher(section):
    section.run(KINDS)


@pytest.mark.golden(
    REPOSITORY,
    "speechgpt_gen_perceptual.models.flowmatching.HierarchicalConditionalFlowMatcher",
    convert_hierarchical,
)
def test_hierarchical_flow_matcher(section):
    section.run(KINDS)
