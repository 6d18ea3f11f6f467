"""SpeechTokenizer's reach, its published folders, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints import StateReader
from models.codecs.source import first_levels
from models.codecs.speechtokenizer.checkpoint_speechtokenizer import convert, files
from models.codecs.speechtokenizer.codec import SpeechTokenizerCodec, load_directory, save_directory
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork

TINY = SpeechTokenizerConfig(
    ratios=(5, 2),
    n_codebooks=2,
    codebook_size=4,
    channels=2,
    latent_channels=6,
    semantic_channels=6,
    n_residual_units=2,
)
PUBLISHED = {
    "n_filters": 2,
    "strides": [5, 2],
    "dimension": 6,
    "semantic_dimension": 4,
    "codebook_size": 4,
    "n_q": 2,
    "activation": "Snake",
}


@pytest.mark.parametrize("activation", ["elu", "snake"])
def test_the_layers_at_sample_rate_reach_no_further_than_said(activation: Any) -> None:
    torch.manual_seed(0)
    network, hop, middle = SpeechTokenizerNetwork(replace(TINY, activation=activation)), TINY.hop_length, 20

    def reach(part: nn.Module, given: Tensor, place: slice) -> tuple[int, int]:
        given.requires_grad_()
        part(given)[0, :, place].sum().backward()
        assert given.grad is not None
        touched = torch.nonzero(given.grad[0].abs().sum(dim=0)).flatten()
        return int(touched.min()), int(touched.max())

    encoder, decoder = network.encoder, network.decoder
    low, high = reach(encoder.front, torch.randn(1, 1, 40 * hop), slice(middle, middle + 1))
    context = encoder.piece_context
    assert (middle - context) * hop <= low < high < (middle + 1 + context) * hop
    low, high = reach(decoder.back, torch.randn(1, 8, 40), slice(middle * hop, (middle + 1) * hop))
    context = decoder.piece_context
    assert middle - context <= low < high <= middle + context


def test_a_published_folder_becomes_a_codec(tmp_path: Path) -> None:
    ours = SpeechTokenizerNetwork(replace(TINY, semantic_channels=4, n_residual_units=1, activation="snake"))
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED | {"num_mels": 80, "betas": [0.9, 0.99]}))
    torch.save(as_published(ours), tmp_path / "SpeechTokenizer.pt")
    config, weights = files(tmp_path)
    network = convert(config, StateReader("speechtokenizer", weights))
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, msg=key)
    save_directory(network, tmp_path / "codec")
    codec = load_directory(tmp_path / "codec")
    assert (codec.name, codec.sample_rate, codec.hop_length) == ("speechtokenizer", 16_000, 10)
    semantic = first_levels(codec, 1)
    assert isinstance(semantic, SpeechTokenizerCodec)
    assert semantic.encode(torch.randn(1, 95), torch.tensor([95])).codes_BQT.shape == (1, 1, 10)


def as_published(network: SpeechTokenizerNetwork) -> dict[str, Tensor]:
    """Its state by the reference's names, of which only one LSTM and the places of layers differ from ours."""
    renamed: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        front = len(network.get_submodule(f"{side}.front"))
        for key, value in network.get_submodule(side).state_dict().items():
            part, number, rest = key.split(".", 2)
            name = f"{side}.model.{int(number) + (front if part == 'back' else 0)}.{rest}"
            split = "conv.weight" in rest or "conv.bias" in rest
            if split:
                kind = "convtr.convtr" if is_transposed(network, f"{side}.{part}.{number}") else "conv.conv"
                name = name.replace("conv.weight", f"{kind}.weight").replace("conv.bias", f"{kind}.bias")
            if name.endswith(".weight"):
                base = name.removesuffix(".weight")
                length = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
                renamed |= {f"{base}.weight_v": 3 * value, f"{base}.weight_g": length}
            else:
                renamed[name] = value
    for level, codebook_VD in enumerate(network.quantizer.codebooks_QVD):
        prefix = f"quantizer.vq.layers.{level}._codebook"
        renamed |= {f"{prefix}.embed": codebook_VD, f"{prefix}.inited": torch.ones(1)}
    return renamed | {f"transform.{key}": value for key, value in network.semantic_head.state_dict().items()}


def is_transposed(network: SpeechTokenizerNetwork, name: str) -> bool:
    return isinstance(getattr(network.get_submodule(name), "conv", None), nn.ConvTranspose1d)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "ReLU"}, "activation is 'ReLU'; it must be ELU or Snake"),
        ({"n_quantizers": 8}, "unknown configuration key 'n_quantizers'"),
        ({}, "encoder.model.0.conv.conv.weight_v is missing"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(PUBLISHED | change, StateReader("speechtokenizer", {}))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold config.json and SpeechTokenizer\.pt"):
        files(tmp_path)
