"""The waveform head learns beside a frozen codec, stops and continues exactly, and leaves a codec of the same codes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.discriminators import DiscriminatorConfig
from models.codecs.mill.codec import load_directory, save_directory
from models.codecs.mill.head import HeadConfig
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.pcm import PcmCodec
from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch, collate_codes, open_batches
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import DataInfo
from trainers.objectives.adversarial import AdversarialSettings
from trainers.objectives.codec_head import CodecHeadObjective, CodecHeadSettings
from trainers.objectives.spectral import SpectralSettings
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig
from trainers.sharding import gathered, shard

BASE = MillConfig(
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
MODEL = replace(BASE, griffin_lim_iterations=1, head=HeadConfig(channels=16, blocks=1, expansion=2))
SETTINGS = CodecHeadSettings(
    edition="7",
    spectral=SpectralSettings(mel_windows=(64, 512), mel_counts=(5, 40)),
    adversarial=AdversarialSettings(
        weight=0.1,
        discriminators=DiscriminatorConfig(
            periods=(3,), period_channels=(4,), fft_lengths=(128,), bands=((0.0, 1.0),), spectrum_channels=4
        ),
    ),
    speeds=(1.0, 1.25),
)
ALONE = replace(SETTINGS, adversarial=AdversarialSettings(weight=0.0))
PCM = DataInfo("pcm-16khz", 16_000, 1, 1, PcmCodec.codebook_size, 0.0)
LOOP = LoopConfig(
    max_steps=4, log_every=1, validate_every=100, ema_decay=0.9, optim=OptimConfig(lr=1e-3, warmup_steps=2)
)


def waves(count: int, samples: int = 8000) -> Tensor:
    """Voiced-like sounds (count, samples): harmonics of a pitch of their own, swelling, with a little noise."""
    draws = torch.Generator().manual_seed(0)
    time_s = torch.arange(samples) / 16_000
    pitch_hz = 90 + 160 * torch.rand(count, 1, 1, generator=draws)
    harmonics = torch.arange(1, 11)[:, None]
    sound = (torch.sin(2 * math.pi * pitch_hz * harmonics * time_s) / harmonics).sum(dim=1)
    swelling = torch.sin(2 * math.pi * (2 * time_s + torch.rand(count, 1, generator=draws))).clamp(min=0)
    noise = torch.randn(count, samples, generator=draws)
    return (0.15 * sound * swelling + 0.001 * noise).clamp(-1, 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that was fitted to such sounds by its linear paths, and k-means."""
    torch.manual_seed(0)
    network = MillNetwork(BASE)
    latents_ND = network.fit_linear(waves(12)[:, :6400])
    scale_D = latents_ND.std(dim=0)
    for level, codebook_VD in enumerate(network.quantizer.codebooks_QVD):
        codebook_VD.copy_(torch.randn(codebook_VD.shape) * scale_D * 0.6**level)
    directory = tmp_path_factory.mktemp("base") / "codec"
    save_directory(network, directory, "toy", "1")
    return directory


@pytest.fixture
def batches(tmp_path: Path) -> Batches[CodesBatch]:
    file = tmp_path / "train.parquet"
    made = (waves(8) * 32767).to(torch.int16).tolist()
    codes = pa.array([[wave] for wave in made], type=pa.list_(pa.list_(pa.int16())))
    ids = [f"{index:02}" for index in range(len(made))]
    pq.write_table(pa.table({"id": ids, "text": [""] * len(made), "codes": codes}), file)
    config = BatchConfig(crop_frames=3200, max_samples=4)
    return open_batches([file], config, 0, collate_codes, signed=True)


def build(settings: CodecHeadSettings = ALONE, init: Path | None = None) -> CodecHeadObjective:
    torch.manual_seed(0)
    objective = CodecHeadObjective(MODEL, settings, PCM)
    if init is not None:
        objective.warm_start(init)
    return objective


def trained(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    return load(latest)


def distance(objective: CodecHeadObjective, batches: Batches[CodesBatch]) -> float:
    with torch.no_grad():
        losses = [objective.eval().validate(batch, torch.Generator()) for batch in batches.once(epoch=9)]
    return float(sum(loss.sum for loss in losses) / sum(loss.count for loss in losses))


def test_the_distance_falls_and_only_the_head_moves(
    base: Path, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    objective = build(init=base)
    before, start = distance(objective, batches), {k: v.clone() for k, v in objective.state_dict().items()}
    loop = replace(LOOP, max_steps=25, ema_decay=None, optim=OptimConfig(lr=3e-3))
    train(objective, batches, loop, directory=tmp_path / "run")
    assert distance(objective, batches) < 0.97 * before
    moved = {name for name, value in objective.state_dict().items() if not torch.equal(value, start[name])}
    assert {name.split(".")[:2][-1] for name in moved} == {"head", "steps_done"}


def test_stopped_and_continued_equals_straight(
    base: Path, batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    straight = train(build(SETTINGS, base), batches, LOOP, directory=tmp_path / "straight")

    def stop_at_2(step: int, metrics: Mapping[str, float]) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    hooks = Hooks(on_log=stop_at_2)
    stopped = train(build(SETTINGS, base), batches, LOOP, directory=tmp_path / "run", hooks=hooks)
    assert (stopped.stopped, stopped.step < straight.step) == ("interrupted", True)
    # A continued run has no need of `init`: the frozen codec is in its checkpoint.
    train(build(SETTINGS), batches, LOOP, directory=tmp_path / "run")
    wanted, found = trained(tmp_path / "straight"), trained(tmp_path / "run")
    for part in ("objective", "ema"):
        assert wanted[part].keys() == found[part].keys()
        assert [
            name for name, value in wanted[part].items() if not torch.equal(value, found[part][name])
        ] == []


def test_every_trained_parameter_gets_a_gradient(base: Path, batches: Batches[CodesBatch]) -> None:
    objective = build(replace(SETTINGS, decoder_lr_scale=0.5), base)
    torch.nn.init.normal_(objective.head.leave.weight, std=0.1)
    torch.nn.init.normal_(objective.network.decoder.leave.weight, std=0.1)
    objective.train().loss(next(batches.once()), "generator", torch.Generator().manual_seed(0)).sum.backward()
    groups = objective.parameter_groups("generator")
    assert [group.get("lr_scale", 1.0) for group in groups] == [1.0, 0.5]
    wanted = {id(p) for group in groups for p in group["params"]}
    names = {name for name, p in objective.named_parameters() if id(p) in wanted}
    moving = {name for name, p in objective.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert {f"network.{name}" for name in moving} == names
    assert {name.split(".")[1] for name in names} == {"head", "decoder"}


def test_dropped_levels_sound_like_the_first_levels(base: Path) -> None:
    objective = build(replace(ALONE, level_dropout=1.0), base).train()
    codec, wave_BN = load_directory(base), waves(6)[:, :6400]
    draws = torch.Generator().manual_seed(3)
    kept_B = torch.randint(1, 3, (6,), generator=torch.Generator().manual_seed(3))
    made_BN = objective.reconstruct(wave_BN, draws).wave_BN
    assert sorted(set(kept_B.tolist())) == [1, 2]
    codec.config = replace(codec.config, search_width=1)
    codes = codec.encode(wave_BN, torch.full((6,), 6400))
    for row, kept in enumerate(kept_B.tolist()):
        magnitudes_SF = codec._magnitudes(codec.embed(codes.codes_BQT[row : row + 1, :kept])[0])
        latents_SD = codec.embed(codes.codes_BQT[row : row + 1, :kept])[0].T.repeat_interleave(2, dim=0)
        with torch.no_grad():
            alone_N = objective.network.wave(magnitudes_SF[None], latents_SD[None])[0]
        torch.testing.assert_close(made_BN[row].detach(), alone_N, rtol=1e-3, atol=1e-4)


def test_the_export_has_the_codes_of_its_start(base: Path, tmp_path: Path) -> None:
    objective = build(init=base)
    torch.nn.init.normal_(objective.head.leave.weight, std=0.1)
    objective.export(tmp_path / "new")
    old, new = load_codec(str(base)), load_codec(str(tmp_path / "new"))
    assert (new.name, new.edition) == ("mill-16khz", "7")
    wave_BT, lengths_B = waves(1), torch.tensor([8000])
    codes = old.encode(wave_BT, lengths_B)
    assert torch.equal(new.encode(wave_BT, lengths_B).codes_BQT, codes.codes_BQT)
    assert not torch.allclose(new.decode(codes).wave_BT, old.decode(codes).wave_BT, atol=1e-3)
    again = build()
    again.warm_start(tmp_path / "new")
    torch.testing.assert_close(again.head.leave.weight, objective.head.leave.weight, rtol=1e-3, atol=1e-3)


def test_the_export_may_have_more_contrast_than_the_training(base: Path, tmp_path: Path) -> None:
    for name, contrast in (("as_trained", None), ("sharper", 1.3)):
        build(settings=replace(ALONE, export_contrast=contrast), init=base).export(tmp_path / name)
    config = load_directory(tmp_path / "as_trained").config
    assert config.contrast == MODEL.contrast
    assert load_directory(tmp_path / "sharper").config == replace(config, contrast=1.3)
    with pytest.raises(ValueError, match="export_contrast is 0: must be above 0"):
        replace(ALONE, export_contrast=0)


def test_sharded_weights_are_heard_whole(base: Path, batches: Batches[CodesBatch]) -> None:
    objective, batch = build(init=base), next(batches.once())
    plain = objective.samples(batch, torch.Generator())
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        shard(objective.networks())
        with gathered(objective):
            sharded = objective.samples(batch, torch.Generator())
    finally:
        torch.distributed.destroy_process_group()
    assert all(torch.equal(one.wave_T, other.wave_T) for one, other in zip(plain, sharded, strict=True))


def test_the_magnitude_distance_is_that_of_the_codecs_own_spectra(base: Path) -> None:
    objective, wave_BN = build(init=base).eval(), waves(2)[:, :6400]
    made = objective.reconstruct(wave_BN, torch.Generator())
    weight, distance = made.losses["magnitude"]
    assert weight == ALONE.magnitude_weight
    logs = [torch.log(objective.network.magnitudes(wave) + 0.01) for wave in (made.wave_BN, wave_BN)]
    torch.testing.assert_close(distance, (logs[0] - logs[1]).abs().mean())


def test_samples_are_pairs_of_their_rows_length(base: Path, batches: Batches[CodesBatch]) -> None:
    batch = next(batches.once())
    short = replace(batch, codes_BQT=batch.codes_BQT[:2], lengths_B=torch.tensor([3200, 1000]))
    samples = build(init=base).samples(short, torch.Generator())
    assert [(sample.name, len(sample.wave_T)) for sample in samples] == [
        ("original-0", 3200),
        ("reconstructed-0", 3200),
        ("original-1", 1000),
        ("reconstructed-1", 1000),
    ]


def test_a_head_needs_a_codec(base: Path, batches: Batches[CodesBatch], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"family codec_head trains the head of a trained codec: .*`init`"):
        train(build(), batches, LOOP, directory=tmp_path / "run")
    wider = CodecHeadObjective(replace(MODEL, codebook_size=32), ALONE, PCM)
    with pytest.raises(ValueError, match=r"holds a codec of .*codebook_size=16.* not of .*codebook_size=32"):
        wider.warm_start(base)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level_dropout": 1.5}, "level_dropout is 1.5"),
        ({"search_width": 0}, "search_width is 0"),
        ({"decoder_lr_scale": -1.0}, "decoder_lr_scale is -1.0"),
        ({"magnitude_weight": -1.0}, "magnitude_weight is -1.0"),
        ({"speeds": ()}, "needs at least one"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodecHeadSettings(**wrong)
