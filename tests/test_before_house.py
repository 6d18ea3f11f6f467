"""The contents of `tests/fixtures/before_house`, which commit 5e3c64c wrote, still loads, speaks and continues.

Ids, codes, counts, digests and the order of batches are compared exactly, what floats make with a tolerance, because
processors round differently. Nothing here may be loosened or made again to suit newer code: people have such
directories. How a command or a function is called may follow the code.

The directories lie elsewhere than where they were made, which is what a registered model must bear. A run is another
matter: it is bound to the absolute path of its dataset, in its config.yaml and in its checkpoints, so those two are
changed to where the test has the dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from catalog.datasets import Dataset
from catalog.shards import read_shard
from catalog.upkeep import verify
from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.systems import load_system
from models.systems.prompt import Prompt
from trainers.objectives import Objective, objective_class

FIXTURE = Path(__file__).parent / "fixtures" / "before_house"
MADE_IN = "/before_house"
"""Where `make.py` worked, so that the files name nobody's machine."""
TEXTS = {"plain": "four two", "prompted": "four two", "figures": "42 ‘é’"}
"""What is spoken; what was trained without normalising text is spoken without it."""
PROMPT_TEXT = "six"
SAMPLES_TOLERANCE = 1e-3
"""Full scale is 1; the expected samples are stored in half precision."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the fixture in another place."""
    place = tmp_path_factory.mktemp("moved") / "house"
    shutil.copytree(FIXTURE, place)
    return place


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """Outputs of the commit that wrote the fixture."""
    return dict(json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def waves() -> dict[str, Tensor]:
    """The same, samples and codes."""
    return load_file(FIXTURE / "expected.safetensors")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Any:
    """command(package, words...) -> the JSON line of `python -m package words...`, or all of standard output."""

    def call(package: str, *words: str | Path) -> Any:
        capfd.readouterr()
        code = import_module(f"{package}.__main__").main([str(word) for word in words])
        out, error = capfd.readouterr()
        assert code == 0, error
        last = out.strip().splitlines()[-1]
        return json.loads(last) if last.startswith("{") else out

    return call


# make.py calls the functions from here to `weights_of`, too.


def speak(system: Any, folder: Path) -> dict[str, Tensor]:
    """The samples of every entry of TEXTS."""
    found = {}
    for name, text in TEXTS.items():
        given = [prompt_of(folder)] if name == "prompted" else None
        (wave,) = system.synthesize([text], given, generator=torch.Generator().manual_seed(0))
        assert wave.sample_rate == 16000
        found[name] = wave.wave_BT[0, : int(wave.lengths_B[0])].contiguous()
    return found


def prompt_of(folder: Path) -> Prompt:
    samples, sample_rate = soundfile.read(folder / "prompt.wav", dtype="float32")
    return Prompt(
        Wave(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), sample_rate), PROMPT_TEXT
    )


def sweep() -> Tensor:
    """A third of a second for a codec, (1, T)."""
    times_T = torch.arange(5120, dtype=torch.float64)
    return (0.5 * (times_T * 0.03 + times_T**2 * 2e-5).sin() * (times_T * 0.002).cos()).float()[None]


def rows_of(dataset: Dataset) -> dict[str, list[Any]]:
    """id -> split, text, why it was rejected, frames, sha256 of its codes."""
    found = {}
    for shard in dataset.shards():
        for row in read_shard(dataset.storage, shard).to_pylist():
            codes = np.asarray(row["codes"], dtype="<i2").tobytes() if row["codes"] else b""
            digest = hashlib.sha256(codes).hexdigest()
            found[row["id"]] = [shard.split, row["text"], row["reason"], row["target_length"], digest]
    return found


@contextmanager
def recorded() -> Iterator[list[dict[str, Any]]]:
    """Every batch that an objective is trained on while this lasts: its position, ids, loss and what it counts."""
    found: list[dict[str, Any]] = []

    def record(module: torch.nn.Module, arguments: tuple[Any, ...], loss: Any) -> None:
        if isinstance(module, Objective) and module.training:
            batch, *_ = arguments
            mean = float(loss.sum.detach() / loss.count)
            found.append(
                {
                    "position": list(batch.position),
                    "ids": list(batch.ids),
                    "count": int(loss.count),
                    "loss": mean,
                }
            )

    handle = register_module_forward_hook(record)
    try:
        yield found
    finally:
        handle.remove()


def weights_of(directory: Path) -> dict[str, float]:
    """The norm of every tensor of a generator."""
    return {name: float(tensor.norm()) for name, tensor in load_file(directory / "model.safetensors").items()}


def test_names_that_registered_versions_and_users_import() -> None:
    for name in (
        "models.systems.load_system",
        "models.systems.prompt.Prompt",
        "models.codecs.interface.Wave",
        "trainers.wav.wav_bytes",
        "models.interop.load",
    ):
        module, _, member = name.rpartition(".")
        assert callable(getattr(import_module(module), member)), name
    for family in ("maskgct_t2s", "maskgct_s2a", "codec", "codec_dac", "codec_head"):
        assert issubclass(objective_class(family), Objective)


def test_the_dataset_is_whole(house: Path, expected: dict[str, Any]) -> None:
    dataset = Dataset.open(house / "dataset")
    assert verify(dataset) == []
    assert rows_of(dataset) == expected["rows"]
    totals = dataset.totals()
    assert (totals.recordings, totals.utterances, totals.rejected) == (13, 12, 1)
    assert len(dataset.shards("train")) > 1
    assert dataset.settings == expected["settings"]
    assert dataset.settings_digest == expected["settings_digest"]
    identity = json.loads((house / "system" / "system.json").read_text())["codec_identity"]
    for made_by in (dataset.codec, load_codec(str(house / "codec"))):
        assert {field: getattr(made_by, field) for field in identity} == identity


def test_prepare_goes_on_with_the_dataset(house: Path, command: Any, tmp_path: Path) -> None:
    (tmp_path / "000.wav").write_bytes(b"")  # the recording that was rejected
    shutil.copy(house / "prompt.wav", tmp_path / "new.wav")
    words = ["prepare", tmp_path, house / "dataset", "--config", house / "prepare.yaml", "--dry-run"]
    plan = command("pipelines", *words, "--set", f"codec.name={house / 'codec'}")
    assert "planned: 1 of 2 recordings" in plan
    assert plan.strip().endswith("codec tiny@1")


@pytest.mark.parametrize("name", ["codec", "codec_with_head"])
def test_codecs_make_the_same_codes(house: Path, waves: dict[str, Tensor], name: str) -> None:
    codec = load_codec(str(house / name))
    codes = codec.encode(sweep(), torch.tensor([sweep().shape[1]]))
    assert torch.equal(codes.codes_BQT[0], waves[f"{name}.codes"])
    assert_close(codec.decode(codes).wave_BT[0], waves[f"{name}.samples"])


def test_the_system_speaks_as_before(house: Path, waves: dict[str, Tensor]) -> None:
    spoken = speak(load_system(house / "system"), house)
    for name, samples in spoken.items():
        assert_close(samples, waves[name])


def test_the_pyfunc_speaks_as_before(
    house: Path, waves: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with warnings.catch_warnings(record=True):  # about type hints, past any filter
        model = mlflow.pyfunc.load_model(str(house / "pyfunc"))
    script = type(model.unwrap_python_model()).load_context.__code__.co_filename
    assert Path(script) == house / "pyfunc" / "pyfunc.py", "its own copy, not trainers/pyfunc.py"
    prompt = {"prompt": (house / "prompt.wav").read_bytes(), "prompt_text": PROMPT_TEXT}
    for name, text in TEXTS.items():
        rows = pd.DataFrame([{"text": text} | (prompt if name == "prompted" else {})])
        (row,) = model.predict(rows, params={"seed": 0}).to_dict("records")
        samples, sample_rate = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")
        assert sample_rate == row["sample_rate"] == 16000
        assert_close(torch.from_numpy(samples), waves[name])


def test_the_generators_make_a_system(house: Path, expected: dict[str, Any], command: Any) -> None:
    parts = [word for role in ("t2s", "s2a") for word in (f"--{role}", house / "generators" / role)]
    words = ["--codec", house / "codec", "--name", "again", "--dry-run"]
    plan = command("trainers", "assemble", *parts, *words)
    assert plan["options"] == pytest.approx(expected["measured"])
    assert plan["text"] == {"kind": "bytes"}


def test_the_interrupted_run_continues(house: Path, expected: dict[str, Any], command: Any) -> None:
    wanted, run = expected["interrupted"], house / "interrupted"
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(MADE_IN, str(house)))
    for path in (run / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        state["identity"]["data"]["dataset"] = str(house / "dataset")
        torch.save(state, path)
    with recorded() as batches:
        result = command("trainers", "fit", config, "--set", "device=cpu")
    assert {key: result[key] for key in wanted["result"]} == wanted["result"]
    for key in ("position", "ids", "count"):
        assert [batch[key] for batch in batches] == [batch[key] for batch in wanted["batches"]]
    losses = [batch["loss"] for batch in batches]
    assert losses == pytest.approx([batch["loss"] for batch in wanted["batches"]], rel=1e-6)
    assert {key: result[key] for key in wanted["losses"]} == pytest.approx(wanted["losses"], rel=1e-6)
    assert weights_of(run / "export") == pytest.approx(wanted["weights"], rel=1e-5)
    record = json.loads((run / "export" / "training.json").read_text())
    assert record["dataset"]["rows"] == wanted["rows"]


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted.float()).abs().max()) < SAMPLES_TOLERANCE
