"""VALL-E's training configuration becomes ours: every key of its users is understood, unknown ones are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.families import foreign_config
from trainers.__main__ import main
from trainers.import_config import table_of_keys
from trainers.settings import load_fit

CONFIG = """
dataset:
  training: [data/a, data/b]
  validation: []
  noise: []
  use_hdf5: true
  phones_range: [4, 512]
  duration_range: [1.0, 16.0]
  random_utterance: 0.75
  max_prompts: 2
  prompt_duration: 4.0
models:
  _models:
    - {name: ar, size: quarter, resp_levels: 1, prom_levels: 2, tasks: 8, arch_type: transformer}
    - {name: nar, size: half, resp_levels: 1, prom_levels: 4, tasks: 1}
hyperparameters:
  batch_size: 16
  gradient_accumulation_steps: 4
  gradient_clipping: 100
  optimizer: AdamW
  learning_rate: 1.0e-4
evaluation: {frequency: 500, size: 4, steps: 450, ar_temperature: 0.9, nar_temperature: 0.25}
train: {iterations: 1000, save_frequency: 50, weight_dtype: bfloat16, load_state_dict: true, backend: deepspeed}
inference: {use_vocos: true}
bitsandbytes: {enabled: false}
"""


def translated(tmp_path: Path, text: str, capsys: Any, *words: str) -> tuple[int, Any, str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    code = main(["import-config", "vall-e", str(path), "-o", str(tmp_path / "ours"), *words])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else None, err


def test_a_file_becomes_two_trainings(tmp_path: Path, capsys: Any) -> None:
    code, told, error = translated(tmp_path, CONFIG, capsys, "--dataset", "datasets/mine")
    assert code == 0, error
    assert [Path(file).name for file in told["files"]] == ["ar.yaml", "nar.yaml"]
    assert told["assemble"] == ["options.ar_temp=0.9", "options.nar_temp=0.25", "options.max_ar_steps=450"]
    assert set(told["ignored"]) == {
        *("dataset.training", "dataset.validation", "dataset.noise", "dataset.use_hdf5"),
        *("dataset.phones_range", "models.resp_levels", "trainer.load_state_dict", "trainer.backend"),
        *("inference.use_vocos", "bitsandbytes"),
    }
    first, second = (load_fit(Path(file)) for file in told["files"])
    assert (first.family, second.family) == ("valle_ar", "valle_nar")
    sizes = {"hidden_size": 256, "n_heads": 4, "n_layers": 12}
    assert first.model == {**sizes, "trunk": "transformer", "prompt_levels": 2, "n_task_tokens": 7}
    assert second.model == {
        **{"hidden_size": 512, "n_heads": 8, "n_layers": 12},
        **{"trunk": "causal_retnet", "prompt_levels": 4, "n_task_tokens": 0},
    }
    for fit in (first, second):
        assert fit.data.dataset == "datasets/mine"
        assert (fit.data.batch.max_samples, fit.data.batch.max_token_length) == (16, 1200)
        assert fit.objective == {
            "text": {"kind": "phonemes"},
            **{"max_prompts": 2, "prompt_duration_s": 4.0, "self_prompt_prob": 0.25},
        }
        loop = fit.loop
        assert (loop.max_steps, loop.batches_per_step, loop.precision) == (1000, 4, "bf16")
        assert (loop.validate_every, loop.samples, loop.checkpoint_every) == (500, 4, 50)
        assert (loop.optim.lr, loop.optim.clip_norm, loop.optim.betas) == (1e-4, 100.0, (0.9, 0.96))


def test_an_empty_file_means_the_published_defaults(tmp_path: Path, capsys: Any) -> None:
    code, told, error = translated(tmp_path, "{}", capsys)
    assert code == 0, error
    first, second = (load_fit(Path(file)) for file in told["files"])
    assert (first.model["trunk"], second.model["trunk"]) == ("retnet", "causal_retnet")
    assert (first.model["hidden_size"], first.model["n_task_tokens"], first.model["prompt_levels"]) == (
        1024,
        7,
        2,
    )
    assert first.data.dataset == "datasets/config"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: {max_promts: 3}", "unknown key 'dataset.max_promts'; did you mean 'dataset.max_prompts'?"),
        ("models: [{name: ar, sizes: full}]", "unknown key 'models.sizes'; did you mean 'models.size'?"),
        ("models: [{name: tts}]", "models.name is 'tts'; it must be ar or nar"),
        ("models: [{name: ar, size: huge}]", "models.size is 'huge'; it must be quarter or half or full"),
        ("models: [{name: ar}, {name: ar}]", "models names ar, ar; each name may occur once"),
        ("models: 3", "models is no list of networks"),
        ("trainer: {weight_dtype: float16}", "weight_dtype is 'float16'; it must be float32 or bfloat16"),
        ("hyperparameters: {optimizer: Prodigy}", "optimizer is 'Prodigy'; it must be adamw or adamw-torch"),
        ("hyperparameters: {batch_size: 0}", "batch_size is 0; it must be a whole number, 1 or more"),
        ("dataset: {duration_range: [3]}", r"duration_range is \[3\]; it must be \[least, most\] in seconds"),
        ("- a", "it is no mapping of keys"),
        ("a: b: c", "not valid YAML at line 1"),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path: Path, capsys: Any, text: str, message: str) -> None:
    code, told, error = translated(tmp_path, text, capsys)
    assert (code, told) == (2, None)
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error


def test_unknown_keys_may_be_ignored_and_files_are_not_overwritten(tmp_path: Path, capsys: Any) -> None:
    words = ("--ignore", "trainer.deepspeed")
    code, told, _ = translated(tmp_path, "trainer: {deepspeed: {zero: 1}}", capsys, *words)
    assert (code, told["ignored"]) == (0, {"trainer.deepspeed": "as you said"})
    code, _, error = translated(tmp_path, "{}", capsys)
    assert code == 2
    assert "ar.yaml is there already; give another folder with --output" in error


def test_an_unknown_program_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert main(["import-config", "vale", str(tmp_path / "no.yaml")]) == 2
    assert "unknown program 'vale'; known: vall-e; did you mean 'vall-e'?" in capsys.readouterr().err


def test_the_keys_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "valle.md").read_text(encoding="utf-8")
    assert table_of_keys(foreign_config("vall-e").keys) in page
