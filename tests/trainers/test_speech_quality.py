"""Figures of speech quality: known answers, what is left out, and what a validation reports."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from torch import Tensor

from trainers import speech_quality as module
from trainers.data import CodesBatch, collate_codes, open_batches
from trainers.loop_config import LoopConfig
from trainers.objectives import DataInfo, Loss, Objective, Sample
from trainers.parallel import Parallel
from trainers.plan import BatchConfig
from trainers.speech_quality import pairs, speech_quality
from trainers.tracking import pictures
from trainers.validation import Validator

RATE = 16_000


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> Tensor:
    samples, rate = soundfile.read(
        next((shared_data / "librispeech_one_per_speaker").glob("*.flac")), dtype="float32", frames=2 * RATE
    )
    assert rate == RATE
    return torch.from_numpy(samples)


def pair(original_T: Tensor, reconstructed_T: Tensor, key: str = "0", rate: int = RATE) -> list[Sample]:
    return [
        Sample(f"original-{key}", original_T, rate),
        Sample(f"reconstructed-{key}", reconstructed_T, rate),
    ]


def test_what_is_the_same_is_perfect_and_noise_is_worse(speech: Tensor) -> None:
    same = speech_quality(pair(speech, speech))
    assert same["stoi"] == pytest.approx(1.0, abs=1e-6)
    noise = 0.03 * torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    worse = speech_quality(pair(speech, speech + noise))
    assert 0.3 < worse["stoi"] < 0.98
    both = speech_quality([*pair(speech, speech), *pair(speech, speech + noise, "1")])
    assert both["stoi"] == pytest.approx((same["stoi"] + worse["stoi"]) / 2)
    if module._pesq() is not None:
        assert same["pesq_wb"] == pytest.approx(4.64, abs=0.01)
        assert worse["pesq_wb"] < 3


def test_a_pair_that_cannot_be_measured_is_left_out(speech: Tensor) -> None:
    silence, broken = torch.zeros(len(speech)), speech.clone()
    broken[5] = float("nan")
    wanted = speech_quality(pair(speech, speech))
    others = [
        *pair(silence, speech, "silent"),
        *pair(speech, silence, "died"),
        *pair(speech, broken, "broken"),
        *pair(speech[:4000], speech[:4000], "short"),
        *pair(1e-6 * torch.randn(RATE), 1e-6 * torch.randn(RATE), "without speech"),
    ]
    found = speech_quality([*others, *pair(speech, speech)])
    assert found.keys() == wanted.keys()
    assert speech_quality(others[:8]) == {}
    assert speech_quality([]) == {}


def test_samples_that_are_no_pair_have_no_quality(speech: Tensor) -> None:
    samples = [Sample("a-generated", speech, RATE), *pair(speech, speech, "b")[:1]]
    assert pairs(samples) == {}
    assert speech_quality(samples) == {}


def test_without_the_package_pesq_is_missing_and_said_once(
    speech: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    module._pesq.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            found = [speech_quality(pair(speech, speech)) for _ in range(2)]
    finally:
        module._pesq.cache_clear()
    assert [set(figures) for figures in found] == [{"stoi"}, {"stoi"}]
    assert caplog.text.count("validation_pesq_wb is not measured: the package pesq is missing") == 1


def test_pairs_share_a_picture(speech: Tensor) -> None:
    alone = Sample("x-generated", speech, RATE)
    shown = pictures([*pair(speech, speech, "0"), alone])
    assert {name: [sample.name for sample in samples] for name, samples in shown.items()} == {
        "pair-0": ["original-0", "reconstructed-0"],
        "x-generated": ["x-generated"],
    }


class Echo(Objective[CodesBatch]):
    """Gives back what it is given, and remembers how much that was."""

    def loss(self, batch: CodesBatch, phase: str, generator: torch.Generator) -> Loss:
        return Loss(torch.zeros(()), torch.ones(()))

    def samples(self, batch: CodesBatch, generator: torch.Generator) -> list[Sample]:
        waves = batch.codes_BQT[:, 0].float() / 32768
        rows = zip(waves, batch.lengths_B.tolist(), strict=True)
        return [sample for row, (wave, n) in enumerate(rows) for sample in pair(wave[:n], wave[:n], str(row))]


def test_a_validation_of_crops_makes_whole_rows_audible_and_measures_them(
    speech: Tensor, tmp_path: Path
) -> None:
    whole = (speech.numpy() * 32767).astype(np.int16)
    rows = pa.array([[whole.tolist()], [whole[:24_000].tolist()]], type=pa.list_(pa.list_(pa.int16())))
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["", ""], "codes": rows}), tmp_path / "rows.parquet")
    crops = BatchConfig(crop_frames=1600)
    batches = open_batches([tmp_path / "rows.parquet"], crops, 0, collate_codes, signed=True)
    config = LoopConfig(max_steps=1, samples=3, validation_batches=1)
    objective = Echo(DataInfo("pcm-16khz@1", RATE, 1, 1, 65536, 0.0))
    validator = Validator(batches, config, Parallel.current(), torch.device("cpu"))
    metrics, samples = validator.run(objective, None)
    assert metrics["validation_stoi"] == pytest.approx(1.0, abs=1e-4)
    assert {len(sample.wave_T) for sample in samples} <= {32_000, 24_000}
    assert len(samples) == 6
    again = validator.run(objective, None)[1]
    assert all(torch.equal(one.wave_T, other.wave_T) for one, other in zip(samples, again, strict=True))
