"""Training configurations of e-c-k-e-r/vall-e (2023-08): its YAML keys as settings of our two trainings.

Left-out keys mean its defaults: both networks, RetNet, `full`, two prompt levels, eight tasks; AdamW, batches of 8, 32
of them accumulated. Where frames are counted they are those of its codec, 75 per second.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from models.checkpoints import Json, Record
from models.manifest import ConvertedConfig, ForeignKey
from models.valle.config import SIZES

FRAME_RATE = 75
_PREPARED = "decided when the data are made: `filter` of `prepare`"
_MACHINE = "about its own program or machine"

KEYS: tuple[ForeignKey, ...] = (
    ForeignKey("models.name", "family", "`ar`: `valle_ar`, `nar`: `valle_nar`; one configuration each"),
    ForeignKey("models.size", "model.hidden_size, n_heads, n_layers", "`quarter`, `half`, `full`"),
    ForeignKey("models.arch", "model.trunk", "`retnet` of the second network: `causal_retnet`"),
    ForeignKey("models.prom_levels", "model.prompt_levels", "may grow later (`init`)"),
    ForeignKey("models.tasks", "model.n_task_tokens", "one less: theirs counts plain speech; may grow later"),
    ForeignKey("models.resp_levels", "", "follows from the codec of the dataset"),
    ForeignKey("dataset.training", "", "`import-shards` makes the dataset; `--dataset` names it"),
    ForeignKey("dataset.validation", "", "`import-shards` makes the dataset; `--dataset` names it"),
    ForeignKey("dataset.noise", "", "`tasks.noise` of `prepare`: a folder of recordings"),
    ForeignKey("dataset.speaker_name_getter", "", "never evaluated: the first folder names the speaker"),
    ForeignKey("dataset.use_hdf5", "", "`import-shards --format valle-hdf5` reads such a file"),
    ForeignKey("dataset.hdf5_name", "", "`import-shards --format valle-hdf5` reads such a file"),
    ForeignKey("dataset.hdf5_flag", "", "`import-shards --format valle-hdf5` reads such a file"),
    ForeignKey("dataset.phones_range", "", _PREPARED),
    ForeignKey(
        "dataset.duration_range", "data.batch.max_token_length", "its upper end, at 75 frames per second"
    ),
    ForeignKey("dataset.random_utterance", "objective.self_prompt_prob", "1 less it"),
    ForeignKey("dataset.max_prompts", "objective.max_prompts", ""),
    ForeignKey("dataset.prompt_duration", "objective.prompt_duration_s", "seconds"),
    ForeignKey("dataset.sample_type", "", "every row once per epoch, in an order that follows from the seed"),
    ForeignKey("dataset.workers", "", _MACHINE),
    ForeignKey("dataset.cache", "", _MACHINE),
    ForeignKey("dataset.validate", "", "`catalog verify` checks a dataset"),
    ForeignKey("hyperparameters.batch_size", "data.batch.max_samples", ""),
    ForeignKey("hyperparameters.gradient_accumulation_steps", "loop.batches_per_step", ""),
    ForeignKey("hyperparameters.gradient_clipping", "loop.optim.clip_norm", ""),
    ForeignKey("hyperparameters.learning_rate", "loop.optim.lr", "constant, as there"),
    ForeignKey(
        "hyperparameters.optimizer", "loop.optim", "AdamW with its betas, epsilon and decay; no other"
    ),
    ForeignKey("hyperparameters.scheduler_type", "", "`loop.optim.schedule` has schedules of its own"),
    ForeignKey("hyperparameters.scheduler_params", "", "`loop.optim.schedule` has schedules of its own"),
    ForeignKey("evaluation.frequency", "loop.validate_every", ""),
    ForeignKey("evaluation.size", "loop.samples", "rows that are made audible"),
    ForeignKey("evaluation.batch_size", "", "validation batches are those of the training"),
    ForeignKey("evaluation.steps", "options.max_ar_steps of `assemble`", ""),
    ForeignKey("evaluation.ar_temperature", "options.ar_temp of `assemble`", ""),
    ForeignKey("evaluation.nar_temperature", "options.nar_temp of `assemble`", ""),
    ForeignKey("trainer.iterations", "loop.max_steps", ""),
    ForeignKey("trainer.save_frequency", "loop.checkpoint_every", ""),
    ForeignKey("trainer.keep_last_checkpoints", "loop.keep_last", ""),
    ForeignKey("trainer.weight_dtype", "loop.precision", "`float32`: fp32, `bfloat16`: bf16 autocast"),
    ForeignKey("trainer.save_on_quit", "", "`quit` always saves"),
    ForeignKey("trainer.save_on_oom", "", "the newest checkpoint continues the run"),
    ForeignKey("trainer.load_state_dict", "", "`init: models:/NAME` starts from imported weights"),
    ForeignKey("trainer.strict_loading", "", "weights are always read strictly; only tables may grow"),
    ForeignKey("trainer.restart_step_count", "", "a run with `init` begins at step 0"),
    ForeignKey("trainer.backend", "", "`workers: N` trains on several GPUs"),
    ForeignKey("trainer.gc_mode", "", _MACHINE),
    ForeignKey("inference.use_vocos", "", "the codec of the system makes the waveform"),
    ForeignKey("inference.normalize", "", "prompts keep their level"),
    ForeignKey("bitsandbytes", "", "8-bit optimisers and layers are not used"),
)

_GROUPS = {"train": "trainer"}
"""Names of groups that its users' page writes otherwise."""
_OPTIM: Mapping[str, Json] = {"betas": [0.9, 0.96], "eps": 1e-7, "weight_decay": 0.01, "schedule": "constant"}
_MODELS: tuple[Mapping[str, Json], ...] = ({"name": "ar"}, {"name": "nar"})
_MODEL: Mapping[str, Json] = {"size": "full", "arch": "retnet", "prom_levels": 2, "tasks": 8}
_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def convert(given: Mapping[str, Json], ignore: Collection[str] = ()) -> ConvertedConfig:
    """Our configurations, `ar` and `nar`, without `data.dataset`. ValueError as `ForeignConfig.convert`."""
    models, values = _models(given), _flat(given)
    ignored: dict[str, str] = {}
    for key in (*values, *(f"models.{name}" for model in models for name in model)):
        found = _key(key)
        if found is None and key not in ignore:
            known = [one.theirs for one in KEYS]
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown key {key!r}{hint} (--ignore {key} leaves it out)")
        if found is None or not found.ours:
            ignored[key] = "as you said" if found is None else found.note
    read = _Values(values)
    fits = {}
    for model in models:
        read_model = _Values({f"models.{name}": value for name, value in {**_MODEL, **model}.items()})
        role = read_model.one_of("models.name", {"ar": "ar", "nar": "nar"}, "")
        fits[role] = _fit(role, read_model, read)
    return ConvertedConfig(fits, _options(read), ignored)


def _fit(role: str, model: _Values, read: _Values) -> Record:
    accumulated = read.whole("hyperparameters.gradient_accumulation_steps", 32)
    rows, prompt_s = read.whole("hyperparameters.batch_size", 8), read.number("dataset.prompt_duration", 3.0)
    longest = round(read.upper("dataset.duration_range", 12.0) * FRAME_RATE)
    retention = "retnet" if role == "ar" else "causal_retnet"
    trunks = {"transformer": "transformer", "retnet": retention}
    read.one_of("hyperparameters.optimizer", {"adamw": "", "adamw-torch": ""}, "adamw")
    optim = {
        "lr": read.number("hyperparameters.learning_rate", 3.25e-4),
        "clip_norm": read.number("hyperparameters.gradient_clipping", 100.0),
        **_OPTIM,
    }
    return {
        "family": f"valle_{role}",
        "model": {
            **_size(model),
            "trunk": model.one_of("models.arch", trunks, ""),
            "prompt_levels": model.whole("models.prom_levels", 2),
            "n_task_tokens": model.whole("models.tasks", 8) - 1,
        },
        "objective": {
            "text": {"kind": "phonemes"},
            "max_prompts": read.whole("dataset.max_prompts", 3),
            "prompt_duration_s": prompt_s,
            "self_prompt_prob": 1.0 - read.number("dataset.random_utterance", 1.0),
        },
        "data": {
            "batch": {
                "max_samples": rows,
                "max_token_length": longest,
                # So that `max_samples` is what closes a batch, as there.
                "frames_threshold": rows * (longest + round((prompt_s + 1) * FRAME_RATE)),
            }
        },
        "loop": {
            "max_steps": read.whole("trainer.iterations", 800_000),
            "batches_per_step": accumulated,
            "precision": read.one_of("trainer.weight_dtype", _DTYPES, "float32"),
            "optim": optim,
            "validate_every": read.whole("evaluation.frequency", 250),
            "samples": read.whole("evaluation.size", 2, least=0),
            "checkpoint_every": read.whole("trainer.save_frequency", 250),
            "keep_last": max(1, read.whole("trainer.keep_last_checkpoints", 2, least=0)),
        },
        "output": f"runs/valle-{role}",
    }


def _size(model: _Values) -> Mapping[str, Json]:
    """The preset that an entry of `models` names."""
    return SIZES[model.one_of("models.size", {name: name for name in SIZES}, "full")]


def _options(read: _Values) -> Record:
    """Sampling options that the file states."""
    found: Record = {}
    for theirs, ours in (("ar_temperature", "ar_temp"), ("nar_temperature", "nar_temp")):
        if f"evaluation.{theirs}" in read.values:
            found[ours] = read.number(f"evaluation.{theirs}", 0.0)
    if "evaluation.steps" in read.values:
        found["max_ar_steps"] = read.whole("evaluation.steps", 1)
    return found


class _Values:
    """Values by dotted key, each checked as it is read; ValueError names key, value and what is allowed."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        self.values = values

    def number(self, key: str, default: float) -> float:
        value: Any = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{key} is {value!r}; it must be a number, 0 or more")
        return float(value)

    def whole(self, key: str, default: int, least: int = 1) -> int:
        value: Any = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key} is {value!r}; it must be a whole number, {least} or more")
        return value

    def upper(self, key: str, default: float) -> float:
        value: Any = self.values.get(key, [0.0, default])
        numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
        if not numbers or len(value) != 2 or not 0 <= value[0] < value[1]:
            raise ValueError(f"{key} is {value!r}; it must be [least, most] in seconds")
        return float(value[1])

    def one_of(self, key: str, allowed: Mapping[str, str], default: str) -> str:
        value: Any = self.values.get(key, default)
        word = value.lower() if isinstance(value, str) else value
        if word not in allowed:
            raise ValueError(f"{key} is {value!r}; it must be {' or '.join(allowed)}")
        return allowed[word]


def _models(given: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """The entries of `models`: a list, or a mapping that holds one."""
    models: Any = given.get("models", list(_MODELS))
    if isinstance(models, dict):
        lists = [value for value in models.values() if isinstance(value, list)]
        models = lists[0] if len(lists) == 1 and len(models) == 1 else models
    if not isinstance(models, list) or not models or not all(isinstance(one, dict) for one in models):
        raise ValueError("models is no list of networks; each has a name (ar or nar), a size, ...")
    renamed: list[Mapping[str, Json]] = [
        {{"arch_type": "arch"}.get(name, name): value for name, value in model.items()} for model in models
    ]
    names = [str(model.get("name")) for model in renamed]
    if len(set(names)) < len(names):
        raise ValueError(f"models names {', '.join(names)}; each name may occur once")
    return renamed


def _flat(given: Mapping[str, Json]) -> dict[str, Json]:
    """Every other key, as `group.key`."""
    return {
        key: value for group in given if group != "models" for key, value in _of_group(group, given[group])
    }


def _of_group(group: str, values: Json) -> Iterator[tuple[str, Json]]:
    name = _GROUPS.get(group, group)
    if _key(name) is not None or not isinstance(values, dict):
        yield name, values
        return
    for key, value in values.items():
        yield f"{name}.{key}", value


def _key(dotted: str) -> ForeignKey | None:
    return next((one for one in KEYS if one.theirs == dotted), None)
