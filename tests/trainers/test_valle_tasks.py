"""VALL-E's speech tasks: rows that `prepare` made of real mixtures are learned, and the system does the tasks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from catalog.appending import Appender
from catalog.creation import create
from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.prompt import Prompt
from models.sampling.draws import RowDraws
from models.system import ConvertRequest, SpeakRequest
from models.system_files import load_system, save_system
from models.tasks import TASK_TOKENS, TASKS, task_prompt
from trainers.checkpoint import check_identity
from trainers.data import Batches
from trainers.objectives import DataInfo, objective_class
from trainers.objectives.valle import PromptedBatch
from trainers.plan import BatchConfig, Item, Position
from trainers.store import Store

CODEC = "mill-16khz@1"
RATE = 16_000
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.0, "n_task_tokens": 7}


def tone(seconds: float, frequency: float = 300) -> Any:
    time = np.arange(round(seconds * RATE), dtype=np.float32) / RATE
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three utterances of one speaker with a row for each task, as `prepare` writes them."""
    from pipelines.rows import SCHEMA, samples_array
    from pipelines.stages.codec import CodecStage
    from pipelines.stages.tasks import TaskSettings, TasksStage
    from pipelines.stages.write import WriteStage, Written

    folder = tmp_path_factory.mktemp("tasks")
    (folder / "sounds").mkdir()
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.05
    soundfile.write(folder / "sounds" / "noise.wav", noise, RATE)
    names = ["a", "b", "c"]
    columns = {name: pa.nulls(3, SCHEMA.field(name).type) for name in SCHEMA.names}
    columns |= {"id": pa.array(names), "recording_id": pa.array(names), "text": pa.array(names)}
    columns |= {"speaker": pa.array(["s"] * 3), "duration_s": pa.array([1.1] * 3)}
    waves = [tone(1.1, 300 + 50 * row) for row in range(3)]
    table = pa.table(columns | {"samples": samples_array(waves)}, schema=SCHEMA)
    identity, sounds = load_codec(CODEC).identity, str(folder / "sounds")
    stage = TasksStage(TaskSettings(tuple(TASKS), sounds, sounds), identity, 0.0, 0)
    appender = Appender(create(folder / "dataset", identity, {}))
    written = WriteStage(str(folder / "dataset"), "run", identity, validation=0.0, seed=0)(
        CodecStage(CODEC)(stage(table))
    )
    appender.append(Written.from_table(written).shards)
    files = [*appender.dataset.file_uris("train"), *appender.dataset.file_uris("derived")]
    optional = ("task", "prompt_codes")
    return Store.read(files, signed=False, columns=["text", "speaker"], nullable=optional)


@pytest.fixture(scope="module")
def info() -> DataInfo:
    codec = load_codec(CODEC)
    sizes = (codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    return DataInfo(CODEC, *sizes, 8.0, codec.weights_sha256)


def build(family: str, info: DataInfo, model: dict[str, int] | None = None, **settings: Any) -> Any:
    kind = objective_class(family)
    chosen = kind.settings(**{"tasks": tuple(TASKS), "prompt_duration_s": 0.4, **settings})
    torch.manual_seed(0)
    values: Any = {**kind.derive(chosen, info), **SIZES, "prompt_levels": 8, **(model or {})}
    return kind(kind.model_config(**values), chosen, info)


def batch_of(rows: Store, info: DataInfo, names: list[str], **settings: Any) -> PromptedBatch:
    kind = objective_class("valle_ar")
    chosen = kind.settings(**{"tasks": tuple(TASKS), "prompt_duration_s": 0.4, **settings})
    numbers = {rows.id(row): row for row in range(len(rows))}
    items = [Item(numbers[name], 0, int(rows.lengths[numbers[name]]), 7, (numbers["c"],)) for name in names]
    batch = kind.collator(chosen, info)(rows, items, Position(0, 0))
    assert isinstance(batch, PromptedBatch)
    return batch


def prompt_of(batch: PromptedBatch, row: int = 0) -> torch.Tensor:
    return batch.prompt_BPQ[row][batch.prompt_mask_BP[row]]


@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_of_a_row_is_the_one_that_was_prepared(task: str, rows: Store, info: DataInfo) -> None:
    """Behind a voice where the task needs one; plain rows have a voice alone."""
    own = torch.from_numpy(
        rows.numbers([rows.id(row) for row in range(len(rows))].index(f"a#{task}"), "prompt_codes").T.copy()
    )
    found = prompt_of(batch_of(rows, info, [f"a#{task}"], no_prompt_prob=1.0))
    voice = len(found) - len(own)
    assert torch.equal(found[voice:], own)
    assert (10 <= voice <= 30) == (task in ("tse", "svc"))
    assert bool((found[:voice] < info.codebook_size).all())
    plain = prompt_of(batch_of(rows, info, ["a"]))
    assert int(plain.max()) < info.codebook_size <= int(own.max())


def test_texts_of_tasks_may_be_left_out_but_for_edits(rows: Store, info: DataInfo) -> None:
    names = ["a", "a#ns", "a#cse"]
    for share, lengths in ((1.0, [3, 3, 3]), (0.0, [3, 2, 3])):
        assert batch_of(rows, info, names, task_text_prob=share).text_mask_BL.sum(1).tolist() == lengths


def test_batches_hold_the_tasks_that_are_learned(rows: Store, info: DataInfo) -> None:
    kind = objective_class("valle_ar")
    for tasks, expected in (((), {"a", "b", "c"}), (("ns",), {"a", "b", "c", "a#ns", "b#ns", "c#ns"})):
        settings = kind.settings(tasks=tasks, prompt_duration_s=0.4)
        needs = kind.needs(settings, info)
        batches = Batches(rows, BatchConfig(), 0, kind.collator(settings, info), needs)
        found = {name for batch in batches.once() for name in batch.ids}
        assert found == expected
    assert build("valle_ar", info).statistics(rows) == {"frames_per_token": 55 / 3}


def test_tasks_are_learned_and_done(rows: Store, info: DataInfo, tmp_path: Path) -> None:
    """The mixtures of one task are learned by heart; then the system makes speech of the same recording."""
    batch, parts = batch_of(rows, info, ["a#sr", "b#sr"], task_text_prob=0.0), {}
    for role in ("ar", "nar"):
        objective = build(f"valle_{role}", info, {"hidden_size": 32})
        optimizer = torch.optim.Adam(objective.parameters(), 0.01)
        losses = []
        for step in range(40 if role == "ar" else 3):
            loss = objective.train().loss(batch, "generator", torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (loss.sum / loss.count).backward()
            optimizer.step()
            losses.append(float(loss.sum.detach() / loss.count))
        assert role == "nar" or losses[-1] < losses[0] / 4
        objective.export(tmp_path / role)
        parts[role] = tmp_path / role
    save_system(tmp_path / "system", "valle", codec=CODEC, generators=parts, text={"kind": "bytes"})
    system = load_system(tmp_path / "system")
    assert system.capabilities == {"speak", "convert"}
    source = Wave(torch.from_numpy(tone(1.1))[None], torch.tensor([round(1.1 * RATE)]), RATE)
    voice = Prompt(Wave(torch.from_numpy(tone(0.4, 500))[None], torch.tensor([6400]), RATE))
    for task in TASKS:
        bound = system.speak({"task": task, "ar_temp": 0.0, "nar_temp": 0.0})
        request = SpeakRequest(
            "a" if task in ("cse", "nse") else "",
            prompt=voice if task in ("tse", "svc") else None,
            source=source,
            edit_s=(0.2, 0.6) if task in ("cse", "nse") else None,
        )
        (speech,) = bound.run([bound.prepare(request)], [torch.Generator().manual_seed(0)])
        assert speech.wave.wave_BT.isfinite().all()
        if task not in ("cse", "nse"):
            assert int(speech.wave.lengths_B) <= 55 * 320
    converted = system.convert({})
    assert converted.prepare(ConvertRequest(source, voice)).max_frames == 55


def test_a_known_mixture_gives_what_was_learned(rows: Store, info: DataInfo) -> None:
    """Greedy, and with the very recording, the first level is the target of the row."""
    objective = build("valle_ar", info, {"hidden_size": 64})
    batch = batch_of(rows, info, ["a#svc", "b#svc"], task_text_prob=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    for step in range(60):
        loss = objective.train().loss(batch, "generator", torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    objective.eval()
    made_BTq, _ = objective.generate(batch, RowDraws([0, 1], "cpu"))
    right = (made_BTq[0, :55, 0] == batch.codes_BQT[0, 0]).float().mean()
    assert float(right) > 0.8


def test_training_refuses_what_does_not_fit(info: DataInfo) -> None:
    with pytest.raises(ValueError, match="the task token 'tse' is number 3; the network has 2"):
        build("valle_ar", info, {"n_task_tokens": 2})
    kind = objective_class("valle_ar")
    with pytest.raises(ValueError, match="tasks holds 'sing'; known: ns, sr, tse, cse, nse, svc"):
        kind.settings(tasks=("sing",))
    with pytest.raises(ValueError, match="task svc needs a voice prompt; prompts is 'none'"):
        kind.settings(tasks=("svc",), prompts="none")


def test_a_run_from_before_there_were_tasks_goes_on() -> None:
    kind = objective_class("valle_ar")
    now = {"objective": asdict(kind.settings())}
    before = {"objective": {key: now["objective"][key] for key in now["objective"] if "task" not in key}}
    assert len(before["objective"]) == len(now["objective"]) - 2
    check_identity(Path("step-1.pt"), before, now, kind.legacy)
    other = {"objective": {**now["objective"], "tasks": ["ns"]}}
    with pytest.raises(ValueError, match=r'objective.tasks was \[\], is \["ns"\]'):
        check_identity(Path("step-1.pt"), before, other, kind.legacy)


def test_prompts_of_tasks() -> None:
    codes = torch.arange(12).reshape(2, 6)
    assert task_prompt("ns", codes, 100).tolist() == [[100, *range(6)], [100, *range(6, 12)]]
    edited = task_prompt("nse", codes, 100, (2, 5))
    assert edited.tolist() == [[0, 1, 103, 104, 105, 5], [6, 7, 103, 104, 105, 11]]
    assert task_prompt("cse", codes, 100, (0, 6)).tolist() == [[103, 104, 105]] * 2
    assert len(TASK_TOKENS) == 7
    for task, edit, message in (
        ("ns", (1, 2), "task ns has no part to edit"),
        ("cse", None, "task cse needs a part to edit"),
        ("cse", (3, 7), "frames 3 to 7; the recording has 6"),
        ("tts", None, "task is 'tts'; it must be one of ns"),
    ):
        with pytest.raises(ValueError, match=message):
            task_prompt(task, codes, 100, edit)
