"""RepCodec: rows stand alone, the two losses teach two sides, latents decide codes; what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from models.checkpoints import StateReader
from models.codecs.factorized import FactorizedCodebook, FactorizedResidualQuantizer, quantization_errors
from models.layers.masks import pad_rows
from models.manifest import Padding
from models.semantic import example
from models.semantic.checkpoint_amphion_repcodec import convert
from models.semantic.repcodec import RepCodec, RepCodecConfig

MADE = example.repcodec()
FEATURES = [row["features_TD"] for row in MADE.rows]


@pytest.fixture(scope="module")
def module() -> RepCodec:
    torch.manual_seed(0)
    module = RepCodec(MADE.config).eval()
    for parameter in module.parameters():
        parameter.data.copy_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("extra", "junk"), [(0, 0), (4, 0), (3, 9)])
@torch.no_grad()
def test_a_row_is_what_it_is_alone(module: RepCodec, side, extra: int, junk: int) -> None:
    features_BTD, mask_BT = pad_rows(FEATURES, extra, junk, side=side)
    latents_BTc, codes_BT = module.encode(features_BTD, mask_BT)
    found_BTD = module(features_BTD, mask_BT)
    for row, mask_T in enumerate(mask_BT):
        latents_1Tc, codes_1T = module.encode(FEATURES[row][None])
        torch.testing.assert_close(latents_BTc[row, mask_T], latents_1Tc[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(codes_BT[row, mask_T], codes_1T[0])
        alone_1TD = module(FEATURES[row][None])
        torch.testing.assert_close(found_BTD[row, mask_T], alone_1TD[0], rtol=1e-4, atol=1e-5)


def test_each_loss_teaches_its_own_side(module: RepCodec) -> None:
    inputs = MADE.batch(MADE.rows, Padding())
    mask_BT = inputs["mask_BT"]
    latents_BTc, codes_BT = module.encode(**inputs)
    vectors_BTc = module.codebook.vectors_Vc[codes_BT]
    commitment_B, codebook_B = quantization_errors(latents_BTc, vectors_BTc, mask_BT)
    torch.testing.assert_close(commitment_B, codebook_B)
    first = functional.mse_loss(latents_BTc[0][mask_BT[0]], vectors_BTc[0][mask_BT[0]])
    torch.testing.assert_close(commitment_B[0], first)

    def reached(loss: torch.Tensor) -> set[str]:
        module.zero_grad()
        loss.backward(retain_graph=True)
        return {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}

    encoding = {
        name
        for name, _ in module.named_parameters()
        if name.startswith(("encoder", "encoder_head", "codebook.project"))
    }
    assert reached(commitment_B.sum()) == encoding
    assert reached(codebook_B.sum()) == {"codebook.vectors_Vc"}
    decoded_BTD = module.reconstruct(latents_BTc, codes_BT, mask_BT)
    everything = {name for name, _ in module.named_parameters()}
    assert reached(decoded_BTD.square().sum()) == everything - {"codebook.vectors_Vc"}


def test_directions_and_distances_choose_codes_of_their_own() -> None:
    codebook = FactorizedCodebook(3, 2, 2)
    codebook.vectors_Vc.data = torch.tensor([[10.0, 0.0], [0.0, 0.1]])
    latents_BTc = torch.tensor([[[1.0, 0.9], [0.0, 5.0]]])
    assert codebook.nearest(latents_BTc).tolist() == [[0, 1]]
    assert codebook.nearest(latents_BTc, "euclidean").tolist() == [[1, 1]]


@given(st.integers(1, 3), st.integers(0, 99))
@torch.no_grad()
def test_later_levels_code_what_earlier_ones_left(levels: int, seed: int) -> None:
    torch.manual_seed(seed)
    quantizer = FactorizedResidualQuantizer(4, 6, 8, 3)
    latents_BTD = torch.randn(2, 5, 6)
    codes_BQT = quantizer.encode(latents_BTD)
    first_BQT = quantizer.encode(latents_BTD, levels)
    assert torch.equal(first_BQT, codes_BQT[:, :levels])
    level, left_BTD = quantizer.levels[levels], latents_BTD - quantizer.decode(first_BQT)
    assert torch.equal(level.nearest(level.project(left_BTD)), codes_BQT[:, levels])
    parts_BTD = quantizer.decode(first_BQT) + quantizer.decode(codes_BQT[:, levels:], levels)
    torch.testing.assert_close(parts_BTD, quantizer.decode(codes_BQT))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_quantizers": 2}, "num_quantizers is 2; only 1 is known"),
        ({"downsample_scale": 2}, "downsample_scale is 2; only 1 is known"),
        ({"vocos_layers": 2}, "unknown configuration key 'vocos_layers'"),
        ({"vocos_num_layers": 1, "vocos_dim": 4}, "encoder.0.embed.weight is missing"),
    ],
)
def test_what_does_not_fit_is_refused(config: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(config, StateReader("amphion-repcodec", {}))


def test_it_has_the_published_sizes() -> None:
    with torch.device("meta"):
        network = RepCodec(RepCodecConfig())
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 44.29


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="latent_size is 0; it must be a positive integer"):
        RepCodecConfig(latent_size=0)
