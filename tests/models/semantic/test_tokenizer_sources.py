"""Semantic tokenizers from directories: each kind is found, and what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.codecs.interface import Tokenizer
from models.semantic.hubert import Units, load, save_units
from models.semantic.repcodec import RepCodec
from models.semantic.source import TokenizerSource
from models.semantic.tokenizer import SemanticTokenizer
from models.tokenizer_sources import load_tokenizer

SIZES = {
    "codebook_size": 16,
    "hidden_size": 32,
    "codebook_dim": 4,
    "vocos_dim": 12,
    "vocos_intermediate_dim": 16,
    "vocos_num_layers": 2,
}


def codes_of(tokenizer: Tokenizer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    wave_BT = 0.5 * torch.randn(1, 16_000, generator=generator).cumsum(1).sin()
    codes = tokenizer.encode(wave_BT, torch.tensor([16_000]))
    assert codes.codes_BQT.shape[1] == tokenizer.identity.n_codebooks == 1
    assert 0 <= int(codes.codes_BQT.min()) <= int(codes.codes_BQT.max()) < tokenizer.codebook_size
    return codes.codes_BQT


def released(network: RepCodec) -> dict[str, torch.Tensor]:
    """The network under the names of amphion/MaskGCT, projections as direction and length."""
    names = {"enter": "embed", "enter_norm": "norm", "norm": "final_layer_norm"}
    inner = {"depthwise": "dwconv", "norm": "norm", "widen": "pwconv1", "narrow": "pwconv2"}
    state = {}
    for key, value in network.state_dict().items():
        part, _, rest = key.partition(".")
        first, *others = rest.split(".")
        if part == "codebook" and first == "vectors_Vc":
            state["quantizer.quantizers.0.codebook.weight"] = value
        elif part == "codebook":
            project = f"quantizer.quantizers.0.{ {'project': 'in_project', 'expand': 'out_project'}[first] }"
            if others == ["bias"]:
                state[f"{project}.bias"] = value
            else:
                state[f"{project}.weight_v"] = 3 * value[..., None]
                state[f"{project}.weight_g"] = value.norm(dim=1)[:, None, None]
        elif part.endswith("_head"):
            state[f"{part.removesuffix('_head')}.1.{rest}"] = value
        elif first == "blocks":
            block, name, *last = others
            under = ["gamma"] if name == "scale" else [inner[name], *last]
            state[".".join([f"{part}.0.convnext.{block}", *under])] = value
        else:
            state[".".join([f"{part}.0.{names[first]}", *others])] = value
    return state


def test_repcodec_on_w2vbert(semantic_parts: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(TokenizerSource(**semantic_parts))
    assert isinstance(tokenizer, SemanticTokenizer)
    assert tokenizer.identity.source == "repcodec@w2v-bert-2.0-layer-2-normalised"
    assert tokenizer.latents.channels == 4
    assert codes_of(tokenizer).shape == (1, 1, 49)
    plain = load_tokenizer(TokenizerSource(**{**semantic_parts, "statistics": ""}))
    distant = load_tokenizer(TokenizerSource(**semantic_parts, metric="euclidean"))
    made = [one.identity for one in (tokenizer, plain, distant)]
    assert len({one.digest for one in made}) == 3


def test_a_release_and_its_import_are_the_same_tokenizer(
    semantic_parts: dict[str, Any], tmp_path: Path
) -> None:
    """Wherever the file lies: alone, or in MaskGCT's folder `semantic_codec`."""
    ours = load_tokenizer(TokenizerSource(**semantic_parts))
    assert isinstance(ours, SemanticTokenizer)
    folder = tmp_path / "release" / "semantic_codec"
    folder.mkdir(parents=True)
    save_file(
        {key: value.clone() for key, value in released(ours.repcodec).items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(SIZES))
    for place in (tmp_path / "release", tmp_path / "release" / "semantic_codec"):
        theirs = load_tokenizer(TokenizerSource(**{**semantic_parts, "tokenizer": str(place)}))
        assert torch.equal(codes_of(theirs), codes_of(ours))


def test_units_name_their_features(hubert_directory: Path, tmp_path: Path) -> None:
    hubert = load(hubert_directory, 2)
    units = Units(hubert, torch.randn(8, 16, generator=torch.Generator().manual_seed(1)))
    save_units(units, tmp_path / "units")
    source = TokenizerSource(str(tmp_path / "units"), features=str(hubert_directory))
    found = load_tokenizer(source)
    assert found.identity == units.identity
    assert torch.equal(codes_of(found), codes_of(units))


def test_the_first_level_of_a_codec() -> None:
    tokenizer = load_tokenizer(TokenizerSource("mill-16khz"))
    assert tokenizer.n_codebooks == 1
    codes_of(tokenizer)


def test_refusals(semantic_parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer 'pcm-16khz' codes samples; it has no semantic level"):
        load_tokenizer(TokenizerSource("pcm-16khz"))
    with pytest.raises(ValueError, match="tokenizer is empty; must be"):
        TokenizerSource("")
    with pytest.raises(ValueError, match="layer is 0, must be at least 1"):
        TokenizerSource("x", layer=0)
    with pytest.raises(ValueError, match="'nothing'"):
        load_tokenizer(TokenizerSource("nothing"))
    config = Path(semantic_parts["tokenizer"]) / "config.json"
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(config.read_text()), "family": "codec"}))
    with pytest.raises(ValueError, match=f"{tmp_path} holds a codec; a semantic tokenizer is a repcodec"):
        load_tokenizer(TokenizerSource(**{**semantic_parts, "tokenizer": str(tmp_path)}))
