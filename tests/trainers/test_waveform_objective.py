"""Two phases on one reconstruction: who learns when, what is kept, and that a stopped run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from models.codecs.discriminators import DiscriminatorConfig
from models.codecs.pcm import PcmCodec
from trainers.checkpoint import Checkpoints, load
from trainers.data import Batches, CodesBatch, collate_codes, open_batches
from trainers.ema import Ema
from trainers.loop import train
from trainers.loop_config import Hooks, LoopConfig
from trainers.objectives import DataInfo, Loss, mean_metric
from trainers.objectives.adversarial import AdversarialSettings
from trainers.objectives.spectral import SpectralSettings
from trainers.objectives.waveform import Reconstruction, WaveformObjective, WaveformSettings
from trainers.optim import OptimConfig
from trainers.plan import BatchConfig

PCM = DataInfo("pcm-16khz", 16_000, 1, 1, PcmCodec.codebook_size, 0.0)
SETTINGS = WaveformSettings(
    spectral=SpectralSettings(
        mel_windows=(64, 256), mel_counts=(5, 20), stft_weight=1.0, stft_windows=(128,)
    ),
    adversarial=AdversarialSettings(
        discriminators=DiscriminatorConfig(
            periods=(3,), period_channels=(4,), fft_lengths=(128,), bands=((0.0, 1.0),), spectrum_channels=4
        )
    ),
    speeds=(0.8, 1.0, 1.25),
)
LOOP = LoopConfig(
    max_steps=4,
    batches_per_step=2,
    log_every=1,
    validate_every=100,
    ema_decay=0.9,
    optim=OptimConfig(lr=1e-3),
    phase_optim={"discriminator": OptimConfig(lr=2e-3)},
)


class Smoother(WaveformObjective):
    """One convolution over the wave, with noise, so that randomness matters."""

    def __init__(self, settings: WaveformSettings = SETTINGS, data: DataInfo = PCM) -> None:
        torch.manual_seed(0)
        super().__init__(settings, data, hop_length=80)
        self.network = nn.Conv1d(1, 1, 9, padding=4)
        self.calls = 0

    def reconstruct(self, wave_BN: Tensor, generator: torch.Generator) -> Reconstruction:
        self.calls += 1
        made_BN = self.network(wave_BN[:, None])[:, 0]
        if self.training:
            made_BN = made_BN + 0.01 * torch.randn(made_BN.shape, generator=generator)
        size = self.network.weight.square().mean()
        return Reconstruction(made_BN, {"size": (0.1, size)}, {"rows": mean_metric(torch.ones(()), 1.0)})


@pytest.fixture
def batches(tmp_path: Path) -> Batches[CodesBatch]:
    write_rows(tmp_path / "train.parquet")
    return read(tmp_path / "train.parquet")


def write_rows(file: Path) -> None:
    rng = np.random.default_rng(0)
    waves = [np.round(rng.normal(0, 3000, 2000)).astype(np.int16) for _ in range(12)]
    codes = pa.array([[wave.tolist()] for wave in waves], type=pa.list_(pa.list_(pa.int16())))
    ids = [f"row-{index:02}" for index in range(len(waves))]
    pq.write_table(pa.table({"id": ids, "text": [""] * len(waves), "codes": codes}), file)


def read(file: Path) -> Batches[CodesBatch]:
    config = BatchConfig(crop_frames=1600, max_samples=3)
    return open_batches([file], config, 0, collate_codes, signed=True)


def adversarial(**changes: Any) -> WaveformSettings:
    return replace(SETTINGS, adversarial=replace(SETTINGS.adversarial, **changes))


def state_of(directory: Path) -> dict[str, Any]:
    latest = Checkpoints(directory).latest()
    assert latest is not None
    state = load(latest)
    del state["elapsed_s"]
    return state


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    if isinstance(left, Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


@pytest.mark.parametrize("settings", [SETTINGS, adversarial(starts_at=1, every=2)])
def test_stopped_and_continued_equals_straight(
    batches: Batches[CodesBatch], tmp_path: Path, settings: WaveformSettings
) -> None:
    train(Smoother(settings), batches, LOOP, directory=tmp_path / "straight")
    train(Smoother(settings), batches, replace(LOOP, max_steps=2), directory=tmp_path / "run")
    train(Smoother(settings), batches, LOOP, directory=tmp_path / "run")
    wanted = state_of(tmp_path / "straight")
    assert wanted["optimizers"].keys() == {"generator", "discriminator"}
    assert any(name.startswith("discriminators.") for name in wanted["objective"])
    assert_equal(wanted, state_of(tmp_path / "run"))


def test_both_sides_learn_from_one_reconstruction(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective, logs = Smoother(), []
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    hooks = Hooks(on_log=lambda step, metrics: logs.append(metrics))
    train(objective, batches, replace(LOOP, max_steps=2), directory=tmp_path, hooks=hooks)
    assert objective.calls == 2 * LOOP.batches_per_step
    assert [name for name, p in objective.named_parameters() if torch.equal(p, before[name])] == []
    shown = {"loss", "mel", "stft", "adversarial", "feature_matching", "size", "rows"}
    assert shown | {"loss_discriminator", "score_real", "score_made"} <= logs[0].keys()
    assert logs[0]["learning_rate_discriminator"] == 2e-3


def test_discriminators_start_late_and_learn_at_every_nth_step(
    batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    objective = Smoother(adversarial(starts_at=1, every=2))
    seen: list[Mapping[str, float]] = []
    hooks = Hooks(on_log=lambda step, metrics: seen.append(metrics))
    train(objective, batches, LOOP, directory=tmp_path, hooks=hooks)
    assert ["adversarial" in metrics for metrics in seen] == [False, True, True, True]
    assert ["loss_discriminator" in metrics for metrics in seen] == [False, True, False, True]


def test_a_phase_moves_its_own_side(batches: Batches[CodesBatch]) -> None:
    objective, batch = Smoother(), next(batches.once())
    generator = torch.Generator().manual_seed(0)
    objective.loss(batch, "generator", generator)
    objective.loss(batch, "discriminator", generator).sum.backward()
    moved = {name.split(".")[0] for name, p in objective.named_parameters() if p.grad is not None}
    assert moved == {"discriminators"}
    groups = {phase: objective.parameter_groups(phase)[0]["params"] for phase in objective.phases}
    assert {id(p) for phase in groups for p in groups[phase]} == {id(p) for p in objective.parameters()}
    assert sum(map(len, groups.values())) == len(list(objective.parameters()))


def test_without_discriminators_there_is_one_phase(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective = Smoother(adversarial(weight=0.0))
    assert objective.phases == ("generator",)
    loop = replace(LOOP, phase_optim={}, max_steps=2)
    train(objective, batches, loop, directory=tmp_path)
    assert {name.split(".")[0] for name in state_of(tmp_path)["objective"]} == {"network", "steps_done"}


def test_the_average_is_of_the_generator_alone() -> None:
    objective = Smoother()
    average = Ema(objective, 0.5)
    assert average.weights.keys() == {"network.weight", "network.bias", "updates"}
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(1.0)
    after = {name: p.detach().clone() for name, p in objective.named_parameters()}
    with average.applied(objective):
        changed = {name for name, p in objective.named_parameters() if not torch.equal(p, after[name])}
        assert changed == {"network.weight", "network.bias"}
    assert all(torch.equal(p, after[name]) for name, p in objective.named_parameters())


def test_validation_measures_distances_without_variation(batches: Batches[CodesBatch]) -> None:
    objective, batch = Smoother().eval(), next(batches.once())
    with torch.no_grad():
        objective.network.weight.zero_()
        objective.network.weight[0, 0, 4] = 1.0
        objective.network.bias.zero_()
        found = objective.validate(batch, torch.Generator())
        assert found.metrics.keys() == {"mel", "stft", "size", "rows"}
        assert float(found.sum) == pytest.approx(0.0, abs=1e-3)
        objective.network.weight[0, 0, 4] = 0.5
        halved = objective.validate(batch, torch.Generator())
    assert float(halved.sum / halved.count) == pytest.approx(2 * 0.30103, rel=0.01)
    assert float(halved.metrics["mel"][0] / halved.metrics["mel"][1]) == pytest.approx(0.60206, rel=0.01)


class Poisoned(Smoother):
    """A weight turns into NaN at step 2, for the generator before its phase, for the discriminators before theirs."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase = phase

    def loss(self, batch: CodesBatch, phase: str, generator: torch.Generator) -> Loss:
        if (phase, int(self.steps_done)) == (self.phase, 2):
            self.parameter_groups(phase)[0]["params"][0].data.fill_(float("nan"))
        return super().loss(batch, phase, generator)


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_a_loss_that_is_not_a_number_stops_before_the_update(
    batches: Batches[CodesBatch], tmp_path: Path, phase: str
) -> None:
    message = rf"loss is nan in phase '{phase}' of step 2 \(rows row-\d+.*stopped before the update"
    with pytest.raises(FloatingPointError, match=message):
        train(Poisoned(phase), batches, replace(LOOP, checkpoint_every=1), directory=tmp_path)
    assert state_of(tmp_path)["step"] == 2


def test_a_reconstruction_that_is_not_a_number_stops_too(
    batches: Batches[CodesBatch], tmp_path: Path
) -> None:
    class Exploding(Smoother):
        def reconstruct(self, wave_BN: Tensor, generator: torch.Generator) -> Reconstruction:
            made = super().reconstruct(wave_BN, generator)
            return replace(made, wave_BN=made.wave_BN / 0.0)

    with pytest.raises(FloatingPointError, match="in phase 'generator' of step 0"):
        train(Exploding(), batches, LOOP, directory=tmp_path)


def test_bfloat16_reaches_the_networks_only(batches: Batches[CodesBatch], tmp_path: Path) -> None:
    objective, losses = Smoother(), []
    hooks: Callable[..., None] = lambda step, metrics: losses.append(metrics["mel"])  # noqa: E731
    train(
        objective,
        batches,
        replace(LOOP, precision="bf16"),
        directory=tmp_path / "bf16",
        hooks=Hooks(on_log=hooks),
    )
    train(Smoother(), batches, LOOP, directory=tmp_path / "fp32", hooks=Hooks(on_log=hooks))
    assert losses[:4] == pytest.approx(losses[4:], rel=0.05)


def test_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="prepare the data with pcm-16khz or the like, not mill-16khz@1"):
        Smoother(data=DataInfo("mill-16khz@1", 16_000, 320, 8, 1024, 0.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"gain_db": (6.0, -6.0)}, "the lowest gain must come first"), ({"speeds": ()}, "at least one")],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveformSettings(**wrong)


def on_rank(folder: Path) -> None:
    """The work of each of two ranks; `test_parallel.py` compares the outcome with `alone`."""
    batches = read(folder / "waves.parquet")
    for steps, sharding in ((2, "none"), (4, "fsdp")):
        train(
            Smoother(),
            batches,
            replace(LOOP, max_steps=steps, sharding=sharding),
            directory=folder / "waves-two",
        )


def alone(folder: Path) -> None:
    """The same in one process."""
    write_rows(folder / "waves.parquet")
    train(Smoother(), read(folder / "waves.parquet"), LOOP, directory=folder / "waves-one")
