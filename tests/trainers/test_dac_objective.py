"""Training of Descript's codec: rows by their own levels, a loss that falls, exact continuation, every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.dac.network import (
    PRESETS,
    ConvolutionalCodec,
    build_network,
    plain_weights,
    save_directory,
)
from models.codecs.discriminators import DiscriminatorConfig
from models.codecs.pcm import PCM_RATES, PcmCodec
from trainers.__main__ import main
from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch, collate_codes, open_batches
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import DataInfo
from trainers.objectives.adversarial import AdversarialSettings
from trainers.objectives.dac import (
    ConvolutionalModel,
    ConvolutionalObjective,
    ConvolutionalSettings,
    quantize,
)
from trainers.objectives.spectral import SpectralSettings
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig, Position

TINY = ConvolutionalModel(
    ratios=(4, 5),
    n_codebooks=3,
    codebook_size=16,
    codebook_channels=4,
    encoder_channels=8,
    decoder_channels=32,
)
DISCRIMINATORS = DiscriminatorConfig(
    periods=(3,), period_channels=(4,), fft_lengths=(128,), bands=((0.0, 1.0),), spectrum_channels=4
)
SETTINGS = ConvolutionalSettings(
    spectral=SpectralSettings(mel_windows=(64, 256), mel_counts=(5, 20)),
    adversarial=AdversarialSettings(discriminators=DISCRIMINATORS),
)
PCM = DataInfo("pcm-16khz@1", 16_000, 1, 1, PcmCodec.codebook_size, 0.0)
LOOP = LoopConfig(
    max_steps=4, log_every=1, validate_every=100, ema_decay=0.9, optim=OptimConfig(lr=2e-3, clip_norm=1000.0)
)


@pytest.fixture
def batches(tmp_path: Path) -> Batches[CodesBatch]:
    """Tones of several pitches with noise."""
    rng, file = np.random.default_rng(0), tmp_path / "train.parquet"
    time_s = np.arange(2000) / 16_000
    waves = [
        np.round(8000 * np.sin(2 * np.pi * pitch * time_s) + rng.normal(0, 300, 2000)).astype(np.int16)
        for pitch in rng.uniform(200, 2000, 12)
    ]
    codes = pa.array([[wave.tolist()] for wave in waves], type=pa.list_(pa.list_(pa.int16())))
    ids = [f"row-{index:02}" for index in range(len(waves))]
    pq.write_table(pa.table({"id": ids, "text": [""] * len(waves), "codes": codes}), file)
    config = BatchConfig(crop_frames=1600, max_samples=4)
    return open_batches([file], config, 0, collate_codes, signed=True)


def build(
    settings: ConvolutionalSettings = SETTINGS, model: ConvolutionalModel = TINY, data: DataInfo = PCM
) -> ConvolutionalObjective:
    torch.manual_seed(0)
    return ConvolutionalObjective(model, settings, data)


def state_of(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    return load(latest)


def validation_loss(objective: ConvolutionalObjective, batches: Batches[CodesBatch]) -> float:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = [objective.eval().validate(batch, generator) for batch in batches.once(epoch=99)]
    return float(sum(loss.sum for loss in losses) / sum(loss.count for loss in losses))


def test_the_loss_falls(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective = build()
    before = validation_loss(objective, batches)
    train(objective, batches, replace(LOOP, max_steps=60), directory=tmp_path)
    assert validation_loss(objective, batches) < 0.7 * before


def test_stopped_and_continued_equals_straight(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    train(build(), batches, LOOP, directory=tmp_path / "straight")
    train(build(), batches, replace(LOOP, max_steps=2), directory=tmp_path / "run")
    train(build(), batches, LOOP, directory=tmp_path / "run")
    wanted, found = state_of(tmp_path / "straight"), state_of(tmp_path / "run")
    for part in ("objective", "ema"):
        assert wanted[part].keys() == found[part].keys()
        assert [name for name in wanted[part] if not torch.equal(wanted[part][name], found[part][name])] == []
    assert not any(name.startswith("discriminators.") for name in wanted["ema"])


def test_gradients_reach_every_parameter(batches: Batches[CodesBatch]) -> None:
    objective, batch, generator = build(), next(batches.once()), torch.Generator().manual_seed(0)
    for phase in objective.phases:
        objective.loss(batch, phase, generator).sum.backward()
    silent = [
        name for name, p in objective.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert silent == []


def test_each_row_is_quantized_by_its_own_levels() -> None:
    objective = build()
    quantizer = objective.network.quantizer.eval()
    latents_BDT = torch.randn(3, objective.config.encoder_channels * 4, 7)
    levels_B = torch.tensor([1, 2, 3])
    together = quantize(quantizer, latents_BDT, levels_B)
    alone = [quantize(quantizer, latents_BDT[[row]], levels_B[[row]]) for row in range(3)]
    for row, found in enumerate(alone):
        torch.testing.assert_close(together.vectors_BDT[[row]], found.vectors_BDT)
        codes_1QT = found.codes_BQT[:, : row + 1]
        torch.testing.assert_close(found.vectors_BDT, quantizer.from_codes(codes_1QT)[0])
    torch.testing.assert_close(together.commitment, torch.stack([one.commitment for one in alone]).mean())
    torch.testing.assert_close(together.codebook, together.commitment)
    whole = quantize(quantizer, latents_BDT, torch.full((3,), 3))
    vectors_BDT, codes_BQT, _, commitment, _ = quantizer(latents_BDT)
    torch.testing.assert_close(whole.vectors_BDT, vectors_BDT)
    assert torch.equal(whole.codes_BQT, codes_BQT)
    torch.testing.assert_close(whole.commitment, commitment.mean())


def test_commitment_pulls_latents_and_codebook_pulls_codes() -> None:
    quantizer = build().network.quantizer
    latents_BDT = torch.randn(2, 32, 5, requires_grad=True)
    levels_B = torch.full((2,), 3)
    codebook = quantizer.quantizers[0].codebook.weight
    quantize(quantizer, latents_BDT, levels_B).commitment.backward()
    assert latents_BDT.grad is not None
    assert codebook.grad is None
    latents_BDT.grad = None
    quantize(quantizer, latents_BDT, levels_B).codebook.backward()
    assert codebook.grad is not None
    quantizer.zero_grad()
    quantize(quantizer, latents_BDT, levels_B).vectors_BDT.sum().backward()
    assert bool(latents_BDT.grad.abs().sum() > 0)


@pytest.mark.parametrize(("dropout", "share"), [(0.0, 0.0), (0.5, 1 / 3), (1.0, 2 / 3)])
def test_levels_are_dropped_in_a_share_of_rows_and_never_in_evaluation(dropout: float, share: float) -> None:
    objective = build(replace(SETTINGS, level_dropout=dropout))
    levels_B = objective._levels(3000, torch.Generator().manual_seed(0))
    assert float((levels_B < 3).float().mean()) == pytest.approx(share, abs=0.03)
    assert int(levels_B.min()) >= 1
    assert bool((objective.eval()._levels(5, torch.Generator()) == 3).all())


def test_metrics_show_each_levels_perplexity(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    seen: list[Any] = []
    hooks = Hooks(on_log=lambda step, metrics: seen.append(metrics))
    train(build(), batches, replace(LOOP, max_steps=1), directory=tmp_path, hooks=hooks)
    assert {"commitment", "codebook", "mel", "adversarial", "loss_discriminator"} <= seen[0].keys()
    assert all(1 <= seen[0][f"perplexity_{level}"] <= 16 for level in (1, 2, 3))
    assert "perplexity_4" not in seen[0]


def test_the_export_is_a_codec_and_a_start(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    first = build(replace(SETTINGS, name="toy", edition="7"))
    first.export(tmp_path / "toy")
    codec = load_codec(str(tmp_path / "toy"))
    assert isinstance(codec, ConvolutionalCodec)
    assert (codec.name, codec.edition, codec.hop_length, codec.n_codebooks) == ("toy", "7", 20, 3)
    torch.manual_seed(5)
    second = ConvolutionalObjective(TINY, SETTINGS, PCM)
    assert validation_loss(second, batches) != pytest.approx(validation_loss(first, batches), rel=1e-3)
    second.warm_start(tmp_path / "toy")
    assert validation_loss(second, batches) == pytest.approx(validation_loss(first, batches), rel=1e-4)
    wider = build(model=replace(TINY, codebook_size=32))
    with pytest.raises(ValueError, match=r"holds a codec of .*codebook_size=16.* not of .*codebook_size=32"):
        wider.warm_start(tmp_path / "toy")


def test_a_directory_of_the_hub_is_a_start(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    first: Any = build()
    network: Any = build_network(first.config)
    network.load_state_dict(plain_weights(first.network))
    network.save_pretrained(tmp_path)
    torch.manual_seed(5)
    second = ConvolutionalObjective(TINY, SETTINGS, PCM)
    second.warm_start(tmp_path)
    assert validation_loss(second, batches) == pytest.approx(validation_loss(first, batches), rel=1e-4)


def test_samples_come_in_pairs(batches: Batches[CodesBatch]) -> None:
    objective, first = build(), Position(0, 0)
    batch = collate_codes(batches.store, batches.items(first)[:2], first)
    samples = objective.eval().samples(batch, torch.Generator())
    names = ["original-0", "reconstructed-0", "original-1", "reconstructed-1"]
    assert [sample.name for sample in samples] == names
    assert all(sample.wave_T.shape == (1600,) for sample in samples)
    made_BN = objective.reconstruct(torch.stack([s.wave_T for s in samples[::2]]), torch.Generator()).wave_BN
    rebuilt_BN = torch.stack([sample.wave_T for sample in samples[1::2]])
    # The codec sees zeros behind the wave, training does not.
    torch.testing.assert_close(rebuilt_BN[:, :1000], made_BN[:, :1000].detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", ["44khz", "24khz"])
def test_data_at_another_rate_are_refused(preset: Any) -> None:
    rate = PRESETS[preset].sample_rate
    message = rf"preset {preset} works at {rate} Hz, but the data \(pcm-16khz@1\) are at 16000 Hz: prepare them with"
    with pytest.raises(ValueError, match=message) as refusal:
        ConvolutionalObjective(replace(TINY, preset=preset), SETTINGS, PCM)
    named = str(refusal.value).split("prepare them with ")[1].split(",")[0]
    assert PCM_RATES[named] == rate


def test_every_preset_can_be_asked_for() -> None:
    assert set(get_args(get_type_hints(ConvolutionalModel)["preset"])) == set(PRESETS)
    assert all(ConvolutionalModel(preset).resolve() == config for preset, config in PRESETS.items())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codebook_weight": -1.0}, "codebook_weight is -1.0"),
        ({"level_dropout": 1.5}, "level_dropout is 1.5"),
        ({"speeds": ()}, "at least one"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalSettings(**wrong)


MakeDataset = Callable[..., str]
PCM_44KHZ = {
    "name": "pcm-44khz",
    "sample_rate": 44_100,
    "hop_length": 1,
    "n_codebooks": 1,
    "codebook_size": 65536,
}


@pytest.fixture
def fit(make_dataset: MakeDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """fit(*overrides) -> exit code, JSON line, standard error: a few steps on rows of pcm-44khz."""
    uri = make_dataset(rows=6, validation=2, **PCM_44KHZ)
    sizes = {name: value for name, value in asdict(TINY).items() if name != "preset"}
    settings = {
        "family": "codec_dac",
        "model": {**sizes, "preset": "44khz"},
        "objective": {
            "name": "toy",
            "spectral": {"mel_windows": [64], "mel_counts": [5]},
            "adversarial": {"discriminators": asdict(DISCRIMINATORS)},
        },
        "data": {"dataset": uri, "batch": {"crop_frames": 400, "max_samples": 4}},
        "loop": {"max_steps": 2, "validate_every": 2, "log_every": 1, "samples": 1},
        "output": str(tmp_path / "run"),
        "tracking": {"enabled": False},
    }
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(settings))))

    def call(*overrides: str) -> tuple[int, Any, str]:
        code = main(["fit", str(path), *(word for override in overrides for word in ("--set", override))])
        out, err = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, err

    return call


def test_a_codec_is_trained_by_command_and_not_continued_as_another(fit: Any, tmp_path: Path) -> None:
    code, result, error = fit()
    assert code == 0, error
    assert result["steps"] == 2
    codec = load_codec(str(tmp_path / "run" / "export"))
    assert (codec.name, codec.sample_rate) == ("toy", 44_100)
    code, _, error = fit("model.preset=44khz-2048", "loop.max_steps=4")
    assert code == 1
    assert 'model.preset was "44khz", is "44khz-2048"' in error
    code, _, error = fit("model.preset=16khz")
    assert code != 0
    assert "preset 16khz works at 16000 Hz, but the data (pcm-44khz@1) are at 44100 Hz" in error
    assert len(error.strip().splitlines()) == 1


CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "codec").glob("dac-*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_it_can_be_run(
    path: Path, make_dataset: MakeDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    preset = PRESETS[yaml.safe_load(path.read_text())["model"]["preset"]]
    name = next(name for name, rate in PCM_RATES.items() if rate == preset.sample_rate)
    uri = make_dataset(rows=4, validation=2, **{**PCM_44KHZ, "name": name, "sample_rate": preset.sample_rate})
    code = main(["fit", str(path), "--set", f"data.dataset={uri}", "--dry-run"])
    out, error = capfd.readouterr()
    assert code == 0, error
    # Some 75 million of the codec, 42 million of Descript's discriminators.
    assert 100e6 < json.loads(out.strip().splitlines()[-1])["parameters"] < 180e6


def test_there_are_configurations() -> None:
    assert [path.stem for path in CONFIGS] == ["dac-16khz", "dac-44khz-2048"]


def test_a_saved_codec_keeps_what_was_learned(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    """The export of a trained network decodes as that network does, though its weights are stored multiplied out."""
    objective = build()
    train(objective, batches, replace(LOOP, ema_decay=None), directory=tmp_path / "run")
    save_directory(objective.network, objective.config, tmp_path / "codec", "toy", "1")
    codec: Any = load_codec(str(tmp_path / "codec"))
    latents_BDT: Tensor = torch.randn(1, 32, 9)
    expected = objective.eval().network.decoder(latents_BDT)
    torch.testing.assert_close(codec.network.decoder(latents_BDT), expected, rtol=1e-4, atol=1e-5)
