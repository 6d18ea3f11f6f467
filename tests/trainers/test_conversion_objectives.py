"""SoundStorm and flow matching: where the loss looks, what may not matter, what is learned, what batches hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.codec_sources import load_codec
from models.codecs.interface import Codes
from models.codecs.latents import codebooks
from models.generators import load_generator
from models.identity import TokenIdentity
from models.soundstorm.network import SoundStorm
from trainers.objectives import DataInfo, Objective, objective_class
from trainers.plan import Item, Position
from trainers.store import Store

CODEC = "mill-16khz@1"
FAMILIES = ("soundstorm", "flow_matching", "flow_matching_hierarchical")
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 32, "conv_kernel_size": 5}
UNITS = TokenIdentity("units", "1", "", 16000, 640, 1, 50)
"""A semantic tokenizer of half the codec's frame rate."""
LENGTHS = (30, 17, 4, 2)


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    columns = {"semantic_codes": UNITS, "latents": codec.latents}
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256, columns=columns)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Random codes, with semantic tokens that count half as fast as frames, and latents that say their frame."""
    draws = np.random.default_rng(0)
    table = {
        "id": [f"row{row}" for row in range(len(LENGTHS))],
        "text": ["x"] * len(LENGTHS),
        "codes": [draws.integers(0, 1024, (8, n)).tolist() for n in LENGTHS],
        "semantic_codes": [list(range(-(-n // 2))) for n in LENGTHS],
        "latents": [np.repeat(np.arange(n, dtype="<f2")[:, None], 80, 1).tobytes() for n in LENGTHS],
    }
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(table), path)
    return Store.read([path], signed=False, columns=["semantic_codes", "latents"])


def build(family: str, info: DataInfo, model: dict[str, Any] | None = None, **settings: Any) -> Any:
    kind = objective_class(family)
    chosen = kind.settings(**settings)
    torch.manual_seed(0)
    return kind(kind.model_config(**{**SIZES, **(model or {}), **kind.derive(chosen, info)}), chosen, info)


def batch_of(objective: Any, rows: Store, wanted: tuple[int, ...] = (0, 1, 2, 3)) -> Any:
    settings = getattr(objective, "choices", None) or type(objective).settings()
    items = [Item(row, 0, int(rows.lengths[row]), seed=row) for row in wanted]
    return type(objective).collator(settings, objective.data)(rows, items, Position(0, 0))


def loss_of(objective: Objective[Any], batch: Any, seed: int = 1) -> Any:
    with torch.no_grad():
        return objective.eval().loss(batch, "generator", torch.Generator().manual_seed(seed))


def spoiled(batch: Any) -> Any:
    """The same rows with junk at their padding."""
    codes_BQT, semantic_BT = batch.codes_BQT.clone(), batch.semantic_BT.clone()
    for row, length in enumerate(batch.lengths_B.tolist()):
        codes_BQT[row, :, length:] = 77
        semantic_BT[row, length:] = 7
    return replace(batch, codes_BQT=codes_BQT, semantic_BT=semantic_BT)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_holds_nothing(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info)
    batch = batch_of(objective, rows)
    left, right = loss_of(objective, batch), loss_of(objective, spoiled(batch))
    assert 0 < int(left.count) <= sum(LENGTHS)
    assert left.count == right.count
    assert float(left.sum) == pytest.approx(float(right.sum), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info)
    # As many rows as make all levels be drawn.
    batch = batch_of(objective, rows, (0, 1, 2, 3) * 16)
    objective.loss(batch, "generator", torch.Generator().manual_seed(1)).sum.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_can_be_learned_by_heart(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info)
    batch = batch_of(objective, rows, (2, 3))
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)
    losses = []
    for step in range(40):
        loss = objective.loss(batch, "generator", torch.Generator().manual_seed(step % 2))
        mean = loss.sum / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(float(mean.detach()))
    assert max(losses[-2:]) < 0.5 * min(losses[:2])


def test_an_untrained_soundstorm_guesses_by_chance(info: DataInfo, rows: Store) -> None:
    objective = build("soundstorm", info)
    loss = loss_of(objective, batch_of(objective, rows, (0, 1) * 20))
    assert float(loss.sum / loss.count) == pytest.approx(torch.tensor(1024.0).log().item(), rel=0.05)


def test_the_loss_is_taken_where_one_level_is_masked(
    info: DataInfo, rows: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = build("soundstorm", info)
    batch = batch_of(objective, rows)
    seen: dict[str, Any] = {}
    plain = SoundStorm.forward

    def watched(self: SoundStorm, *inputs: Any) -> Any:
        seen["inputs"], seen["logits"] = inputs, plain(self, *inputs)
        return seen["logits"]

    monkeypatch.setattr(SoundStorm, "forward", watched)
    loss = loss_of(objective, batch)
    semantic_BT, codes_BTQ, masked_BT, _, _, levels_B, _ = seen["inputs"]
    assert torch.equal(semantic_BT, batch.codes_BQT[:, 0])
    assert torch.equal(codes_BTQ, batch.codes_BQT[:, 1:].transpose(1, 2))
    assert seen["logits"].shape == (int(masked_BT.sum()), 1024)
    wanted = [
        codes_BTQ[row, frame, levels_B[row]]
        for row in range(len(LENGTHS))
        for frame in range(codes_BTQ.shape[1])
        if masked_BT[row, frame]
    ]
    by_hand = torch.nn.functional.cross_entropy(seen["logits"], torch.stack(wanted), reduction="sum")
    assert float(loss.sum) == pytest.approx(float(by_hand), rel=1e-6)
    assert int(loss.count) == len(wanted)


def test_the_flow_learns_sums_of_vectors_given_those_of_the_first_level(info: DataInfo, rows: Store) -> None:
    objective = build("flow_matching", info)
    batch = batch_of(objective, rows)
    codec = load_codec(CODEC)
    torch.testing.assert_close(objective.latents(batch), codec.embed(batch.codes_BQT).transpose(1, 2))
    first_BDT = codec.embed(batch.codes_BQT[:, :1])
    torch.testing.assert_close(objective.semantic(batch), first_BDT.transpose(1, 2))


def test_the_error_of_given_frames_does_not_count(info: DataInfo, rows: Store) -> None:
    """A network that answers 0 leaves the squared velocity of the hidden frames."""
    objective = build("flow_matching", info, condition_drop_prob=0.0)
    torch.nn.init.zeros_(objective.network.head.weight)
    batch = batch_of(objective, rows)
    latents, semantic = objective.latents(batch), objective.semantic(batch)
    drawn = objective._corrupted(batch, latents, semantic, torch.Generator().manual_seed(1))
    expected = drawn.velocity_BTZ.square().mean(-1)[drawn.hidden_BT].sum()
    loss = loss_of(objective, batch)
    assert float(loss.sum) == pytest.approx(float(expected), rel=1e-5)
    assert int(loss.count) == int(drawn.hidden_BT.sum()) < sum(LENGTHS)
    given_BT = drawn.prompt_BTZ.abs().sum(-1) > 0
    assert not (given_BT & drawn.hidden_BT).any()


@pytest.mark.parametrize("model", [{"explicit": True}, {"start_from_cond": False}, {"concat_cond": True}])
def test_every_path_can_be_trained(model: dict[str, Any], info: DataInfo, rows: Store) -> None:
    objective = build("flow_matching", info, {**model, "sigma": 0.01}, prompts="span")
    assert torch.isfinite(loss_of(objective, batch_of(objective, rows)).sum)


@pytest.mark.parametrize("family", ["soundstorm", "flow_matching_hierarchical"])
def test_semantic_tokens_of_another_rate_are_read_at_the_frames(
    family: str, info: DataInfo, rows: Store
) -> None:
    objective = build(family, info, semantic="semantic_codes")
    assert objective.network.config.n_semantic_tokens == 50
    batch = batch_of(objective, rows)
    assert batch.semantic_BT[1].tolist() == [frame // 2 for frame in range(17)] + [0] * 13
    assert objective.needs(objective.choices, info).columns == ("semantic_codes",)
    settings = objective.choices
    window = type(objective).collator(settings, info)(rows, [Item(0, 7, 5, seed=0)], Position(0, 0))
    assert window.semantic_BT[0].tolist() == [3, 4, 4, 5, 5]
    assert objective.codecs()["semantic"] == UNITS


def test_soundstorm_makes_all_levels_of_a_hierarchical_codec(info: DataInfo) -> None:
    assert build("soundstorm", info).network.config.n_codebooks == 7
    assert build("soundstorm", info, semantic="semantic_codes").network.config.n_codebooks == 8
    with pytest.raises(ValueError, match="the codec mill-16khz@1 has one level; semantic: codebook_0 needs"):
        build("soundstorm", replace(info, n_codebooks=1))


def test_stored_latents_are_learned_as_they_are(info: DataInfo, rows: Store) -> None:
    objective = build("flow_matching_hierarchical", info, latents="latents", semantic="codebook_0")
    assert objective.network.config.latents == "continuous"
    assert objective.needs(objective.choices, info).columns == ("latents",)
    batch = batch_of(objective, rows)
    assert objective.latents(batch)[0, :, 3].tolist() == list(range(30))
    assert objective.latents(batch)[3, 1:, 0].tolist() == [1.0] + [0.0] * 28
    assert torch.isfinite(loss_of(objective, batch).sum)


def test_columns_without_a_maker_are_refused(info: DataInfo) -> None:
    unknown = replace(info, columns={})
    with pytest.raises(ValueError, match="nothing says which tokenizer made the column semantic_codes"):
        build("soundstorm", unknown, semantic="semantic_codes")
    slow = replace(info, columns={"latents": replace(info.columns["latents"], hop_length=640)})
    with pytest.raises(
        ValueError, match="have 25 frames per second, the codes of mill-16khz@1 50; they must"
    ):
        build("flow_matching_hierarchical", slow, semantic="codebook_0", latents="latents")


def test_tokens_of_another_length_are_refused(info: DataInfo, rows: Store) -> None:
    fast = replace(info, columns={"semantic_codes": replace(UNITS, hop_length=320)})
    objective = build("soundstorm", fast, semantic="semantic_codes")
    with pytest.raises(
        ValueError, match="row row0: units has 15 frames beside 30 of mill-16khz; expected 30"
    ):
        batch_of(objective, rows)


def test_embeddings_can_start_as_the_vectors_of_the_codec(info: DataInfo) -> None:
    table_QVD = codebooks(load_codec(CODEC))
    soundstorm = build("soundstorm", info, {"hidden_size": 80}, embeddings="codebooks")
    soundstorm.initialise([], torch.Generator())
    network = soundstorm.network
    assert torch.equal(network.semantic_table.weight, table_QVD[0])
    assert torch.equal(network.code_table.weight[:1024], table_QVD[1])
    assert torch.equal(network.code_table.weight[6 * 1025 : 6 * 1025 + 1024], table_QVD[7])
    flow = build("flow_matching_hierarchical", info, semantic="codebook_0", embeddings="codebooks")
    flow.initialise([], torch.Generator())
    assert torch.equal(flow.network.semantic_table.weight, table_QVD[0])
    with pytest.raises(ValueError, match="embeddings is 'codebooks' with semantic 'semantic_codes'"):
        build("flow_matching_hierarchical", info, embeddings="codebooks")


def test_vectors_of_another_size_are_projected_alike(info: DataInfo) -> None:
    objective = build("soundstorm", info, embeddings="codebooks")
    masks = objective.network.code_table.weight[1024].clone()
    objective.initialise([], torch.Generator().manual_seed(0))
    network = objective.network
    assert float(network.semantic_table.weight.detach().square().mean()) == pytest.approx(1.0, rel=1e-4)
    # The sum of embeddings is the embedding of the sum, as it is of the codec's vectors.
    table_QVD = codebooks(load_codec(CODEC))
    whole = table_QVD[0, 5] + table_QVD[1, 9]
    found = network.semantic_table.weight[5] + network.code_table.weight[9]
    weight_DE = torch.linalg.lstsq(table_QVD[0], network.semantic_table.weight).solution
    torch.testing.assert_close(found, whole @ weight_DE, rtol=1e-3, atol=1e-3)
    assert torch.equal(network.code_table.weight[1024], masks)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_to_start_from_are_kept(family: str, info: DataInfo, tmp_path: Path) -> None:
    settings = {} if family == "flow_matching" else {"semantic": "codebook_0", "embeddings": "codebooks"}
    objective = build(family, info, **settings)
    objective.export(tmp_path / "export")
    name, module = load_generator(tmp_path / "export")
    assert name == family
    other = build(family, info, **settings)
    torch.nn.init.ones_(next(other.network.parameters()))
    other.warm_start(tmp_path / "export")
    other.initialise([], torch.Generator())
    for key, value in module.state_dict().items():
        assert torch.equal(other.network.state_dict()[key], value), key
    stranger = "soundstorm" if family != "soundstorm" else "flow_matching"
    with pytest.raises(ValueError, match=f"holds a {family} of .*, not a {stranger}"):
        build(stranger, info).warm_start(tmp_path / "export")


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_continue_the_first_third_of_a_row(family: str, info: DataInfo, rows: Store) -> None:
    settings = {} if family == "flow_matching" else {"semantic": "codebook_0"}
    objective = build(family, info, sample_steps=1, **settings).eval()
    objective.prepare_samples()
    batch = batch_of(objective, rows, (1, 2))
    first = objective.samples(batch, torch.Generator().manual_seed(3))
    again = objective.samples(batch, torch.Generator().manual_seed(3))
    assert [one.name for one in first] == [
        "row1-generated",
        "row2-generated",
        "row1-recorded",
        "row2-recorded",
    ]
    assert [len(one.wave_T) for one in first] == [17 * 320, 4 * 320] * 2
    assert all(torch.equal(a.wave_T, b.wave_T) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].wave_T, first[2].wave_T)
    real = load_codec(CODEC).decode(Codes(batch.codes_BQT[:1], batch.lengths_B[:1])).wave_BT[0]
    torch.testing.assert_close(first[2].wave_T, real, rtol=0, atol=1e-4)
