"""A codec learns, stops and continues exactly, and leaves a directory that `load_codec` reads."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.codec_sources import load_codec
from models.codecs.mill.network import MillConfig
from models.codecs.pcm import PcmCodec
from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch, collate_codes, open_batches
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import DataInfo
from trainers.objectives.codec import CodecObjective, CodecSettings
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig, Position

TINY = MillConfig(
    n_mels=20,
    n_codebooks=2,
    codebook_size=16,
    latent_channels=12,
    encoder_channels=16,
    encoder_dilations=(1,),
    decoder_channels=16,
    decoder_dilations=(1,),
    griffin_lim_iterations=2,
)
SETTINGS = CodecSettings(initial_frames=480)
PCM = DataInfo("pcm-16khz", 16_000, 1, 1, PcmCodec.codebook_size, 0.0)
LOOP = LoopConfig(
    max_steps=6,
    log_every=1,
    validate_every=100,
    ema_decay=0.9,
    optim=OptimConfig(lr=3e-3, warmup_steps=2, schedule="cosine"),
)


def tones(count: int, samples: int = 8000) -> list[np.ndarray]:
    """Voiced-like sounds: ten harmonics of a gliding pitch, with pauses."""
    rng = np.random.default_rng(0)
    time_s = np.arange(samples) / 16_000
    found = []
    for _ in range(count):
        phase = 2 * np.pi * (rng.uniform(90, 250) * time_s + rng.uniform(-40, 40) * time_s**2)
        sound = sum(rng.uniform(0, 1) / k * np.sin(k * phase) for k in range(1, 11))
        envelope = np.clip(np.sin(2 * np.pi * rng.uniform(1, 3) * time_s + rng.uniform(0, 6)), 0, 1)
        found.append(np.round(6000 * sound * envelope + 20 * rng.standard_normal(samples)).astype(np.int16))
    return found


@pytest.fixture
def batches(tmp_path: Path) -> Batches[CodesBatch]:
    file = tmp_path / "train.parquet"
    waves = tones(12)
    codes = pa.array([[wave.tolist()] for wave in waves], type=pa.list_(pa.list_(pa.int16())))
    texts = pa.array([""] * len(waves))
    pq.write_table(
        pa.table({"id": [f"{i:02}" for i in range(len(waves))], "text": texts, "codes": codes}), file
    )
    config = BatchConfig(crop_frames=6400, max_samples=6)
    return open_batches([file], config, 0, collate_codes, signed=True)


def build(settings: CodecSettings = SETTINGS) -> CodecObjective:
    torch.manual_seed(0)
    return CodecObjective(TINY, settings, PCM)


def trained(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    state = load(latest)
    del state["elapsed_s"]
    return state


def validation_loss(objective: CodecObjective, batches: Batches[CodesBatch]) -> float:
    """Over crops that no step of these tests has seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = [objective.eval().validate(batch, generator) for batch in batches.once(epoch=99)]
    return float(sum(loss.sum for loss in losses) / sum(loss.count for loss in losses))


def test_the_loss_falls(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective = build()
    train(objective, batches, replace(LOOP, max_steps=0), directory=tmp_path / "run")
    before = validation_loss(objective, batches)
    loop = replace(LOOP, max_steps=60, optim=OptimConfig(lr=3e-3, warmup_steps=5))
    train(objective, batches, loop, directory=tmp_path / "other")
    after = validation_loss(objective, batches)
    assert after < 0.95 * before


def test_stopped_and_continued_equals_straight(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    straight = train(build(), batches, LOOP, directory=tmp_path / "straight")

    def stop_at_3(step: int, metrics: Mapping[str, float]) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(build(), batches, LOOP, directory=tmp_path / "run", hooks=Hooks(on_log=stop_at_3))
    assert stopped.stopped == "interrupted"
    assert stopped.step < straight.step
    train(build(), batches, LOOP, directory=tmp_path / "run")
    wanted, found = trained(tmp_path / "straight"), trained(tmp_path / "run")
    for part in ("objective", "ema"):
        assert wanted[part].keys() == found[part].keys()
        for name, value in wanted[part].items():
            assert torch.equal(value, found[part][name]), name


def test_an_encoder_without_a_learning_rate_stays(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective = build(replace(SETTINGS, encoder_lr_scale=0.0))
    train(objective, batches, replace(LOOP, max_steps=0), directory=tmp_path / "start")
    before = {name: p.detach().clone() for name, p in objective.network.named_parameters()}
    train(objective, batches, replace(LOOP, max_steps=2), directory=tmp_path / "run")
    moved = {
        name.split(".")[0]
        for name, p in objective.network.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert moved == {"expand", "decoder"}


def test_every_parameter_gets_a_gradient(batches: Batches[CodesBatch]) -> None:
    objective = build()
    generator = torch.Generator().manual_seed(0)
    objective.initialise(batches.once(), generator)
    for correction in (objective.network.encoder, objective.network.decoder):
        torch.nn.init.normal_(correction.leave.weight, std=0.1)
    objective.loss(next(batches.once()), "generator", generator).sum.backward()
    silent = [
        name for name, p in objective.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert silent == []


def test_the_export_is_a_codec(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective = build(replace(SETTINGS, name="toy", edition="7"))
    objective.initialise(batches.once(), torch.Generator().manual_seed(0))
    objective.export(tmp_path / "toy")
    codec = load_codec(str(tmp_path / "toy"))
    assert (codec.name, codec.edition, codec.sample_rate, codec.n_codebooks) == ("toy", "7", 16_000, 2)
    wave_BT = torch.from_numpy(tones(1)[0]).float()[None] / 32768
    rebuilt_BT = codec.decode(codec.encode(wave_BT, torch.tensor([wave_BT.shape[1]]))).wave_BT
    loudness = torch.stack(
        [wave.reshape(-1, 800).square().mean(dim=1).log() for wave in (wave_BT[0], rebuilt_BT[0])]
    )
    assert float(torch.corrcoef(loudness)[0, 1]) > 0.9


def test_a_codec_directory_is_a_start(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    first = build()
    first.initialise(batches.once(), torch.Generator().manual_seed(0))
    first.export(tmp_path / "codec")
    second = build()
    second.warm_start(tmp_path / "codec")
    assert validation_loss(second, batches) == pytest.approx(validation_loss(first, batches), rel=0.02)
    second.initialise(batches.once(), torch.Generator().manual_seed(5))
    assert torch.equal(second.codebooks.sums_QVD, second.network.quantizer.codebooks_QVD)
    second.codebooks.update(second.network.quantizer)
    assert validation_loss(second, batches) == pytest.approx(validation_loss(first, batches), rel=0.02)
    wider = CodecObjective(replace(TINY, codebook_size=32), SETTINGS, PCM)
    with pytest.raises(ValueError, match=r"holds a codec of .*codebook_size=16"):
        wider.warm_start(tmp_path / "codec")


def test_samples_come_in_pairs(batches: Batches[CodesBatch]) -> None:
    objective = build()
    generator = torch.Generator().manual_seed(0)
    objective.initialise(batches.once(), generator)
    first = Position(0, 0)
    pair = collate_codes(batches.store, batches.items(first)[:2], first)
    samples = objective.samples(pair, generator)
    assert [sample.name for sample in samples] == [
        "original-0",
        "reconstructed-0",
        "original-1",
        "reconstructed-1",
    ]
    assert all(sample.wave_T.shape == (6400,) for sample in samples)
    assert not torch.equal(samples[0].wave_T, samples[1].wave_T)


def test_codes_of_another_codec_are_refused() -> None:
    with pytest.raises(ValueError, match="prepare the data with pcm-16khz, not mill-16khz@1"):
        CodecObjective(TINY, SETTINGS, DataInfo("mill-16khz@1", 16_000, 320, 8, 1024, 0.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level_dropout": 1.5}, "level_dropout is 1.5"),
        ({"codebook_decay": 1.0}, "codebook_decay is 1.0"),
        ({"speeds": ()}, "at least one"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodecSettings(**wrong)
