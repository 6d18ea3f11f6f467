"""Training of MaskGCT with semantic tokens: what batches hold, what is counted, which levels are learned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.codec_sources import load_codec
from models.generators import load_generator
from models.identity import TokenIdentity
from trainers.objectives import DataInfo, objective_class
from trainers.objectives.lengths import length_rule
from trainers.plan import Item, Position
from trainers.store import Store

CODEC = "mill-16khz@1"
FAMILIES = ("maskgct_semantic_t2s", "maskgct_semantic_s2a")
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 32}
UNITS = TokenIdentity("units", "1", "", 16000, 640, 1, 50)
"""A semantic tokenizer of half the codec's frame rate."""
LENGTHS, PHONES = (30, 17, 4, 2), (["h", "ə", "lˈ", "oʊ"], ["a"], ["b", "c"], ["d"])


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256, columns={"semantic_codes": UNITS})


def store(folder: Path, **columns: Any) -> Store:
    draws = torch.Generator().manual_seed(0)
    table = {
        "id": [f"row{row}" for row in range(len(LENGTHS))],
        "text": ["x"] * len(LENGTHS),
        "phonemes": PHONES,
        "codes": [torch.randint(1024, (8, n), generator=draws).tolist() for n in LENGTHS],
        "semantic_codes": [list(range(-(-n // 2))) for n in LENGTHS],
    } | columns
    pq.write_table(pa.table(table), folder / "rows.parquet")
    return Store.read([folder / "rows.parquet"], signed=False, columns=["phonemes", "semantic_codes"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store(tmp_path_factory.mktemp("rows"))


def build(family: str, info: DataInfo, **settings: Any) -> Any:
    kind = objective_class(family)
    chosen = kind.settings(**settings)
    torch.manual_seed(0)
    return kind(kind.model_config(**{**SIZES, **kind.derive(chosen, info)}), chosen, info)


def batch_of(objective: Any, rows: Store, wanted: tuple[int, ...] = (0, 1, 2, 3)) -> Any:
    items = [Item(row, 0, int(rows.lengths[row]), seed=row) for row in wanted]
    settings = type(objective).settings()
    return type(objective).collator(settings, objective.data)(rows, items, Position(0, 0))


def loss_of(objective: Any, batch: Any, seed: int = 1) -> Any:
    with torch.no_grad():
        return objective.eval().loss(batch, "generator", torch.Generator().manual_seed(seed))


def test_t2s_reads_semantic_tokens_at_their_own_rate(info: DataInfo, rows: Store) -> None:
    objective = build("maskgct_semantic_t2s", info)
    batch = batch_of(objective, rows)
    assert batch.lengths_B.tolist() == [15, 9, 2, 1]
    assert batch.codes_BQT[0, 0].tolist() == list(range(15))
    assert batch.n_tokens == 27
    assert objective.network.config.codebook_size == 50
    # h ə l ˈ o ʊ between begin and end.
    assert batch.text_mask_BL.sum(1).tolist() == [8, 3, 4, 3]
    texts = [rows.text(row) for row in range(4)]
    assert objective.statistics(rows) == length_rule([8, 3, 4, 3], texts, [15, 9, 2, 1])
    assert objective.needs(objective.settings(), info).columns == ("phonemes", "semantic_codes")
    half = objective.collator(objective.settings(), info)(rows, [Item(0, 10, 20, seed=0)], Position(0, 0))
    assert half.codes_BQT[0, 0].tolist() == list(range(5, 15))


def test_a_row_whose_tokens_do_not_fit_its_codes_is_named(info: DataInfo, tmp_path: Path) -> None:
    wrong = store(tmp_path, semantic_codes=[[1] * 15, [1] * 9, [1] * 9, [1]])
    objective = build("maskgct_semantic_t2s", info)
    with pytest.raises(ValueError, match="row row2: units has 9 frames beside 4 of mill-16khz"):
        batch_of(objective, wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_data_that_name_no_tokenizer_are_refused(family: str, info: DataInfo) -> None:
    with pytest.raises(ValueError, match="nothing says which tokenizer made the column semantic_codes"):
        build(family, replace(info, columns={}))


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_holds_nothing(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info)
    batch = batch_of(objective, rows)
    codes_BQT = batch.codes_BQT.clone()
    for row, length in enumerate(batch.lengths_B.tolist()):
        codes_BQT[row, :, length:] = 7
    left, right = loss_of(objective, batch), loss_of(objective, replace(batch, codes_BQT=codes_BQT))
    assert 0 < int(left.count) <= int(batch.lengths_B.sum())
    assert float(left.sum) == pytest.approx(float(right.sum), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "levels"),
    [({}, range(8)), ({"n_levels": 1}, range(1)), ({"first_level": 1}, range(1, 8))],
    ids=["all", "1-layer", "full"],
)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_levels_are_learned_by_the_schedule(
    settings: dict[str, int], levels: range, schedule: str, info: DataInfo, rows: Store
) -> None:
    objective = build("maskgct_semantic_s2a", info, layer_schedule=schedule, **settings)
    batch = batch_of(objective, rows, (0, 1, 2, 3) * 32)
    seen = []
    objective.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    loss = objective.loss(batch, "generator", torch.Generator().manual_seed(1))
    loss.sum.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
    assert (objective.network.heads.weight_QVD.grad.abs().sum((1, 2)) > 0).all()
    counts = torch.bincount(seen[0][5], minlength=8)
    assert set(counts.nonzero()[:, 0].tolist()) == set(levels)
    assert counts[levels[0]] >= counts[levels[-1]]


def test_prompts_of_s2a_are_shorter_than_half_of_a_row(info: DataInfo, rows: Store) -> None:
    objective = build("maskgct_semantic_s2a", info, prompt_drop_prob=0.0)
    seen = []
    objective.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    loss_of(objective, batch_of(objective, rows, (0,) * 200))
    _, _, masked_BT, prompt_mask_BT, *_ = seen[0]
    lengths = prompt_mask_BT.sum(1)
    assert (int(lengths.min()), int(lengths.max())) == (5, 14)
    assert not (masked_BT & prompt_mask_BT).any()
    assert masked_BT.any(1).all()


def test_wrong_levels_are_named(info: DataInfo) -> None:
    with pytest.raises(ValueError, match=r"n_levels is 9; the codec mill-16khz@1 has 8"):
        build("maskgct_semantic_s2a", info, n_levels=9)
    with pytest.raises(ValueError, match="first_level is 1; it must be from 0 to 0, the last of 1 codebooks"):
        build("maskgct_semantic_s2a", info, n_levels=1, first_level=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_can_be_learned_by_heart(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info, min_mask_prob=0.5)
    batch = batch_of(objective, rows, (2, 3))
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    losses = []
    for step in range(80):
        loss = objective.loss(batch, "generator", torch.Generator().manual_seed(step % 2))
        mean = loss.sum / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(float(mean.detach()))
    assert max(losses[-2:]) < 0.5 * min(losses[:2])


def test_samples_have_as_many_levels_as_the_network(info: DataInfo, rows: Store) -> None:
    for settings in ({"n_levels": 1}, {"first_level": 1}):
        objective = build("maskgct_semantic_s2a", info, sample_steps=2, **settings).eval()
        objective.prepare_samples()
        made = objective.samples(batch_of(objective, rows, (2, 3)), torch.Generator().manual_seed(3))
        assert [sample.name.split("-")[1] for sample in made] == ["generated"] * 2 + ["recorded"] * 2
        assert [len(sample.wave_T) for sample in made] == [4 * 320, 2 * 320] * 2
    speechless = build("maskgct_semantic_t2s", info)
    assert speechless.samples(batch_of(speechless, rows), torch.Generator()) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_export_says_which_tokenizers_it_needs(family: str, info: DataInfo, tmp_path: Path) -> None:
    objective = build(family, info)
    objective.export(tmp_path)
    name, module = load_generator(tmp_path)
    assert (name, module.config) == (family, objective.network.config)
    assert objective.codecs()["semantic"] == UNITS
    assert ("codec" in objective.codecs()) == (family == "maskgct_semantic_s2a")
    if family == "maskgct_semantic_t2s":
        assert json.loads((tmp_path / "text.json").read_text())["kind"] == "phonemes"
