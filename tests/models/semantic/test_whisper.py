"""Whisper's encoder: the features of transformers' model with the same weights, rows by themselves, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.interface import Codes
from models.semantic.directory import save_directory
from models.semantic.hubert import Units, save_units
from models.semantic.source import EmbedderSource, TokenizerSource
from models.semantic.whisper import load
from models.tokenizer_sources import load_embedder, load_tokenizer

Noise = Callable[[int, int], Tensor]


@torch.no_grad()
def test_features_are_those_of_transformers(tiny_whisper: Path, tiny_whisper_hf: Path, noise: Noise) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    wave_T = noise(9_001, 1)
    mels = WhisperFeatureExtractor()(
        torch.cat([wave_T, torch.zeros(29 * 320 + 16_000 - 9_001)]).numpy(),
        sampling_rate=16_000,
        padding=False,
        return_tensors="pt",
    )["input_features"]
    encoder = WhisperModel.from_pretrained(tiny_whisper_hf).eval().encoder
    # transformers takes whole windows only; with fewer positions this is one.
    places = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[: mels.shape[2] // 2])
    encoder.embed_positions = places
    encoder.config.max_source_positions = places.num_embeddings
    expected_TD = encoder(mels).last_hidden_state[0, :29]
    found = load(tiny_whisper).embed(wave_T[None], torch.tensor([9_001]))
    assert found.lengths_B.tolist() == [29]
    torch.testing.assert_close(found.latents_BTD[0], expected_TD, atol=1e-4, rtol=1e-3)


def test_a_row_is_what_it_is_alone(tiny_whisper: Path, noise: Noise) -> None:
    embedder = load_embedder(EmbedderSource("whisper", str(tiny_whisper)))
    lengths = [16_000, 0, 1, 7_777]
    padded_BT = torch.full((4, 16_500), 0.7)
    for row, length in enumerate(lengths):
        padded_BT[row, :length] = noise(length, row)
    together = embedder.embed(padded_BT, torch.tensor(lengths))
    assert together.lengths_B.tolist() == [50, 0, 1, 25]
    for row, length in enumerate(lengths):
        alone = embedder.embed(padded_BT[row : row + 1, :length], torch.tensor([length]))
        frames = int(alone.lengths_B[0])
        assert torch.equal(together.latents_BTD[row, :frames], alone.latents_BTD[0])
        assert not together.latents_BTD[row, frames:].any()
    assert embedder.embed(torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64)).latents_BTD.shape[0] == 0


def test_cells_of_it_are_a_codec_of_content(tiny_whisper: Path, noise: Noise, tmp_path: Path) -> None:
    embedder = load(tiny_whisper)
    wave_BT, lengths_B = noise(8_000, 1)[None], torch.tensor([8_000])
    cells_VD = embedder.embed(wave_BT, lengths_B).latents_BTD[0, ::4]
    units = Units(embedder, cells_VD, "whisper-units")
    save_units(units, tmp_path / "cells")
    source = TokenizerSource(str(tmp_path / "cells"), str(tiny_whisper))
    save_directory(tmp_path / "cells", source, tmp_path / "whole")
    codec = load_codec(str(tmp_path / "whole"))
    for tokenizer in (load_tokenizer(source), codec):
        assert tokenizer.identity == units.identity
        assert torch.equal(
            tokenizer.encode(wave_BT, lengths_B).codes_BQT, units.encode(wave_BT, lengths_B).codes_BQT
        )
    codes_BQT = torch.tensor([[[0, 3, 1]]])
    assert torch.equal(codec.embed(codes_BQT)[0].T, cells_VD[[0, 3, 1]])
    with pytest.raises(
        ValueError, match="whisper-units@whisper-encoder makes semantic tokens; it cannot make a"
    ):
        codec.decode(Codes(codes_BQT, torch.tensor([3])))


def test_refusals(tiny_whisper: Path, noise: Noise, tmp_path: Path) -> None:
    embedder = load(tiny_whisper)
    longest = 29 * 16_000
    with pytest.raises(ValueError, match=f"a row has {longest + 1} samples; whisper takes at most {longest}"):
        embedder.embed(torch.zeros(1, longest + 1), torch.tensor([longest + 1]))
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be read: "):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")
    with pytest.raises(ValueError, match="model is empty; kind whisper needs one"):
        EmbedderSource("whisper")
    save_units(Units(embedder, torch.zeros(2, embedder.identity.channels)), tmp_path / "cells")
    with pytest.raises(
        ValueError, match="features is empty; must be the CTranslate2 directory of the Whisper"
    ):
        load_tokenizer(TokenizerSource(str(tmp_path / "cells")))
    described = json.loads((tmp_path / "cells" / "config.json").read_text())
    described["config"]["features"]["name"] = "other"
    (tmp_path / "cells" / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"features are 'other', must be hubert or w2v-bert-2\.0 or whisper"):
        load_tokenizer(TokenizerSource(str(tmp_path / "cells")))
    statistics = TokenizerSource(
        str(tmp_path / "cells"), str(tiny_whisper), statistics=str(tmp_path / "model.bin")
    )
    described["config"]["features"]["name"] = "whisper"
    (tmp_path / "cells" / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"are of w2v-BERT; .* holds another network"):
        load_tokenizer(statistics)
