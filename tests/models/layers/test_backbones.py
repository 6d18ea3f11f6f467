"""The four backbones: padding and condition, U-Net split, convolution, bias by distance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.backbones import Backbone, BackboneConfig
from models.layers.conformer import ConvolutionModule
from models.layers.masks import wanted_positions
from models.layers.relative_position import RelativePositionBias, distance_buckets

TINY = {"hidden_size": 12, "n_layers": 4, "n_heads": 3, "feed_forward_size": 16, "conv_kernel_size": 5}
KINDS = ["transformer", "uformer", "conformer", "uconformer"]
VARIANTS = [
    {"backbone": kind, **more}
    for kind in KINDS
    for more in ({}, {"positions": "t5"}, {"rope_on_keys": False})
] + [{"backbone": "uconformer", "conv_causal": True, "conv_kernel_size": 4}]


def build(condition_dim=0, **settings):
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(**(TINY | settings)), condition_dim)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return backbone.eval()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=8)
def test_padding_on_either_side_changes_nothing(variant, rows, conditioned, seed):
    backbone = build(5 if conditioned else 0, **variant)
    torch.manual_seed(seed)
    size = max(length + before for length, before in rows) + 2
    x, condition = torch.randn(len(rows), size, 12) * 3, torch.randn(len(rows), 5) if conditioned else None
    position = torch.arange(size)
    mask = torch.stack([(position >= before) & (position < before + length) for length, before in rows])
    with torch.no_grad():
        together = backbone(x, mask, condition)
        for row in range(len(rows)):
            alone_condition = None if condition is None else condition[row : row + 1]
            alone = backbone(x[row : row + 1, mask[row]], None, alone_condition)
            torch.testing.assert_close(together[row, mask[row]], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_wanted_positions_are_those_of_all_positions_with_their_gradients(variant, lengths, padded, seed):
    backbone = build(**variant)
    torch.manual_seed(seed)
    size = max(lengths)
    x = torch.randn(len(lengths), size, 12, requires_grad=True)
    mask = torch.arange(size) < torch.tensor(lengths)[:, None] if padded else None
    where = torch.rand(len(lengths), size) < 0.4
    where = where if mask is None else where & mask
    everywhere, there = backbone(x, mask)[where], backbone(x, mask, index_M=wanted_positions(where))
    torch.testing.assert_close(there, everywhere, rtol=1e-4, atol=1e-5)
    inputs, weights = [x, *backbone.parameters()], torch.randn_like(there)
    found, wanted = (torch.autograd.grad((y * weights).sum(), inputs) for y in (there, everywhere))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_conditioned_backbone_returns_all_positions():
    with pytest.raises(
        ValueError, match="index_M is given; a backbone with a condition returns all positions"
    ):
        build(5)(torch.randn(1, 3, 12), None, torch.randn(1, 5), torch.arange(2))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    for variant in ({}, {"positions": "t5"}):
        backbone = build(5, backbone=kind, **variant)
        backbone(torch.randn(2, 7, 12), None, torch.randn(2, 5)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in backbone.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_network_does_not_depend_on_its_condition(kind):
    backbone = Backbone(BackboneConfig(**TINY, backbone=kind), 5)
    x = torch.randn(2, 7, 12)
    with torch.no_grad():
        assert torch.equal(backbone(x, None, torch.randn(2, 5)), backbone(x, None, torch.randn(2, 5)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", ["rotary", "t5"])
def test_bfloat16_stays_close(kind, positions):
    backbone = build(5, backbone=kind, positions=positions)
    x, condition = torch.randn(2, 7, 12), torch.randn(2, 5)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    with torch.no_grad():
        exact = backbone(x, mask, condition)
        low = backbone.bfloat16()(x.bfloat16(), mask, condition.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact)[mask].square().mean() < 0.01 * exact[mask].square().mean()


def test_rotated_keys_matter():
    x = torch.randn(1, 7, 12)
    with torch.no_grad():
        on, off = (build(backbone="transformer", rope_on_keys=rotate)(x, None) for rotate in (True, False))
    assert not torch.allclose(on, off, atol=1e-3)


@pytest.mark.parametrize(("n_layers", "n_skips"), [(12, 5), (4, 1), (3, 1), (2, 0), (1, 0)])
def test_skips_leave_a_bottleneck(n_layers, n_skips):
    sizes = TINY | {"n_layers": n_layers}
    assert len(Backbone(BackboneConfig(**sizes, backbone="uformer")).joins) == n_skips
    assert not Backbone(BackboneConfig(**sizes, backbone="conformer")).joins


@given(st.booleans(), st.integers(1, 6), st.integers(0, 8))
@settings(deadline=None, max_examples=30)
def test_the_convolution_reaches_as_far_as_its_kernel(causal, kernel_size, changed):
    module = ConvolutionModule(4, 2, kernel_size, causal=causal)
    x, other = torch.randn(1, 9, 4), torch.randn(4)
    altered = x.clone()
    altered[0, changed] = other
    with torch.no_grad():
        differs = (module(x, None) != module(altered, None)).any(-1)[0]
    before = kernel_size - 1 if causal else kernel_size // 2
    reached = [changed - (kernel_size - 1 - before) <= at <= changed + before for at in range(9)]
    assert differs.tolist() == reached


def test_distances_fall_into_growing_buckets():
    distance = torch.tensor([0, 1, 7, 8, 11, 12, 16, 64, 127, 128, 5000])
    near_and_far = [0, 1, 7, 8, 8, 9, 10, 14, 15, 15, 15]
    assert distance_buckets(-distance, 32, max_distance=128).tolist() == near_and_far
    assert distance_buckets(distance, 32, max_distance=128).tolist() == [
        0,
        *(b + 16 for b in near_and_far[1:]),
    ]


def test_the_bias_is_that_of_the_distance():
    bias = RelativePositionBias(3, scale=2.0)
    scores = bias(6)
    assert scores.shape == (1, 3, 6, 6)
    assert torch.equal(scores[0, :, 2, 5], scores[0, :, 0, 3])
    assert torch.equal(scores[0, :, 5, 4], 2 * bias.table.weight[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backbone": "unet"},
            "backbone is 'unet'; it must be one of transformer, uformer, conformer, uconformer",
        ),
        ({"positions": "alibi"}, "positions is 'alibi'; it must be one of rotary, t5"),
        ({"conv_kernel_size": 0}, "conv_kernel_size is 0; it must be a positive integer"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"hidden_size": 9}, "hidden_size is 9 with n_heads 3; it must be a multiple of 2 \\* n_heads = 6"),
        ({"hidden_size": 8, "positions": "t5"}, "it must be a multiple of n_heads = 3"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        BackboneConfig(**(TINY | change))
