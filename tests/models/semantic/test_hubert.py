"""HuBERT's features are those of transformers; its units are nearest cells; cells belong to their features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.semantic.hubert import Hubert, Units, load, load_units, save_units

Noise = Callable[[int, int], Tensor]
LENGTHS = [16_000, 399, 400, 0, 7_777]


@pytest.fixture
def hubert(hubert_directory: Path) -> Hubert:
    return load(hubert_directory, 2)


def padded(waves: list[Tensor]) -> tuple[Tensor, Tensor]:
    padded_BT = torch.full((len(waves), max(map(len, waves)) + 999), 0.7)
    for row_T, wave_T in zip(padded_BT, waves, strict=True):
        row_T[: len(wave_T)] = wave_T
    return padded_BT, torch.tensor([len(wave_T) for wave_T in waves])


@torch.no_grad()
def test_features_are_a_hidden_state_of_transformers(hubert_directory: Path, noise: Noise) -> None:
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    model = HubertModel.from_pretrained(hubert_directory).eval()
    wave_T = noise(9_000, 1)
    given = Wav2Vec2FeatureExtractor()(wave_T.numpy(), sampling_rate=16_000, return_tensors="pt")
    hidden = model(given["input_values"], output_hidden_states=True).hidden_states
    for layer in (1, 2):
        found = load(hubert_directory, layer).embed(wave_T[None], torch.tensor([9_000]))
        assert found.lengths_B.tolist() == [hidden[layer].shape[1]] == [(9_000 - 400) // 320 + 1]
        torch.testing.assert_close(found.latents_BTD, hidden[layer], rtol=1e-4, atol=1e-4)


def test_a_row_is_what_it_is_alone(hubert: Hubert, noise: Noise) -> None:
    waves = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
    together = hubert.embed(*padded(waves))
    assert together.lengths_B.tolist() == [49, 0, 1, 0, 24]
    for row, wave_T in enumerate(waves):
        alone = hubert.embed(wave_T[None], torch.tensor([len(wave_T)]))
        frames = int(alone.lengths_B[0])
        assert torch.equal(together.latents_BTD[row, :frames], alone.latents_BTD[0])
        assert not together.latents_BTD[row, frames:].any()


def test_units_are_the_nearest_cells(hubert: Hubert, noise: Noise, tmp_path: Path) -> None:
    waves = padded([noise(8_000, 1), noise(5_000, 2)])
    features = hubert.embed(*waves)
    cells_VD = features.latents_BTD[0, ::3]
    units = Units(hubert, cells_VD)
    codes = units.encode(*waves)
    assert codes.lengths_B.tolist() == features.lengths_B.tolist()
    distances_TV = torch.cdist(features.latents_BTD[1, : codes.lengths_B[1]], cells_VD)
    assert torch.equal(codes.codes_BQT[1, 0, : codes.lengths_B[1]], distances_TV.argmin(dim=1))
    assert codes.codes_BQT[0, 0, ::3].tolist() == list(range(len(cells_VD)))
    save_units(units, tmp_path / "units")
    again = load_units(tmp_path / "units", hubert)
    assert again.identity == units.identity
    assert torch.equal(again.encode(*waves).codes_BQT, codes.codes_BQT)
    assert (units.name, units.edition, units.codebook_size) == (
        "hubert-units",
        "hubert-layer-2",
        len(cells_VD),
    )


def test_cells_belong_to_their_features(hubert_directory: Path, hubert: Hubert, tmp_path: Path) -> None:
    save_units(Units(hubert, torch.randn(4, 16)), tmp_path / "units")
    with pytest.raises(ValueError, match=r"holds cells of hubert@layer-2 .*, not of hubert@layer-1"):
        load_units(tmp_path / "units", load(hubert_directory, 1))
    with pytest.raises(ValueError, match="cells have 15 channels; hubert@layer-2 has 16"):
        Units(hubert, torch.randn(4, 15))
    with pytest.raises(ValueError, match=r"layer is 4; .* has layers 1 to 3"):
        load(hubert_directory, 4)
