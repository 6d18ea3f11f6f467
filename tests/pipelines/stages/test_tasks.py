"""Rows for speech tasks: real mixtures of small waveforms, the same every time, whatever else is in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pydantic import ValidationError

from catalog.appending import Appender
from catalog.creation import create
from catalog.identity import Identity
from catalog.upkeep import verify
from models.codec_sources import load_codec
from models.tasks import TASK_TOKENS, TASKS
from pipelines.prepare.settings import PrepareSettings
from pipelines.prepare.steps import layout_of, steps_of
from pipelines.rows import SCHEMA, samples_array, waves
from pipelines.speech.mixtures import mixed, other_voice, segment_of
from pipelines.stages.codec import CodecStage
from pipelines.stages.tasks import TaskSettings, TasksStage, recordings_digest
from pipelines.stages.write import WriteStage, Written

CODEC = "mill-16khz"
RATE = 16_000
IDENTITY = load_codec(CODEC).identity
ALL = tuple(TASKS)


def tone(frequency: float, seconds: float, level: float = 0.3) -> np.ndarray[Any, np.dtype[np.float32]]:
    time = np.arange(round(seconds * RATE), dtype=np.float32) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Noise, and three recordings of the voices a (500 Hz) and b (900 Hz)."""
    root = tmp_path_factory.mktemp("sounds")
    (root / "noise").mkdir()
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.05
    soundfile.write(root / "noise" / "street.wav", noise, RATE)
    for name, frequency in (("a/1", 500), ("a/2", 500), ("b/1", 900)):
        (root / "voices" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "voices" / f"{name}.wav", tone(frequency, 0.7), RATE)
    return {"noise": str(root / "noise"), "voices": str(root / "voices")}


def rows_of(*names: str, seconds: float = 1.2) -> pa.Table:
    columns = {name: pa.nulls(len(names), SCHEMA.field(name).type) for name in SCHEMA.names}
    columns |= {"id": pa.array(names), "recording_id": pa.array(names), "text": pa.array(names)}
    columns |= {"speaker": pa.array(["a"] * len(names)), "duration_s": pa.array([seconds] * len(names))}
    tones = [tone(300 + 10 * row, seconds) for row in range(len(names))]
    return pa.table(columns | {"samples": samples_array(tones)}, schema=SCHEMA)


def stage(folders: dict[str, str], names: tuple[str, ...] = ALL, **settings: Any) -> TasksStage:
    return TasksStage(TaskSettings(names, **folders, **settings), IDENTITY, 0.0, 0)  # type: ignore[arg-type]


def made(table: pa.Table) -> dict[str, dict[str, Any]]:
    """Target, prompt and edit by id."""
    columns = zip(
        table["id"].to_pylist(),
        waves(table),
        waves(table, "prompt_samples"),
        table["edit_frames"].to_pylist(),
        strict=True,
    )
    return {row: {"target": target, "prompt": prompt, "edit": edit} for row, target, prompt, edit in columns}


def strength(wave: Any, frequency: float) -> float:
    """Share of the power within 15 Hz of a frequency."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    near = np.abs(np.fft.rfftfreq(len(wave), 1 / RATE) - frequency) < 15
    return float(power[near].sum() / power.sum())


def test_every_task_gets_a_row_behind_its_utterance(folders: dict[str, str]) -> None:
    table = stage(folders)(rows_of("one"))
    assert table["id"].to_pylist() == ["one", *(f"one#{name}" for name in ALL)]
    assert table["task"].to_pylist() == [None, *ALL]
    assert set(table["split"].to_pylist()[1:]) == {"derived"}
    assert set(table["text"].to_pylist()) == {"one"}
    assert table["prompt_samples"].null_count == 1


def test_mixtures_are_what_the_task_says(folders: dict[str, str]) -> None:
    """The utterance is a tone of 300 Hz; noise is white, the other voice is b (900 Hz), never a's own."""
    rows = made(stage(folders)(rows_of("one")))
    clean = rows["one"]["target"]

    noisy, speech = rows["one#ns"]["prompt"], rows["one#ns"]["target"]
    assert strength(speech, 300) > 0.99
    assert 0.4 < strength(noisy, 300) < 0.995
    ratio_db = 20 * np.log10(np.std(speech) / np.std(noisy - speech))
    assert 0 <= ratio_db <= 20

    removed = rows["one#sr"]
    assert strength(removed["target"], 300) < 0.05
    assert strength(removed["prompt"] - removed["target"], 300) > 0.99

    two = rows["one#tse"]
    assert strength(two["target"], 300) > 0.99
    other = two["prompt"] - two["target"]
    assert strength(other, 900) > 0.9
    assert 2.4 <= 20 * np.log10(np.std(two["target"]) / np.std(other)) <= 6.1

    for name in ("cse", "nse"):
        one = rows[f"one#{name}"]
        first, last = (frame * IDENTITY.hop_length for frame in one["edit"])
        assert 0 <= first < last
        assert not one["prompt"][first:last].any()
        assert np.array_equal(one["prompt"][:first], one["target"][:first])
        assert np.array_equal(one["prompt"][last:], one["target"][last:])
    assert np.array_equal(rows["one#cse"]["target"], clean)
    assert not np.array_equal(rows["one#nse"]["target"], clean)

    moved = rows["one#svc"]
    assert np.array_equal(moved["target"], clean)
    assert len(moved["prompt"]) == len(clean)
    assert strength(moved["prompt"], 300) < 0.1
    for one in rows.values():
        assert (
            max(np.abs(one["target"]).max(), 0 if one["prompt"] is None else np.abs(one["prompt"]).max()) <= 1
        )


def test_a_row_follows_from_its_id_and_the_seed_alone(folders: dict[str, str]) -> None:
    together, alone = made(stage(folders)(rows_of("zero", "one"))), made(stage(folders)(rows_of("zero")))
    for row, values in alone.items():
        for key in ("target", "prompt"):
            assert np.array_equal(together[row][key], values[key]) or values[key] is None
        assert together[row]["edit"] == values["edit"]
    other = made(stage(folders, seed=1)(rows_of("zero")))
    assert not np.array_equal(other["zero#ns"]["prompt"], alone["zero#ns"]["prompt"])


def test_shares_short_utterances_and_other_splits(folders: dict[str, str]) -> None:
    names = [str(number) for number in range(60)]
    ids = stage(folders, ("sr",), share=0.5)(rows_of(*names, seconds=0.1))["id"].to_pylist()
    assert 75 < len(ids) < 105
    assert len(stage(folders, ("cse",))(rows_of("short", seconds=0.9))) == 1
    held_out = TasksStage(TaskSettings(("sr",), **folders), IDENTITY, 1.0, 0)
    assert len(held_out(rows_of("held", "out"))) == 2


def test_codes_of_prompts_have_task_tokens_and_are_committed(folders: dict[str, str], tmp_path: Path) -> None:
    """The prompt of an edit is the recording's codes without a part, with three tokens in its place."""
    table = CodecStage(CODEC)(stage(folders)(rows_of("one")))
    appender = Appender(create(tmp_path, IDENTITY, {}))
    appender.append(Written.from_table(WriteStage(str(tmp_path), "run", IDENTITY, 0.0, 0)(table)).shards)
    assert verify(appender.dataset) == []
    columns = ["id", "task", "codes", "prompt_codes"]
    assert appender.dataset.read(columns, "train").to_pylist()[0]["prompt_codes"] is None
    found = {row["task"]: row for row in appender.dataset.read(columns, "derived").to_pylist()}
    assert set(found) == set(ALL)
    ids = {name: IDENTITY.codebook_size + number for number, name in enumerate(TASK_TOKENS)}
    codec, edits = load_codec(CODEC), made(stage(folders)(rows_of("one")))
    for task, row in found.items():
        prompt, frames = np.array(row["prompt_codes"]), len(row["codes"][0])
        tokens = prompt[:, (prompt >= IDENTITY.codebook_size).all(0)]
        assert (tokens == tokens[:1]).all()
        if task not in ("cse", "nse"):
            assert prompt.shape == (IDENTITY.n_codebooks, frames + 1)
            assert prompt[0, 0] == ids[task]
            continue
        first, last = edits[f"one#{task}"]["edit"]
        assert tokens[0].tolist() == [ids["soe"], ids["mask"], ids["eoe"]]
        assert prompt.shape[1] == frames - (last - first) + 3
        assert prompt[0, first : first + 3].tolist() == tokens[0].tolist()
    import torch

    heard = edits["one#ns"]["prompt"]
    alone = codec.encode(torch.from_numpy(np.array(heard))[None], torch.tensor([len(heard)])).codes_BQT[0]
    assert np.array_equal(np.array(found["ns"]["prompt_codes"])[:, 1:], alone.numpy())


def test_a_recording_that_cannot_be_heard_rejects_its_row(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    table = TasksStage(TaskSettings(("sr",), noise=str(tmp_path)), IDENTITY, 0.0, 0)(rows_of("one"))
    assert table["reason"].to_pylist() == [None, "unreadable"]
    assert "broken.wav" in table["detail"][1].as_py()
    assert CodecStage(CODEC)(table)["prompt_codes"].null_count == 2


def test_parts_of_mixtures() -> None:
    draws = np.random.default_rng(0)
    short = np.arange(5, dtype=np.float32)
    long = segment_of(short, 13, draws)
    assert np.array_equal(np.diff(long) % 5, np.ones(12))
    mixture, speech, other = mixed(tone(300, 0.1, 1.0), tone(900, 0.1, 0.1), 0.0)
    assert float(np.abs(mixture).max()) == pytest.approx(1.0)
    assert np.std(speech) == pytest.approx(np.std(other), rel=1e-4)
    silence = np.zeros(1600, np.float32)
    assert np.array_equal(mixed(tone(300, 0.1), silence, 5.0)[0], tone(300, 0.1))
    higher = other_voice(tone(300, 1.0), RATE, 12.0)
    assert strength(higher, 600) > 0.5
    assert strength(higher, 300) < 0.01


def test_settings(folders: dict[str, str], tmp_path: Path) -> None:
    assert "tasks" not in PrepareSettings().of_rows
    settings = PrepareSettings.model_validate({"tasks": {"names": ["ns", "svc"], "noise": folders["noise"]}})
    kept = settings.of_rows["tasks"]
    assert isinstance(kept, dict)
    assert kept["noise"] == recordings_digest(Path(folders["noise"]))
    steps = steps_of(
        layout_of(settings, [{"CPU": 2, "GPU": 0}]), settings, Identity(IDENTITY, {}), "data", "run"
    )
    kinds = [made.factory for made in steps[0].stages]
    assert kinds[kinds.index(CodecStage) - 1] is TasksStage
    with pytest.raises(ValueError, match="holds no recordings; give a folder of sound files"):
        recordings_digest(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": ["ns"]}, "task ns needs noise: a folder of recordings"),
        ({"names": ["svc", "tse"]}, "task tse needs voices: a folder of recordings"),
        ({"names": ["sing"]}, "Input should be 'ns', 'sr'"),
        ({"names": []}, "it must name at least one task"),
        ({"names": ["svc"], "share": 1.5}, "share is 1.5; it must be between 0 and 1"),
        ({"names": ["svc"], "semitones": [5, 2]}, "the least must not be above the most"),
        ({"names": ["cse"], "edit_share": [0.0, 0.5]}, "it must be above 0 and at most 1"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PrepareSettings.model_validate({"tasks": given})
