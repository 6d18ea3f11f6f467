"""VALL-E's objectives: what is counted, where prompts come from, what is learned, what is exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.codec_sources import load_codec
from models.generators import load_generator, save_generator
from models.layers.masks import length_mask
from models.system import SpeakRequest
from models.system_files import load_system, save_system
from models.text.front_ends import text_front_end
from models.valle.growth import grown
from trainers.data import Batches
from trainers.objectives import DataInfo, objective_class
from trainers.objectives.valle import PromptedBatch, ValleSettings, prompt_of
from trainers.plan import BatchConfig, Item, Position
from trainers.store import Store

CODEC = "mill-16khz@1"
SIZES = {"hidden_size": 32, "n_layers": 2, "n_heads": 2, "dropout": 0.0, "prompt_levels": 4}
FAMILIES = ("valle_ar", "valle_nar")
LENGTHS = (40, 25, 30, 12)


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256)


@pytest.fixture(scope="module")
def rows(info: DataInfo, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four utterances: three of one speaker, one of another. A row's codes are its number and the frame's."""
    codes = [
        [[100 * row + frame for frame in range(length)]] * info.n_codebooks
        for row, length in enumerate(LENGTHS)
    ]
    table = {"text": ["one", "two words", "x", "last"], "codes": codes, "speaker": ["a", "a", "a", "b"]}
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(table), path)
    return Store.read([path], signed=False, columns=["text", "speaker"])


def build(family: str, info: DataInfo, model: dict[str, Any] | None = None, **settings: Any) -> Any:
    kind = objective_class(family)
    chosen = kind.settings(**settings)
    torch.manual_seed(0)
    return kind(kind.model_config(**{**kind.derive(chosen, info), **SIZES, **(model or {})}), chosen, info)


def batch_of(
    family: str, info: DataInfo, rows: Store, chosen: Sequence[int] = (0, 1, 3), **settings: Any
) -> PromptedBatch:
    kind = objective_class(family)
    items = [Item(row, 0, LENGTHS[row], 5 + row, (2,)) for row in chosen]
    batch = kind.collator(kind.settings(**settings), info)(rows, items, Position(0, 0))
    assert isinstance(batch, PromptedBatch)
    return batch


@torch.no_grad()
def loss_of(objective: Any, batch: PromptedBatch) -> Any:
    return objective.eval().loss(batch, "generator", torch.Generator().manual_seed(1))


def test_the_first_loss_counts_frames_stops_and_text(info: DataInfo, rows: Store) -> None:
    """Each row has a stop token; of n text tokens the first is given. Weighted targets change the mean."""
    batch = batch_of("valle_ar", info, rows)
    frames, tokens = 40 + 25 + 12 + 3, int(batch.text_mask_BL.sum()) - 3
    counts = {
        (weight, first): float(
            loss_of(build("valle_ar", info, text_loss_weight=weight, first_token=first), batch).count
        )
        for weight in (0.0, 0.5, 1.0)
        for first in ("learned", "ignored")
    }
    for (weight, first), count in counts.items():
        assert count == frames - 3 * (first == "ignored") + weight * tokens


def test_training_alone_hides_codes(info: DataInfo, rows: Store) -> None:
    """Where a code is hidden what comes before it is as it was, and the loss of no other row changes."""
    batch = batch_of("valle_ar", info, rows)
    plain, hiding = build("valle_ar", info), build("valle_ar", info, hidden_tokens=0.5)
    assert float(loss_of(plain, batch).sum) == float(loss_of(hiding, batch).sum)
    hiding.train()
    for dropout in (module for module in hiding.modules() if isinstance(module, torch.nn.Dropout)):
        dropout.eval()

    def loss(seed: int) -> float:
        return float(hiding.loss(batch, "generator", torch.Generator().manual_seed(seed)).sum.detach())

    assert loss(1) == loss(1)
    assert len({round(loss(seed), 3) for seed in range(4)}) > 1

    given, codes_BT = batch.conditions(hiding.network.config.prompt_levels), batch.codes_BQT[:, 0]
    mask_BT = length_mask(batch.lengths_B, codes_BT.shape[1])
    seen_BT = torch.ones_like(mask_BT)
    seen_BT[0, 7] = False
    whole, hidden = (
        hiding.network(*given.inputs(), codes_BT, mask_BT, seen_BT=seen) for seen in (None, seen_BT)
    )
    torch.testing.assert_close(hidden[0, :8], whole[0, :8])
    torch.testing.assert_close(hidden[1:], whole[1:])
    assert not torch.allclose(hidden[0, 8], whole[0, 8])


def test_the_other_loss_counts_frames(info: DataInfo, rows: Store) -> None:
    assert int(loss_of(build("valle_nar", info), batch_of("valle_nar", info, rows)).count) == 40 + 25 + 12


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_other_rows_do_not_matter(family: str, info: DataInfo, rows: Store) -> None:
    objective, batch = build(family, info), batch_of(family, info, rows)
    spoiled = replace(
        batch,
        codes_BQT=batch.codes_BQT + 7 * (torch.arange(40) >= batch.lengths_B[:, None, None]),
        text_BL=batch.text_BL + 9 * ~batch.text_mask_BL,
        prompt_BPQ=batch.prompt_BPQ + 3 * ~batch.prompt_mask_BP[..., None],
    )
    assert float(loss_of(objective, batch).sum) == pytest.approx(float(loss_of(objective, spoiled).sum))
    if family == "valle_ar":
        alone = [loss_of(objective, batch_of(family, info, rows, [row])) for row in (0, 1, 3)]
        total = sum(float(one.sum) for one in alone)
        assert float(loss_of(objective, batch).sum) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_and_the_text_are_heard(family: str, info: DataInfo, rows: Store) -> None:
    objective, batch = build(family, info), batch_of(family, info, rows)
    plain = float(loss_of(objective, batch).sum)
    for other in (
        replace(batch, prompt_BPQ=batch.prompt_BPQ + 5),
        replace(batch, text_BL=batch.text_BL.flip(1) % 200),
    ):
        assert float(loss_of(objective, other).sum) != pytest.approx(plain, rel=1e-6)


def test_prompts_are_cut_from_companions(info: DataInfo, rows: Store) -> None:
    """Consecutive frames of each, as many utterances as the length takes, whatever else is in the batch."""
    settings = ValleSettings()

    def prompt(frames: int, **changed: Any) -> list[int]:
        generator = torch.Generator().manual_seed(3)
        item = Item(0, 0, 40, 3, (2, 1, 2))
        found = prompt_of(rows, item, replace(settings, **changed), (frames, frames), generator)
        assert found.shape == (len(found), 8)
        return [int(code) for code in found[:, 0]]

    short, long = prompt(10), prompt(50)
    assert short == list(range(short[0], short[0] + 10))
    assert 200 <= short[0] <= 200 + 30 - 10
    assert long[:30] == list(range(200, 230))
    assert long[30:] == list(range(long[30], long[30] + 20))
    assert 100 <= long[30] <= 105
    assert len(prompt(99)) == 30 + 25
    own = prompt(30, prompts="self")
    assert own == list(range(own[0], own[0] + 20)), "no more than half of the row itself"
    assert 0 <= own[0] <= 20
    assert prompt(30, self_prompt_prob=1.0) == own
    assert prompt(30, no_prompt_prob=1.0) == prompt(30, prompts="none") == []


def test_rows_without_others_of_their_speaker_are_left_out(info: DataInfo, rows: Store) -> None:
    kind = objective_class("valle_ar")
    config = BatchConfig(frames_threshold=2000)

    def batches(**settings: Any) -> Batches[Any]:
        chosen = kind.settings(**settings)
        return Batches(rows, config, 0, kind.collator(chosen, info), kind.needs(chosen, info))

    with_companions = batches()
    assert with_companions.left_out["too few companions"] == 1
    assert {item.row for batch in [Position(0, 0)] for item in with_companions.items(batch)} == {0, 1, 2}
    assert batches(prompts="self").skipped == 0
    assert kind.needs(kind.settings(prompts="none"), info).required == ("text",)


def test_nobody_has_a_speaker(info: DataInfo, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "codes": [[[1] * 5] * 8], "speaker": pa.array([None], pa.string())})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = Store.read([tmp_path / "rows.parquet"], signed=False, columns=["speaker"])
    kind = objective_class("valle_ar")
    needs = kind.needs(kind.settings(), info)
    with pytest.raises(ValueError, match="1 have fewer than 1 others of the same speaker"):
        Batches(rows, BatchConfig(), 0, kind.collator(kind.settings(), info), replace(needs, columns=()))


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_repeat(family: str, info: DataInfo, rows: Store) -> None:
    objective = build(family, info).eval()
    objective.prepare_samples()
    batch = batch_of(family, info, rows)
    first, again = (objective.samples(batch, torch.Generator().manual_seed(3)) for _ in range(2))
    assert [one.name.rpartition("-")[2] for one in first] == ["generated"] * 3 + ["recorded"] * 3
    assert [len(one.wave_T) for one in first[3:]] == [320 * length for length in (40, 25, 12)]
    assert all(torch.equal(a.wave_T, b.wave_T) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_export_can_be_loaded_and_started_from(family: str, info: DataInfo, tmp_path: Path) -> None:
    objective = build(family, info)
    objective.export(tmp_path / "export")
    name, module = load_generator(tmp_path / "export")
    assert name == family
    assert text_front_end(json.loads((tmp_path / "export" / "text.json").read_text())).encode("a")
    larger = build(family, info, {"prompt_levels": 6, "n_task_tokens": 2})
    larger.warm_start(tmp_path / "export")
    old, new = module.state_dict(), larger.network.state_dict()
    assert torch.equal(new["prompt_tables.weight_QVD"][:4, :1024], old["prompt_tables.weight_QVD"])
    assert torch.equal(new["head.weight"], old["head.weight"])
    with pytest.raises(ValueError, match=r"does not fit: it has .*n_layers=2.*, not .*n_layers=1"):
        build(family, info, {"n_layers": 1}).warm_start(tmp_path / "export")
    stranger = FAMILIES[1 - FAMILIES.index(family)]
    with pytest.raises(ValueError, match=f"holds a {family}, not a {stranger}"):
        build(stranger, info).warm_start(tmp_path / "export")


def test_a_larger_text_table_loses_its_last_rows(info: DataInfo, tmp_path: Path) -> None:
    """Published tables have as many rows as a level has codes."""
    objective = build("valle_ar", info)
    published = grown(objective.network, text_vocab_size=1024)
    save_generator(published, "valle_ar", tmp_path / "published")
    other = build("valle_ar", info)
    torch.nn.init.ones_(other.network.text_table.weight)
    other.warm_start(tmp_path / "published")
    assert torch.equal(other.network.text_table.weight, objective.network.text_table.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "others"}, "prompts is 'others'; it must be 'companions', 'self' or 'none'"),
        ({"max_prompts": 0}, "max_prompts is 0; it must be at least 1"),
        ({"prompt_jitter_s": 3.5}, "prompt_jitter_s is 3.5 with prompt_duration_s 3; it must be from 0"),
        ({"no_prompt_prob": 2.0}, "no_prompt_prob is 2.0; it must be between 0 and 1"),
        ({"text_loss_weight": -1.0}, "text_loss_weight is -1.0; it must not be negative"),
        ({"first_token": "maybe"}, "first_token is 'maybe'; it must be 'learned' or 'ignored'"),
        ({"hidden_tokens": 1.0}, "hidden_tokens is 1.0; it must be from 0 to below 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective_class("valle_ar").settings(**settings)


def test_a_text_without_classes_has_no_loss(info: DataInfo) -> None:
    small = replace(info, codebook_size=100)
    with pytest.raises(ValueError, match="the text has 258 ids and the head 101 classes; text_loss_weight"):
        build("valle_ar", small)
    assert build("valle_ar", small, text_loss_weight=0.0)


def learned(family: str, info: DataInfo, batch: PromptedBatch, steps: int, directory: Path) -> Path:
    """Learn one batch by heart; the exported generator."""
    objective = build(family, info, prompts="none")
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    for step in range(steps):
        loss = objective.train().loss(batch, "generator", torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    objective.export(directory)
    return directory


def test_a_sentence_learned_by_heart_is_spoken_and_stops(info: DataInfo, rows: Store, tmp_path: Path) -> None:
    """Greedy and drawn, each text has its own codes and ends where its recording ends, within a fifth."""
    chosen = (0, 3)
    parts = {
        role: learned(
            f"valle_{role}",
            info,
            batch_of(f"valle_{role}", info, rows, chosen, prompts="none"),
            steps,
            tmp_path / role,
        )
        for role, steps in (("ar", 60), ("nar", 5))
    }
    save_system(tmp_path / "system", "valle", codec=CODEC, generators=parts, text={"kind": "bytes"})
    system = load_system(tmp_path / "system")
    for temperature in (0.0, 0.5):
        task = system.speak({"ar_temp": temperature, "nar_temp": 0.0, "max_ar_steps": 200})
        prepared = [task.prepare(SpeakRequest(text)) for text in ("one", "last")]
        spoken = task.run(prepared, [torch.Generator().manual_seed(row) for row in range(2)])
        assert [one.finish_reason for one in spoken] == ["stop", "stop"]
        for speech, row in zip(spoken, chosen, strict=True):
            assert int(speech.wave.lengths_B) / 320 == pytest.approx(LENGTHS[row], rel=0.2)
