"""Fine-tuning with an adapter: a base, an adapter of it, both in systems that share the base's weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file

from catalog.appending import Appender
from catalog.command import UsageError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.models import resolve
from catalog.shards import write_shard
from models.adapters import adapter_state, merged, read_adapter
from models.codec_sources import load_codec
from models.generators import load_generator
from models.shared_weights import load_shared
from models.system_files import load_system
from trainers.checkpoint import Checkpoints, load
from trainers.settings import load_fit

SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16}
LORA = {"rank": 2, "alpha": 8.0, "dropout": 0.1, "targets": ["qkv", "down"]}
Made = dict[str, Any]


@pytest.fixture
def dataset(make_dataset: Callable[..., str]) -> str:
    codec = load_codec("mill-16khz@1")
    identity = {name: getattr(codec, name) for name in ("name", "edition", "weights_sha256")}
    return make_dataset(
        rows=8, validation=2, n_codebooks=8, codebook_size=codec.codebook_size, hop_length=320, **identity
    )


def settings_of(dataset: str, folder: Path, part: str = "s2a", **changes: Any) -> Made:
    loop = {"max_steps": 4, "validate_every": 2, "log_every": 1, "samples": 0, "optim": {"lr": 0.01}}
    return {
        "family": f"maskgct_{part}",
        "data": {"dataset": dataset},
        "output": str(folder),
        "tracking": {"enabled": False},
        **changes,
        "loop": loop | changes.get("loop", {}),
    }


def write(settings: Made, path: Path) -> str:
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture
def fit(command: Any, tmp_path: Path, mlflow_uri: str) -> Callable[..., tuple[int, Any, str]]:
    def run(settings: Made, *words: str) -> tuple[int, Any, str]:
        found: tuple[int, Any, str] = command("fit", write(settings, tmp_path / "fit.yaml"), *words)
        return found

    return run


@pytest.fixture
def bases(fit: Any, dataset: str, tmp_path: Path) -> dict[str, str]:
    """T2S and S2A of a few updates; S2A is registered."""
    for part in ("t2s", "s2a"):
        changes: Made = {"register": "s2a"} if part == "s2a" else {}
        code, _, error = fit(settings_of(dataset, tmp_path / part, part, model=SIZES, **changes))
        assert code == 0, error
    return {"t2s": str(tmp_path / "t2s" / "export"), "s2a": "models:/s2a/1"}


def test_from_a_registered_base_to_systems_that_share_it(
    fit: Any, command: Any, bases: dict[str, str], dataset: str, tmp_path: Path, mlflow_uri: str
) -> None:
    settings = settings_of(
        dataset, tmp_path / "tuned", adapter={"base": "models:/s2a@best", **LORA}, register="tuned"
    )
    code, plan, error = fit(settings, "--dry-run")
    assert code == 0, error
    # A pair of matrices for 16 -> 48 and for 16 -> 16.
    assert plan["trained"] == 2 * (16 + 48) + 2 * (16 + 16)
    code, made, error = fit(settings)
    assert code == 0, error

    adapter, base = resolve("models:/tuned/1"), resolve("models:/s2a/1")
    stored = read_adapter(adapter)
    assert stored is not None
    weights = (base / "model.safetensors").read_bytes()
    assert (stored.base.source, stored.base.sha256) == ("models:/s2a/1", hashlib.sha256(weights).hexdigest())
    assert all("lora_" in name for name in load_file(adapter / "model.safetensors"))
    assert (adapter / "text.json").read_text() == (base / "text.json").read_text()
    checkpoint = load(Path(made["checkpoint"]))
    assert all("lora_" in name for name in checkpoint["objective"])

    systems = {}
    for name, source in (("plain", bases["s2a"]), ("tuned", "models:/tuned/1"), ("merged", made["export"])):
        parts = ["--part", f"t2s={bases['t2s']}", "--part", f"s2a={source}"]
        short = ["--set", "options.t2s_steps=1", "--set", "options.s2a_steps=[1]"]
        words = ["assemble", "maskgct", *parts, "--codec", "mill-16khz@1", "--name", f"{name}-system", *short]
        code, found, error = command(*words)
        assert code == 0, error
        systems[name] = resolve(found["model"])
    tags = MlflowClient(mlflow_uri).get_model_version("tuned-system", "1").tags
    assert (tags["s2a"], tags["s2a.base"]) == ("models:/tuned/1", "models:/s2a/1")

    loaded = {name: load_system(folder) for name, folder in systems.items()}
    plain, tuned = (pointers(loaded[name]) for name in ("plain", "tuned"))
    assert plain == tuned
    _check_merged(systems)
    _check_pyfunc(mlflow_uri)


def pointers(system: Any) -> list[int]:
    """Where the base's parameters of S2A lie."""
    return [one.data_ptr() for name, one in system.s2a.named_parameters() if "lora_" not in name]


def _check_merged(systems: dict[str, Path]) -> None:
    """The same weights, whether they are added before or at every call."""
    _, tuned = load_shared(systems["tuned"] / "s2a")
    _, whole = load_generator(systems["merged"] / "s2a")
    assert any(bool(one.abs().sum() > 0) for name, one in adapter_state(tuned).items() if "lora_B" in name)
    for name, value in merged(tuned).state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[name])


def _check_pyfunc(uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/tuned-system/1")
    audio = [model.predict(pd.DataFrame({"text": ["one two"]}), params={"seed": 7})["audio"][0] for _ in "ab"]
    assert audio[0][:4] == b"RIFF"
    assert audio[0] == audio[1]


def test_a_run_that_stopped_continues_as_if_it_had_not(
    fit: Any, bases: dict[str, str], dataset: str, tmp_path: Path
) -> None:
    adapter = {"base": bases["s2a"], **LORA}
    ema = {"ema_decay": 0.9}
    straight = settings_of(dataset, tmp_path / "straight", adapter=adapter, loop=ema)
    stopped = settings_of(dataset, tmp_path / "stopped", adapter=adapter, loop=ema | {"max_steps": 2})
    assert fit(straight)[0] == fit(stopped)[0] == 0
    stopped["loop"]["max_steps"] = 4
    code, made, error = fit(stopped)
    assert code == 0, error
    assert made["steps"] == 4
    first, second = (
        load(found) for name in ("straight", "stopped")
        if (found := Checkpoints(tmp_path / name / "checkpoints").latest()) is not None
    )  # fmt: skip
    for part in ("objective", "ema"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())
    files = [tmp_path / name / "adapter" / "model.safetensors" for name in ("straight", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()

    stopped["adapter"] = {**adapter, "rank": 3}
    code, _, error = fit(stopped)
    assert code == 1
    assert "adapter.rank was 2, is 3" in error


def spelled(dataset: str, folder: Path, codes: dict[str, int]) -> str:
    """The dataset's training rows as texts of one letter, which says the code of all frames."""
    source = Dataset.open(dataset)
    columns = ["id", "recording_id", "text", "codes", "target_length", "duration_s"]
    rows = source.read(columns, "train").to_pylist()
    for index, row in enumerate(rows):
        row["text"] = "ab"[index % 2]
        row["codes"] = [[codes[row["text"]]] * len(level) for level in row["codes"]]
    appender = Appender(create(folder, source.codec, {}))
    table = pa.Table.from_pylist(rows).append_column("split", pa.array(["train"] * len(rows)))
    appender.append(write_shard(table, appender.uri, "test", source.codec))
    return appender.uri


def test_it_learns_what_its_base_has_wrong(fit: Any, dataset: str, tmp_path: Path) -> None:
    """Training losses of the letters exchanged: of the first update, which is the base's, and around the 60th."""
    known = spelled(dataset, tmp_path / "known", {"a": 5, "b": 7})
    exchanged = spelled(dataset, tmp_path / "exchanged", {"a": 7, "b": 5})
    targets = ["qkv", "out", "gate_up", "down"]
    adapter = {"base": str(tmp_path / "base" / "export"), "rank": 8, "targets": targets}

    def loss(data: str, name: str, steps: int, **changes: Any) -> float:
        loop = {"max_steps": steps, "validate_every": 200, "log_every": 10, "optim": {"lr": 0.02}}
        code, made, error = fit(settings_of(data, tmp_path / name, "t2s", loop=loop, **changes))
        assert code == 0, error
        return float(made["loss"])

    learned = loss(known, "base", 100, model=SIZES)
    wrong = loss(exchanged, "first", 1, adapter=adapter)
    assert learned < 0.5 * wrong
    assert loss(exchanged, "tuned", 60, adapter=adapter) < 0.5 * wrong


def test_what_does_not_fit_is_one_line(
    fit: Any, command: Any, bases: dict[str, str], dataset: str, tmp_path: Path
) -> None:
    cases = {
        "target 'query' is no linear layer of MaskGCTS2A": {"base": bases["s2a"], "targets": ["query"]},
        "rank is 99: must be at most 16": {"base": bases["s2a"], "rank": 99},
        "is a maskgct_t2s; family is maskgct_s2a": {"base": bases["t2s"]},
        "adapter.base": {"base": str(tmp_path)},
        "nobody": {"base": "models:/nobody/1"},
    }
    for said, adapter in cases.items():
        code, _, error = fit(settings_of(dataset, tmp_path / "run", adapter=adapter))
        assert code in (1, 2), said
        assert said in error
        assert len(error.strip().splitlines()) == 1, error
    code, _, error = fit(
        settings_of(dataset, tmp_path / "run", adapter={"base": bases["s2a"]}, objective={"text": {"kind": "phonemes"}})
    )  # fmt: skip
    assert code == 2
    assert "objective.text is {'kind': 'phonemes'" in error
    assert "adapter.base models:/s2a/1 reads {'kind': 'bytes'" in error

    code, made, error = fit(settings_of(dataset, tmp_path / "run", adapter={"base": bases["s2a"], **LORA}))
    assert code == 0, error
    again = settings_of(dataset, tmp_path / "other", adapter={"base": made["adapter"], **LORA})
    code, _, error = fit(again)
    assert "is an adapter itself: give a generator, or a merged one" in error
    gone = shutil.copytree(made["adapter"], tmp_path / "gone")
    described = json.loads((gone / "config.json").read_text())
    described["base"]["sha256"] = "0" * 64
    (gone / "config.json").write_text(json.dumps(described))
    parts = ["--part", f"t2s={bases['t2s']}", "--part", f"s2a={gone}"]
    code, _, error = command("assemble", "maskgct", *parts, "--codec", "mill-16khz@1", "--name", "x")
    assert code == 1
    assert "is an adapter of models:/s2a/1 with the weights 000000000000, which are now" in error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init": "models:/s2a/1"}, "give one of them"),
        (
            {"workers": 2, "loop": {"sharding": "fsdp", "batches_per_step": 2}},
            "an adapter is trained replicated",
        ),
        ({"adapter": {"base": "x", "rank": 0}}, "adapter: rank is 0"),
        ({"adapter": {"rank": 2}}, "base"),
        ({"adapter": {"base": "x", "rang": 2}}, "rank"),
    ],
)
def test_settings_that_are_refused(changes: Made, said: str, tmp_path: Path) -> None:
    settings = settings_of("x", tmp_path, **({"adapter": {"base": "x"}} | changes))
    with pytest.raises(UsageError, match=said):
        load_fit(Path(write(settings, tmp_path / "fit.yaml")))
