"""Voices: windows, similarity and labels, with a tiny random model and with made-up embeddings."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rows import samples_array
from pipelines.stages.speakers import SpeakerSettings, SpeakersStage, cluster, lowest_similarity, starts

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A WavLM x-vector network of 60 thousand random weights."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=[16, 16, 16, 16, 32],
        xvector_output_dim=16,
    )
    directory = str(tmp_path_factory.mktemp("xvector"))
    WavLMForXVector(config).save_pretrained(directory)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(directory)
    return directory


def tone(hz: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(round(hz)).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * hz * time) + 0.01 * noise).astype(np.float32)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table(
        {
            "recording_id": [row["recording_id"] for row in rows],
            "speaker": pa.array([row.get("speaker") for row in rows], pa.string()),
            "samples": samples_array([row["samples"] for row in rows]),
        }
    )


ROWS = [
    {"recording_id": "a", "samples": tone(200, 1.0)},
    {"recording_id": "a", "samples": np.concatenate([tone(200, 3.0), tone(3000, 4.2)])},
    {"recording_id": "a", "samples": None},
    {"recording_id": "a", "samples": tone(200, 0.2)},
    {"recording_id": "b", "samples": tone(500, 3.0), "speaker": "known"},
    {"recording_id": "b", "samples": tone(900, 2.0)},
]


def test_columns(model: str) -> None:
    found = SpeakersStage(SpeakerSettings(model), RATE)(table(ROWS))
    similarity = found["speaker_similarity"].to_pylist()
    assert similarity[0] == similarity[4] == 1.0
    assert -1 <= similarity[1] < 0.9999
    assert similarity[2] is None
    assert similarity[3] is None
    speakers = found["speaker"].to_pylist()
    assert speakers[0] == "a/S0"
    assert speakers[1] in ("a/S0", "a/S1")
    assert speakers[2:] == [None, None, "known", "b/S0"]


def test_results_do_not_depend_on_other_recordings(model: str) -> None:
    stage = SpeakersStage(SpeakerSettings(model, same_speaker=0.999), 24_000)
    together = stage(table(ROWS))
    for part in (slice(0, 4), slice(4, 6)):
        alone = stage(table(ROWS[part]))
        for name in ("speaker", "speaker_similarity"):
            assert alone[name].to_pylist() == together[name].to_pylist()[part]


def test_check_and_label_can_be_had_alone(model: str) -> None:
    only_check = SpeakersStage(SpeakerSettings(model, label=False), RATE)(table(ROWS[:1]))
    assert only_check["speaker"].to_pylist() == [None]
    only_label = SpeakersStage(SpeakerSettings(model, check=False), RATE)(table(ROWS[:1]))
    assert "speaker_similarity" not in only_label.column_names
    assert only_label["speaker"].to_pylist() == ["a/S0"]


@given(st.integers(1, 200_000), st.integers(1, 60_000), st.integers(1, 60_000))
def test_windows_cover_everything_and_stay_inside(samples: int, window: int, hop: int) -> None:
    hop = max(min(hop, window), samples // 1000 + 1)
    window = max(window, hop)
    found = starts(samples, window, hop)
    assert found[0] == 0
    assert all(0 < b - a <= hop for a, b in pairwise(found))
    assert found[-1] + window == samples or (found == [0] and samples <= window)


def voices(*centres: int, spread: float = 0.05) -> np.ndarray:
    """Unit vectors near the axes `centres` of a space of 8 dimensions."""
    drawn = np.eye(8)[list(centres)] + spread * np.random.default_rng(0).standard_normal((len(centres), 8))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def test_clusters_are_numbered_by_first_appearance() -> None:
    assert cluster(voices(3, 3, 0, 5, 0, 3), 0.7) == [0, 0, 1, 2, 1, 0]
    assert cluster(voices(3, 3, 0, 5), -1.0) == [0, 0, 0, 0]
    assert cluster(voices(4), 0.7) == [0]
    assert cluster(np.repeat(voices(4), 5, 0), 1.0) == [0] * 5


@given(st.permutations(range(6)))
def test_clusters_do_not_depend_on_the_order(order: list[int]) -> None:
    vectors, truth = voices(3, 3, 0, 5, 0, 3), [3, 3, 0, 5, 0, 3]
    found = cluster(vectors[list(order)], 0.7)
    pairs = [(found[a] == found[b], truth[order[a]] == truth[order[b]]) for a in range(6) for b in range(a)]
    assert all(same == expected for same, expected in pairs)


def test_lowest_similarity() -> None:
    assert lowest_similarity(voices(1)) == 1.0
    assert lowest_similarity(voices(1, 1, 1)) > 0.9
    assert abs(lowest_similarity(voices(1, 1, 6))) < 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_s": 4.0}, "hop_s = 4 must be above 0 and at most window_s = 3"),
        ({"min_s": 0.0}, "min_s = 0 must be above 0"),
        ({"same_speaker": 1.5}, "same_speaker = 1.5 must be a cosine"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeakerSettings(**changes)  # type: ignore[arg-type]


def test_a_model_of_another_rate_is_refused(model: str, tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expects 8000 Hz, must be 16000"):
        SpeakersStage(SpeakerSettings(str(tmp_path)), RATE)
