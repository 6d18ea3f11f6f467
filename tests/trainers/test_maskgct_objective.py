"""The masked objectives: what is counted, what may not matter, what is learned, what is exported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.generators import load_generator
from models.text.front_ends import text_front_end
from trainers.objectives import DataInfo, objective_class
from trainers.objectives.generator import TextBatch, pad_tokens
from trainers.plan import Item, Position
from trainers.store import Store

CODEC = "mill-16khz@1"
SIZES = {"hidden_size": 32, "n_layers": 2, "n_heads": 2, "feed_forward_size": 64}
FAMILIES = ("maskgct_t2s", "maskgct_s2a")


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256)


def build(family: str, info: DataInfo, **settings: Any) -> Any:
    kind = objective_class(family)
    chosen = kind.settings(**settings)
    torch.manual_seed(0)
    return kind(kind.model_config(**kind.derive(chosen, info), **SIZES), chosen, info)


def batch_of(info: DataInfo, lengths: tuple[int, ...] = (30, 17, 4, 1), seed: int = 0) -> TextBatch:
    codes = torch.randint(
        info.codebook_size,
        (len(lengths), info.n_codebooks, max(lengths)),
        generator=torch.Generator().manual_seed(seed),
    )
    for row, length in enumerate(lengths):
        codes[row, :, length:] = 0
    ids = tuple(f"row{row}" for row in range(len(lengths)))
    tokens = tokens_of("some words"[: 1 + 3 * row] for row in range(len(lengths)))
    return TextBatch(Position(0, 0), ids, 8 * sum(lengths), codes, torch.tensor(lengths), *tokens)


def tokens_of(texts: Iterable[str]) -> tuple[Tensor, Tensor]:
    return pad_tokens([text_front_end({"kind": "bytes"}).encode(text) for text in texts])


@torch.no_grad()
def loss_of(objective: Any, batch: TextBatch, seed: int = 1) -> Any:
    return objective.eval().loss(batch, "generator", torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_an_untrained_network_is_that_of_chance(family: str, info: DataInfo) -> None:
    loss = loss_of(build(family, info), batch_of(info))
    assert 0 < int(loss.count) <= 52
    assert float(loss.sum / loss.count) == pytest.approx(torch.tensor(1024.0).log().item(), rel=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_holds_nothing(family: str, info: DataInfo) -> None:
    batch = batch_of(info)
    spoiled = batch.codes_BQT.clone()
    for row, length in enumerate(batch.lengths_B.tolist()):
        spoiled[row, :, length:] = 77
    objective = build(family, info)
    left, right = loss_of(objective, batch), loss_of(objective, replace(batch, codes_BQT=spoiled))
    assert left.count == right.count
    assert float(left.sum) == pytest.approx(float(right.sum), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dropped_text_has_no_influence(family: str, info: DataInfo) -> None:
    batch = batch_of(info)
    text_BL, mask_BL = tokens_of(("quite", "another", "text", "here"))
    other = replace(batch, text_BL=text_BL, text_mask_BL=mask_BL)
    deaf, hearing = build(family, info, text_drop_prob=1.0), build(family, info, text_drop_prob=0.0)
    assert float(loss_of(deaf, batch).sum) == pytest.approx(float(loss_of(deaf, other).sum), rel=1e-6)
    assert float(loss_of(hearing, batch).sum) != pytest.approx(float(loss_of(hearing, other).sum), rel=1e-6)


def test_the_levels_to_learn_follow_the_schedule(info: DataInfo) -> None:
    objective = build("maskgct_s2a", info, first_level=1)
    drawn = objective.corrupted(
        batch_of(info, (5,) * 512), torch.Generator().manual_seed(0), objective.weights_Q
    )
    counts = torch.bincount(drawn.levels_B, minlength=8)
    assert counts[0] == 0
    assert counts[1] > counts[6]
    with pytest.raises(ValueError, match="first_level is 8: must be from 0 to 7"):
        build("maskgct_s2a", info, first_level=8)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_can_be_learned_by_heart(family: str, info: DataInfo) -> None:
    objective = build(family, info, text_drop_prob=0.0, prompt_drop_prob=1.0, min_mask_prob=0.5)
    batch = batch_of(info, (12, 9))
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)
    losses = []
    for step in range(40):
        loss = objective.loss(batch, "generator", torch.Generator().manual_seed(step % 4))
        mean = loss.sum / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(float(mean.detach()))
    assert min(losses[-4:]) < 0.5 * losses[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_length_of_their_rows_and_repeat(family: str, info: DataInfo) -> None:
    objective = build(family, info, sample_steps=2).eval()
    objective.prepare_samples()
    batch = batch_of(info, (6, 3))
    first = objective.samples(batch, torch.Generator().manual_seed(3))
    again = objective.samples(batch, torch.Generator().manual_seed(3))
    assert [sample.name for sample in first] == [
        "row0-generated",
        "row1-generated",
        "row0-recorded",
        "row1-recorded",
    ]
    assert [len(sample.wave_T) for sample in first] == [6 * 320, 3 * 320] * 2
    assert all(torch.equal(a.wave_T, b.wave_T) for a, b in zip(first, again, strict=True))


def test_data_of_other_codec_weights_cannot_be_heard(info: DataInfo) -> None:
    objective = build("maskgct_t2s", replace(info, codec_sha256="0123456789abcdef"))
    with pytest.raises(ValueError, match="made by mill-16khz@1 with the weights 0123456789ab, which are now"):
        objective.prepare_samples()


@pytest.mark.parametrize("family", FAMILIES)
def test_export_can_be_loaded_and_started_from(family: str, info: DataInfo, tmp_path: Path) -> None:
    objective = build(family, info)
    objective.export(tmp_path / "export")
    name, module = load_generator(tmp_path / "export")
    assert name == family
    assert text_front_end(json.loads((tmp_path / "export" / "text.json").read_text())).encode("a")
    other = build(family, info)
    torch.nn.init.ones_(next(other.network.parameters()))
    other.warm_start(tmp_path / "export")
    for key, value in module.state_dict().items():
        assert torch.equal(other.network.state_dict()[key], value)
    stranger = FAMILIES[1 - FAMILIES.index(family)]
    with pytest.raises(ValueError, match=f"holds a {family} of .*, not a {stranger}"):
        build(stranger, info).warm_start(tmp_path / "export")


def test_frames_per_token_counts_the_tokens_of_the_front_end(info: DataInfo, tmp_path: Path) -> None:
    """Begin and end count: 4 and 6 tokens have 30 and 40 frames, so 5 a token and 10 a word."""
    codes = [[[0] * 30] * 8, [[0] * 40] * 8]
    pq.write_table(pa.table({"text": ["ab", "abcd"], "codes": codes}), tmp_path / "rows.parquet")
    rows = Store.read([tmp_path / "rows.parquet"], signed=False)
    rule = build("maskgct_t2s", info).statistics(rows)
    assert rule == pytest.approx({"frames_per_token": 5.0, "frames_per_word": 10.0})


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_hold_codes_and_tokens_of_their_rows(family: str, info: DataInfo, tmp_path: Path) -> None:
    texts, codes = ["café", "", "b"], [[[row] * 3] * 8 for row in range(3)]
    pq.write_table(pa.table({"text": texts, "codes": codes}), tmp_path / "rows.parquet")
    rows, kind = Store.read([tmp_path / "rows.parquet"], signed=False), objective_class(family)
    items = [Item(row, 0, 3, seed=0) for row in (2, 0, 1)]
    batch = kind.collator(kind.settings(), info)(rows, items, Position(4, 2))
    assert batch.ids == ("rows.parquet:2", "rows.parquet:0", "rows.parquet:1")
    assert (batch.position, batch.n_tokens) == (Position(4, 2), 72)
    assert batch.codes_BQT[:, 0, 0].tolist() == [2, 0, 1]
    encode = text_front_end({"kind": "bytes"}).encode
    tokens = [ids[mask].tolist() for ids, mask in zip(batch.text_BL, batch.text_mask_BL, strict=True)]
    assert tokens == [encode("b"), encode("café"), encode("")]
    assert kind.needs(kind.settings(), info).columns == ("text",)
