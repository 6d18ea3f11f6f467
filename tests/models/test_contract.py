"""The contract of every trainable network: padding, batches, gradients, a directory that brings it back."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models.families import FAMILIES
from models.flow_matching import example as flow_matching
from models.flow_matching.family import FAMILY as FLOW_MATCHING
from models.generators import load_generator, save_generator
from models.manifest import Example, Padding, Trainable
from models.maskgct import example as maskgct
from models.maskgct.family import FAMILY as MASKGCT
from models.soundstorm import example as soundstorm
from models.soundstorm.family import FAMILY as SOUNDSTORM
from models.toktts import example as toktts
from models.toktts.family import FAMILY as TOKTTS
from models.valle import example as valle
from models.valle.family import FAMILY as VALLE

REGISTERED = [one for family in FAMILIES for one in family.trainables if one.example is not None]
# Networks that a configuration builds in another way.
VARIANTS = {
    "maskgct_semantic_s2a-1layer": (MASKGCT.trainables[3], partial(maskgct.semantic_s2a, 1)),
    "maskgct_semantic_s2a-full": (MASKGCT.trainables[3], partial(maskgct.semantic_s2a, 3, 1)),
    "valle_ar-retnet": (VALLE.trainables[0], partial(valle.ar, "retnet")),
    "valle_ar-chunkwise": (VALLE.trainables[0], partial(valle.ar, "retnet", 4)),
    "valle_nar-causal_retnet": (VALLE.trainables[1], partial(valle.nar, "causal_retnet")),
    "toktts-published": (
        TOKTTS.trainables[0],
        partial(toktts.toktts, code_ids="shared", encoder_attention="causal"),
    ),
    "toktts-delay": (TOKTTS.trainables[0], partial(toktts.toktts, pattern="delay", encoder_size=16)),
    "soundstorm-transformer": (
        SOUNDSTORM.trainables[0],
        partial(soundstorm.soundstorm, backbone="transformer", rope_on_keys=False),
    ),
    "soundstorm-uconformer": (
        SOUNDSTORM.trainables[0],
        partial(soundstorm.soundstorm, backbone="uconformer", n_layers=3, positions="t5", conv_causal=True),
    ),
    "flow_matching-uformer": (
        FLOW_MATCHING.trainables[0],
        partial(
            flow_matching.flow_matching, backbone="uformer", time_condition_size=6, start_from_cond=False
        ),
    ),
    "flow_matching-conformer": (
        FLOW_MATCHING.trainables[0],
        partial(flow_matching.flow_matching, backbone="conformer", time_condition_size=6, concat_cond=True),
    ),
}
TRAINABLES = {one.name: one for one in REGISTERED} | {
    name: dataclasses.replace(one, example=example) for name, (one, example) in VARIANTS.items()
}


@pytest.fixture(params=TRAINABLES)
def trainable(request) -> Trainable:
    return TRAINABLES[request.param]


@pytest.fixture
def example(trainable) -> Example:
    return trainable.example()


@pytest.fixture
def module(trainable, example) -> nn.Module:
    """Every parameter is random, also those that start at 0 or 1."""
    torch.manual_seed(3)
    module = trainable.module(example.config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def run(module: nn.Module, example: Example, rows=None, padding: Padding | None = None) -> list[Tensor]:
    """The valid part of each row's output."""
    rows = example.rows if rows is None else rows
    output = module(**example.batch(rows, padding or Padding()))
    return [example.part(one, row) for one, row in zip(output, rows, strict=True)]


def assert_rows_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_rows_differ_in_length(example, module):
    assert len({len(one) for one in run(module, example)}) > 1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("junk", [0, 5])
def test_padding_changes_nothing(module, example, side, junk):
    assert_rows_equal(run(module, example, padding=Padding(4, side, junk)), run(module, example))


def test_a_row_alone_gives_what_it_gives_in_a_batch(module, example):
    alone = [run(module, example, [row])[0] for row in example.rows]
    assert_rows_equal(alone, run(module, example))


def test_what_is_hidden_is_not_seen(module, example):
    if example.hide is None:
        pytest.skip("nothing is hidden from this network")
    changed = [example.hide(row) for row in example.rows]
    assert any(
        not torch.equal(row[name], other[name])
        for row, other in zip(example.rows, changed, strict=True)
        for name in row
    )
    twice = [example.hide(row) for row in changed]
    assert_rows_equal(run(module, example, changed), run(module, example, twice))


def test_gradients_reach_every_parameter(module, example):
    sum(one.square().sum() for one in run(module, example)).backward()
    for name, parameter in module.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (name not in example.no_gradient), name


def test_bfloat16_is_finite(module, example):
    inputs = example.batch(example.rows, Padding())
    module = module.to(torch.bfloat16)
    inputs = {
        key: value.to(torch.bfloat16) if value.dtype is torch.float32 and value.dim() > 1 else value
        for key, value in inputs.items()
    }
    assert module(**inputs).isfinite().all()


def test_a_new_network_starts_with_plain_norms(trainable, example):
    gains = [(n, p) for n, p in trainable.module(example.config).named_parameters() if ".gain." in n]
    for name, parameter in gains:
        assert (parameter == (1 if name.endswith("bias") else 0)).all(), name
    assert gains or "maskgct" not in trainable.name


def test_a_state_dict_brings_it_back(trainable, module, example):
    loaded = trainable.module(example.config).eval()
    loaded.load_state_dict(module.state_dict())
    for one, other in zip(run(loaded, example), run(module, example), strict=True):
        assert torch.equal(one, other)


def test_a_directory_brings_it_back(trainable, module, example, tmp_path):
    if trainable not in REGISTERED:
        pytest.skip(f"{trainable.name} is not registered")
    save_generator(module, trainable.name, tmp_path / "generator")
    name, loaded = load_generator(tmp_path / "generator")
    assert name == trainable.name
    assert loaded.config == module.config
    for one, other in zip(run(loaded, example), run(module, example), strict=True):
        assert torch.equal(one, other)


def test_configurations_are_frozen_dataclasses(trainable, example):
    assert isinstance(example.config, trainable.config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(example.config, dataclasses.fields(example.config)[0].name, 1)
