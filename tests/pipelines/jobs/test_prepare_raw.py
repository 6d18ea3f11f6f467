"""Raw speech -> transcribed utterances through the whole job, with a Whisper that is real but knows nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from catalog.datasets import Dataset
from catalog.strict_yaml import parse_yaml
from catalog.upkeep import verify
from models.text import espeak
from pipelines.prepare.job import prepare
from pipelines.prepare.settings import PrepareSettings

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def raw(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten untranscribed recordings, one of them a silence."""
    folder = tmp_path_factory.mktemp("raw")
    found = sorted((shared_data / "librispeech_one_per_speaker").rglob("*.flac"))[:9]
    for path in found:
        shutil.copy(path, folder / path.name)
    shutil.copy(shared_data / "awkward" / "digital_silence_10s.wav", folder)
    return folder


def settings(model: Path, **resources: Any) -> PrepareSettings:
    plain = {
        "codec": {"name": "pcm-16khz"},
        "segment": {"mode": "vad"},
        "transcribe": {"model": str(model), "max_tokens": 8, "beam_size": 1, "language": "en"},
        "quality": {"measures": ["snr_db", "bandwidth_hz"]},
        "filter": {"max_duration_s": 30.0, "min_snr_db": -50.0},
        "text": {"phonemes": True},
        "resources": {"device": "cpu", "workers": 1, **resources},
    }
    return PrepareSettings.model_validate(plain)


def rows(dataset: str | Path) -> dict[str, dict[str, Any]]:
    opened = Dataset.open(dataset)
    found = [row for uri in opened.file_uris() for row in pq.ParquetFile(uri).read().to_pylist()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


@pytest.fixture(scope="module")
def prepared(
    raw: Path, tiny_whisper: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "data"
    result = prepare(str(raw), str(output), settings(tiny_whisper))
    assert result["recordings"] == result["new_recordings"] == 10
    return output


def test_every_recording_becomes_transcribed_utterances_or_a_reason(
    raw: Path, prepared: Path, tiny_whisper: Path
) -> None:
    found = rows(prepared)
    assert {row["recording_id"] for row in found.values()} == {path.name for path in raw.iterdir()}
    accepted = [row for row in found.values() if row["reason"] is None]
    assert len({row["recording_id"] for row in accepted}) >= 7
    for row in accepted:
        assert row["id"].startswith(f"{row['recording_id']}#t={row['start_s']:.3f},")
        assert 3.0 <= row["duration_s"] <= 30.0
        assert row["text_source"] == f"whisperx:{tiny_whisper.name}"
        assert row["text"]
        assert row["avg_logprob"] < 0.0
        assert row["language"] == "en"
        assert row["phonemes"]
        assert row["snr_db"] is not None
        assert row["target_length"] == round(row["duration_s"] * 16_000)
    assert all(row["detail"] for row in found.values() if row["reason"])
    assert verify(Dataset.open(prepared)) == []
    recorded = min((prepared / "_settings").iterdir()).read_text()
    assert parse_yaml(recorded, "settings")["espeak_ng"] == espeak.version()


def test_the_files_of_a_version_are_read_by_others(prepared: Path) -> None:
    import datasets
    import duckdb

    files = Dataset.open(prepared).file_uris("train") + Dataset.open(prepared).file_uris("validation")
    accepted = {row["id"]: row for row in rows(prepared).values() if row["reason"] is None}
    loaded = datasets.load_dataset("parquet", data_files=files, split="train")
    assert {row["id"]: row["text"] for row in loaded} == {name: row["text"] for name, row in accepted.items()}
    assert len(loaded[0]["codes"][0]) == loaded[0]["target_length"]
    counted = duckdb.sql(
        "select count(*), sum(len(codes[1])) from read_parquet($files)", params={"files": files}
    ).fetchall()
    assert counted[0] == (len(accepted), sum(row["target_length"] for row in accepted.values()))


def test_steps_apart_give_the_same_rows(
    raw: Path, prepared: Path, tiny_whisper: Path, ray_session: None, tmp_path: Path
) -> None:
    apart = settings(
        tiny_whisper,
        layout="apart",
        max_batch_bytes=300_000,
        decode={"cpus": 0.5},
        transcribe={"workers": 1, "cpus": 0.5},
        codec={"cpus": 0.5},
    )
    prepare(str(raw), str(tmp_path / "data"), apart)
    found, expected = rows(tmp_path / "data"), rows(prepared)
    # Windows that share a call of the transcriber move the last bits of its probabilities, and nothing else.
    scores = ("avg_logprob", "text_confidence")
    for row in (*found.values(), *expected.values()):
        row.update({name: None if row[name] is None else round(row[name], 3) for name in scores})
    assert found == expected
