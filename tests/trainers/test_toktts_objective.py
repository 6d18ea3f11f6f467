"""Teacher forcing of toktts: what is counted, what may not matter, what is learned, what is exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.codec_sources import load_codec
from models.generators import load_generator
from models.text.front_ends import text_front_end
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS
from models.toktts.patterns import Pattern
from trainers.objectives import DataInfo
from trainers.objectives.generator import TextBatch, pad_tokens
from trainers.objectives.toktts import NOT_LEARNED, TokTTSObjective, TokTTSSettings, taught
from trainers.plan import Item, Position
from trainers.settings import load_fit, model_settings, objective_settings
from trainers.store import Store

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CODEC = "mill-16khz@1"
SIZES = {"encoder_size": 16, "encoder_layers": 1, "encoder_heads": 2}
SIZES |= {"decoder_size": 16, "decoder_layers": 1, "decoder_heads": 2, "token_positions": 256}
KINDS: dict[str, dict[str, Any]] = {
    "interleave": {},
    "published": {"code_ids": "shared", "encoder_attention": "causal"},
    "delay": {"pattern": "delay"},
}
LENGTHS = (30, 17, 4, 1)


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256)


def build(
    info: DataInfo, kind: str = "interleave", levels: int | None = 2, **settings: Any
) -> TokTTSObjective:
    chosen = TokTTSSettings(levels=levels, **settings)
    torch.manual_seed(0)
    derived = TokTTSObjective.derive(chosen, info)
    return TokTTSObjective(TokTTSConfig(**derived, **(SIZES | KINDS[kind])), chosen, info)


def batch_of(info: DataInfo, lengths: tuple[int, ...] = LENGTHS, levels: int = 2) -> TextBatch:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(info.codebook_size, (len(lengths), levels, max(lengths)), generator=generator)
    for row, length in enumerate(lengths):
        codes[row, :, length:] = 0
    ids = tuple(f"row{row}" for row in range(len(lengths)))
    encode = text_front_end({"kind": "byt5"}).encode
    tokens = pad_tokens([encode("some words"[: 1 + 3 * row]) for row in range(len(lengths))])
    return TextBatch(Position(0, 0), ids, levels * sum(lengths), codes, torch.tensor(lengths), *tokens)


def rows_of(batch: TextBatch, *rows: int) -> TextBatch:
    """Some rows, padded no more than they need."""
    chosen = list(rows)
    frames, text = int(batch.lengths_B[chosen].max()), int(batch.text_mask_BL[chosen].sum(1).max())
    return replace(
        batch,
        ids=tuple(batch.ids[row] for row in rows),
        codes_BQT=batch.codes_BQT[chosen, :, :frames],
        lengths_B=batch.lengths_B[chosen],
        text_BL=batch.text_BL[chosen, :text],
        text_mask_BL=batch.text_mask_BL[chosen, :text],
    )


@torch.no_grad()
def loss_of(objective: TokTTSObjective, batch: TextBatch) -> Any:
    return objective.eval().loss(batch, "generator", torch.Generator())


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_and_one_stop_a_row_are_counted(kind: str, info: DataInfo) -> None:
    objective = build(info, kind)
    loss = loss_of(objective, batch_of(info))
    assert int(loss.count) == 2 * sum(LENGTHS) + len(LENGTHS)
    chance = torch.tensor(float(objective.network.pattern.n_ids)).log().item()
    assert float(loss.sum / loss.count) == pytest.approx(chance, rel=0.05)
    assert loss.metrics["accuracy"][1] == loss.count


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 3), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_inputs_are_the_targets_one_step_later(kind: str, levels: int, lengths: list[int]) -> None:
    pattern: Pattern = TokTTSConfig(9, levels, 5, **KINDS[kind]).tokens()
    codes = torch.randint(5, (len(lengths), levels, max(lengths) + 2))
    found = taught(pattern, codes, torch.tensor(lengths))
    assert (found.tokens_BSK[:, 0] == pattern.start).all()
    for row, n in enumerate(lengths):
        written = pattern.write(codes[row, :, :n])
        learned = found.targets_BSK[row] != NOT_LEARNED
        assert int(learned.sum()) == levels * n + 1
        assert torch.equal(found.targets_BSK[row][learned], written[learned[: len(written)]])
        assert torch.equal(found.tokens_BSK[row, 1 : len(written)], written[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_add_up_and_padding_holds_nothing(kind: str, info: DataInfo) -> None:
    objective, batch = build(info, kind), batch_of(info)
    spoiled = batch.codes_BQT.clone()
    for row, length in enumerate(LENGTHS):
        spoiled[row, :, length:] = 77
    text_BL = batch.text_BL.masked_fill(~batch.text_mask_BL, 88)
    whole = loss_of(objective, replace(batch, codes_BQT=spoiled, text_BL=text_BL))
    alone = [loss_of(objective, rows_of(batch, row)) for row in range(len(LENGTHS))]
    assert int(whole.count) == sum(int(one.count) for one in alone)
    assert float(whole.sum) == pytest.approx(sum(float(one.sum) for one in alone), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_count_by_their_weights(kind: str, info: DataInfo) -> None:
    batch = batch_of(info)
    plain, first, second = (
        loss_of(build(info, kind, level_weights=weights), batch) for weights in ((), (2.0, 0.0), (0.0, 0.5))
    )
    codes = sum(LENGTHS)
    assert (int(first.count), int(second.count)) == (2 * (codes + len(LENGTHS)), codes // 2)
    assert float(first.sum / 2 + second.sum / 0.5) == pytest.approx(float(plain.sum), rel=1e-5)
    total, count = plain.metrics["loss_first_level"].tolist()
    assert total / count == pytest.approx(float(first.sum / first.count), rel=1e-5)


@pytest.mark.parametrize("settings", [{"hidden_tokens": 0.5}, {"textless": 0.5}])
def test_training_alone_hides_what_the_generator_says(settings: dict[str, float], info: DataInfo) -> None:
    batch = batch_of(info)
    plain, hiding = build(info), build(info, **settings)
    assert float(loss_of(plain, batch).sum) == float(loss_of(hiding, batch).sum)

    def loss(seed: int) -> float:
        return float(hiding.loss(batch, "generator", torch.Generator().manual_seed(seed)).sum.detach())

    hiding.train()
    for dropout in (module for module in hiding.modules() if isinstance(module, torch.nn.Dropout)):
        dropout.eval()
    hiding.network.config = replace(
        hiding.network.config, encoder_attention_dropout=0.0, decoder_attention_dropout=0.0
    )
    assert loss(1) == loss(1)
    assert len({round(loss(seed), 2) for seed in range(4)}) > 1


def test_dropout_follows_the_generator(info: DataInfo) -> None:
    objective, batch = build(info).train(), batch_of(info)

    def loss(seed: int) -> float:
        return float(objective.loss(batch, "generator", torch.Generator().manual_seed(seed)).sum.detach())

    first = loss(1)
    state = torch.get_rng_state()
    assert loss(1) == first
    assert loss(2) != first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_can_be_learned_by_heart(kind: str, info: DataInfo) -> None:
    objective, batch = build(info, kind), batch_of(info, (12, 9))
    objective.network.eval()
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)
    for _ in range(60):
        loss = objective.loss(batch, "generator", torch.Generator())
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    assert float(loss.metrics["accuracy"][0] / loss.count) > 0.9


def test_samples_are_heard_and_repeat(info: DataInfo) -> None:
    objective, batch = build(info).eval(), batch_of(info, (6, 3))
    objective.prepare_samples()
    first, again = (objective.samples(batch, torch.Generator().manual_seed(3)) for _ in range(2))
    names = [f"row{row}-{what}" for what in ("generated", "recorded") for row in (0, 1)]
    assert [sample.name for sample in first] == names
    assert [len(sample.wave_T) for sample in first[2:]] == [6 * 320, 3 * 320]
    assert 0 < len(first[0].wave_T) <= 12 * 320
    assert all(torch.equal(a.wave_T, b.wave_T) for a, b in zip(first, again, strict=True))


def test_export_can_be_loaded_and_started_from(info: DataInfo, tmp_path: Path) -> None:
    objective = build(info)
    objective.export(tmp_path)
    name, module = load_generator(tmp_path)
    assert name == "toktts"
    description = json.loads((tmp_path / "text.json").read_text(encoding="utf-8"))
    assert description == {"kind": "byt5", "normalize": "transcript"}
    other = build(info)
    torch.nn.init.ones_(other.network.token_tables_KVD)
    other.warm_start(tmp_path)
    for key, value in module.state_dict().items():
        assert torch.equal(other.network.state_dict()[key], value)
    with pytest.raises(ValueError, match=r"holds a toktts of .*, not a toktts of"):
        build(info, "delay").warm_start(tmp_path)


def test_batches_hold_the_levels_and_the_seconds_that_are_learned(info: DataInfo, tmp_path: Path) -> None:
    texts, codes = (
        ["café", "b"],
        [[[row * 10 + level] * (60 - 50 * row) for level in range(8)] for row in range(2)],
    )
    pq.write_table(pa.table({"text": texts, "codes": codes}), tmp_path / "rows.parquet")
    rows = Store.read([tmp_path / "rows.parquet"], signed=False)
    settings = TokTTSSettings(levels=2, clip_audio_secs=1.0)
    items = [Item(0, 0, 60, seed=0), Item(1, 0, 10, seed=0)]
    batch = TokTTSObjective.collator(settings, info)(rows, items, Position(0, 0))
    assert batch.lengths_B.tolist() == [50, 10]
    assert batch.n_tokens == 2 * 60
    assert batch.codes_BQT[:, :, 0].tolist() == [[0, 1], [10, 11]]
    assert batch.text_BL[0, batch.text_mask_BL[0]].tolist() == [byte + 3 for byte in "café".encode()] + [1]
    whole = TokTTSObjective.collator(TokTTSSettings(), info)(rows, items, Position(0, 0))
    assert whole.codes_BQT.shape == (2, 8, 60)


def test_another_front_end_decides_the_size_of_the_table(info: DataInfo) -> None:
    derived = TokTTSObjective.derive(TokTTSSettings(text={"kind": "bytes"}), info)
    assert derived == {"text_vocab_size": 258, "n_codebooks": 8, "codebook_size": 1024}


def test_what_does_not_fit_is_refused(info: DataInfo) -> None:
    with pytest.raises(ValueError, match="levels is 9; the codes have 8"):
        TokTTSObjective.derive(TokTTSSettings(levels=9), info)
    with pytest.raises(ValueError, match=r"clip_audio_secs is 0.0; it must be above 0"):
        TokTTSSettings(clip_audio_secs=0.0)
    with pytest.raises(ValueError, match="level_weights has 1 numbers; there are 8 levels"):
        TokTTSObjective.derive(TokTTSSettings(level_weights=(1.0,)), info)
    for weights in ((1.0, -1.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="none may be negative, and one must be above 0"):
            TokTTSSettings(level_weights=weights)
    with pytest.raises(ValueError, match=r"hidden_tokens is 1.0; it must be in \[0, 1\)"):
        TokTTSSettings(hidden_tokens=1.0)
    with pytest.raises(ValueError, match=r"textless is -0.1; it must be in \[0, 1\)"):
        TokTTSSettings(textless=-0.1)
    with pytest.raises(ValueError, match="a row has 128 frames; the network takes at most 127"):
        loss_of(build(info), batch_of(info, (128,)))


PARAMETERS = {"first_working": 1.39, "ex_small": 4.95, "ex": 18.61, "small_train": 26.18}
"""Millions, of the published networks."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_configurations_have_the_published_sizes(name: str) -> None:
    settings = load_fit(CONFIGS / "toktts" / f"{name}.yaml")
    data = DataInfo("encodec", 24_000, 320, 8, 1024, 1.0)
    objective = objective_settings(settings, data)
    config = model_settings(settings, objective, data)
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in TokTTS(config).parameters())
    assert found / 1e6 == pytest.approx(PARAMETERS[name], abs=0.006)
    assert objective.frames(data) == 150


@pytest.mark.parametrize("folder", ["tiny", "digits"])
def test_our_configurations_are_complete(folder: str, info: DataInfo) -> None:
    settings = load_fit(CONFIGS / folder / "toktts.yaml")
    config = model_settings(settings, objective_settings(settings, info), info)
    assert config.n_codebooks == 8
    assert config.most_frames > settings.data.batch.max_token_length
