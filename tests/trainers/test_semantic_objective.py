"""RepCodec's objective: windows in time, padding that holds nothing, gradients, what is learned, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from catalog.appending import Appender
from catalog.creation import create
from catalog.shards import write_shard
from catalog.token_columns import pack_latents
from models.codec_sources import load_codec
from models.codecs.factorized import quantization_errors
from models.generators import load_generator
from models.identity import TokenIdentity
from trainers.objectives import DataInfo, objective_class
from trainers.objectives.semantic import FeatureBatch, RepCodecObjective, RepCodecSettings
from trainers.plan import Item, Position
from trainers.store import Store

FEATURES = TokenIdentity("w2v-bert-2.0", "1", "", 16000, 320, 0, 0, 12)
LENGTHS = (30, 17, 5)
"""Frames of the codes: 75 per second, the features' are 50."""
SIZES = {"codebook_size": 16, "latent_size": 4, "hidden_size": 8, "feed_forward_size": 16, "n_layers": 2}


@pytest.fixture
def info() -> DataInfo:
    return DataInfo("any@1", 24000, 320, 8, 1024, 8.0, columns={"latents": FEATURES})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Random features whose first channel says their frame."""
    draws = np.random.default_rng(0)
    latents = []
    for length in LENGTHS:
        features = draws.standard_normal((-(-length * 2 // 3), 12)).astype("<f2")
        features[:, 0] = np.arange(len(features))
        latents.append(features.tobytes())
    table = {
        "id": [f"row{row}" for row in range(len(LENGTHS))],
        "text": ["x"] * len(LENGTHS),
        "codes": [draws.integers(0, 1024, (8, n)).tolist() for n in LENGTHS],
        "latents": latents,
    }
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(table), path)
    return Store.read([path], signed=False, columns=["latents"])


def build(info: DataInfo, **settings: Any) -> RepCodecObjective:
    kind = objective_class("repcodec")
    chosen = kind.settings(**settings)
    torch.manual_seed(0)
    made = kind(kind.model_config(**SIZES, **kind.derive(chosen, info)), chosen, info)
    assert isinstance(made, RepCodecObjective)
    return made


def batch_of(info: DataInfo, rows: Store, *items: Item) -> FeatureBatch:
    wanted = items or tuple(Item(row, 0, n, seed=row) for row, n in enumerate(LENGTHS))
    return RepCodecObjective.collator(RepCodecSettings(), info)(rows, wanted, Position(0, 0))


def test_windows_are_taken_at_the_features_own_rate(info: DataInfo, rows: Store) -> None:
    assert RepCodecObjective.needs(RepCodecSettings(), info).columns == ("latents",)
    batch = batch_of(info, rows, Item(0, 0, 30, 0), Item(0, 12, 9, 0), Item(1, 15, 9, 0))
    assert batch.lengths_B.tolist() == [20, 6, 2]
    assert batch.n_tokens == 28
    assert batch.ids == ("row0", "row0", "row1")
    frames = [
        row[:length, 0].tolist() for row, length in zip(batch.features_BTD, batch.lengths_B, strict=True)
    ]
    assert frames == [list(range(20)), list(range(8, 14)), [10, 11]]
    assert not batch.features_BTD[1, 6:].any()


def test_the_loss_is_the_weighted_sum_of_its_errors(info: DataInfo, rows: Store) -> None:
    batch = batch_of(info, rows, Item(0, 0, 30, 0))
    objective = build(info, reconstruction_weight=2.0)
    network = objective.network
    latents_BTc, codes_BT = network.encode(batch.features_BTD)
    decoded_BTD = network.reconstruct(latents_BTc, codes_BT)
    ones_BT = torch.ones(1, 20, dtype=torch.bool)
    commitment_B, codebook_B = quantization_errors(
        latents_BTc, network.codebook.vectors_Vc[codes_BT], ones_BT
    )
    error = (decoded_BTD - batch.features_BTD).abs().mean()
    loss = objective.loss(batch, "generator", torch.Generator())
    expected = 2.0 * error + 0.15 * commitment_B[0] + codebook_B[0]
    torch.testing.assert_close(loss.sum / loss.count, expected)
    assert int(loss.count) == 20
    torch.testing.assert_close(loss.metrics["reconstruction"], torch.stack([error.detach() * 20, loss.count]))


def test_padding_holds_nothing(info: DataInfo, rows: Store) -> None:
    objective, batch = build(info), batch_of(info, rows)
    features_BTD = batch.features_BTD.clone()
    for row, length in enumerate(batch.lengths_B.tolist()):
        features_BTD[row, length:] = 9.0
    spoiled = replace(batch, features_BTD=features_BTD)
    plain, padded = (objective.loss(one, "generator", torch.Generator()) for one in (batch, spoiled))
    assert plain.count == padded.count == int(batch.lengths_B.sum())
    torch.testing.assert_close(plain.sum, padded.sum)


def test_gradients_reach_every_parameter_and_a_batch_is_learned(info: DataInfo, rows: Store) -> None:
    objective, batch = build(info), batch_of(info, rows)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = objective.loss(batch, "generator", torch.Generator())
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in objective.parameters())
        optimizer.step()
        losses.append(float(loss.sum.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_what_it_exports_is_read_again_and_started_from(info: DataInfo, tmp_path: Path) -> None:
    objective = build(info)
    objective.export(tmp_path)
    family, module = load_generator(tmp_path)
    assert family == "repcodec"
    torch.testing.assert_close(module.state_dict(), objective.network.state_dict(), rtol=0, atol=0)
    other = build(info)
    torch.nn.init.zeros_(other.network.codebook.vectors_Vc)
    other.warm_start(tmp_path)
    assert torch.equal(other.network.codebook.vectors_Vc, objective.network.codebook.vectors_Vc)
    assert objective.codecs() == {"features": FEATURES}


def test_what_does_not_fit_is_refused(info: DataInfo, rows: Store) -> None:
    with pytest.raises(ValueError, match="commitment_weight is -1; it must not be negative"):
        RepCodecSettings(commitment_weight=-1)
    with pytest.raises(ValueError, match="nothing says which tokenizer made the column latents"):
        build(replace(info, columns={}))
    coarse = replace(info, columns={"latents": replace(FEATURES, hop_length=1280)})
    with pytest.raises(ValueError, match=r"row row0: w2v-bert-2\.0 has 20 frames beside 30 of any"):
        batch_of(coarse, rows)


def test_the_configuration_that_comes_with_it_trains_on_a_dataset(command: Any, tmp_path: Path) -> None:
    """As after `embed --dataset`: in small, with a column of the catalog."""
    codec = load_codec("mill-16khz@1").identity
    appender = Appender(create(tmp_path / "data", codec, {}, {"latents": FEATURES}))
    appender.committed()
    draws = np.random.default_rng(0)
    for split, count in (("train", 6), ("validation", 2)):
        rows = [
            {
                "id": f"{split}-{row}",
                "recording_id": f"{split}-{row}",
                "text": "x",
                "codes": draws.integers(0, 1024, (8, 10 + row)).tolist(),
                "target_length": 10 + row,
                "duration_s": 0.02 * (10 + row),
                "split": split,
                "latents": pack_latents(draws.standard_normal((10 + row, 12))),
            }
            for row in range(count)
        ]
        table = pa.Table.from_pylist(rows)
        appender.append(write_shard(table, appender.uri, "test", codec, {"latents": FEATURES}))
    config = Path(__file__).parents[2] / "configs" / "maskgct" / "repcodec.yaml"
    sets = {
        "model": SIZES,
        "data.dataset": appender.uri,
        "loop": {"max_steps": 2, "validate_every": 2},
        "register": None,
        "tracking.enabled": False,
        "output": str(tmp_path / "run"),
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    code, result, error = command("fit", str(config), *words)
    assert code == 0, error
    assert (result["steps"], result["left_out"]) == (2, {})
    name, module = load_generator(tmp_path / "run" / "export")
    assert (name, module.config.feature_size, module.config.codebook_size) == ("repcodec", 12, 16)
