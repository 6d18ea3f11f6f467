"""A family that is trained in milliseconds, and Parquet files for it."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import nn

from catalog.appending import Appender
from catalog.creation import create
from catalog.shards import write_shard
from models import families
from models.identity import TokenIdentity
from models.manifest import Family, Trainable
from trainers.__main__ import main
from trainers.data import Batches, CodesBatch, Collator, collate_codes, open_batches
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric
from trainers.plan import BatchConfig
from trainers.store import Store
from trainers.store_build import Parts

CODEBOOK_SIZE = 16
Fit = Callable[..., tuple[int, Any, str]]


@dataclass(frozen=True)
class BigramConfig:
    codebook_size: int = CODEBOOK_SIZE
    hidden_size: int = 8


@dataclass(frozen=True)
class BigramSettings:
    dropout: float = 0.1


class Bigram(Objective[CodesBatch]):
    """Predicts each code of the first codebook from the one before it; noise and dropout make randomness matter."""

    model_config = BigramConfig
    settings = BigramSettings

    def __init__(self, model: BigramConfig, settings: BigramSettings, data: DataInfo) -> None:
        super().__init__(data)
        self.embedding = nn.Embedding(model.codebook_size, model.hidden_size)
        self.head = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(model.hidden_size, model.codebook_size)
        )
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: CodesBatch, phase: str, generator: torch.Generator) -> Loss:
        codes_BT = batch.codes_BQT[:, 0]
        hidden = self.embedding(codes_BT[:, :-1])
        hidden = hidden + 0.01 * torch.randn(hidden.shape, generator=generator)
        logits = self.head(hidden)
        valid = torch.arange(1, codes_BT.shape[1]) < batch.lengths_B[:, None]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), codes_BT[:, 1:], reduction="none")
        right = (logits.argmax(-1) == codes_BT[:, 1:])[valid].sum()
        return Loss((each * valid).sum(), valid.sum(), {"accuracy": mean_metric(right, valid.sum())})

    @classmethod
    def collator(cls, settings: BigramSettings, data: DataInfo) -> Collator[CodesBatch]:
        return collate_codes

    @classmethod
    def derive(cls, settings: BigramSettings, data: DataInfo) -> dict[str, Any]:
        return {"codebook_size": data.codebook_size}

    def after_step(self, step: int) -> None:
        self.seen += 1

    def samples(self, batch: CodesBatch, generator: torch.Generator) -> list[Sample]:
        return [
            Sample(f"a tone/{row}", torch.sin(torch.arange(4000) * 0.2), self.data.sample_rate)
            for row in batch.ids
        ]

    def warm_start(self, directory: Path) -> None:
        self.load_state_dict(torch.load(directory / "weights.pt", weights_only=True))

    def export(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        torch.save(self.state_dict(), directory / "weights.pt")


INFO = DataInfo("mill-16khz@1", 16000, 320, 2, CODEBOOK_SIZE, 1.0)


@pytest.fixture
def bigram() -> Callable[[], Bigram]:
    """A new, equally initialised objective at every call."""

    def build() -> Bigram:
        torch.manual_seed(0)
        return Bigram(BigramConfig(), BigramSettings(), INFO)

    return build


def make_rows(count: int, seed: int = 0, n_codebooks: int = 2) -> pa.Table:
    """Rows whose codes count upwards from a random start, so that a bigram model can learn them."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "id": f"row-{seed}-{index:04d}",
            "recording_id": f"recording-{seed}-{index // 2}",
            "text": "a" * int(rng.integers(1, 9)),
            "codes": [
                [(int(start) + t) % CODEBOOK_SIZE for t in range(length)]
                for start in rng.integers(0, CODEBOOK_SIZE, n_codebooks)
            ],
            "target_length": length,
            "duration_s": length * 0.02,
        }
        for index, length in enumerate(map(int, rng.integers(3, 30, count)))
    ]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("recording_id", pa.string()),
            ("text", pa.string()),
            ("codes", pa.list_(pa.list_(pa.int16()))),
            ("target_length", pa.int32()),
            ("duration_s", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Store]:
    """make_store(lengths, further columns...): rows r0000, r0001 ... whose codes count upwards through all rows."""

    def make(lengths: Sequence[int], signed: bool = True, **columns: Sequence[Any]) -> Store:
        lengths_N = np.asarray(lengths, dtype=np.int64)
        ids = [f"r{row:04d}" for row in range(len(lengths))]
        parts = Parts(
            n_codebooks=1,
            code_range=(0, 0),
            text_bytes=len(ids),
            digest="made up",
            lengths=lengths_N,
            offsets=np.cumsum(lengths_N) - lengths_N,
            places=np.arange(len(ids)),
            codes=np.arange(lengths_N.sum(), dtype=np.int16),
            columns=pa.table({"id": ids, "text": ["x"] * len(ids), **columns}),
        )
        return Store(parts, signed)

    return make


@pytest.fixture
def batches(tmp_path: Path) -> Batches[CodesBatch]:
    """40 rows in batches of at most 8."""
    file = tmp_path / "train.parquet"
    pq.write_table(make_rows(40), file)
    return open_toy(file)


def open_toy(file: Path) -> Batches[CodesBatch]:
    """Rows of `make_rows` in a file."""
    config = BatchConfig(frames_threshold=200, max_samples=8)
    return open_batches([file], config, 0, collate_codes, signed=False)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., str]:
    """Commit a dataset; the codec is made up unless told otherwise. Returns its URI."""

    def make(rows: int = 40, validation: int = 10, folder: str = "dataset", **codec: Any) -> str:
        identity = TokenIdentity(
            **{
                "name": "toy",
                "edition": "1",
                "weights_sha256": "",
                "sample_rate": 16000,
                "hop_length": 320,
                "n_codebooks": 2,
                "codebook_size": CODEBOOK_SIZE,
                **codec,
            }
        )
        appender = Appender(create(tmp_path / folder, identity, {}))
        appender.committed()
        for split, count, seed in (("train", rows, 0), ("validation", validation, 1)):
            if count:
                table = make_rows(count, seed, identity.n_codebooks)
                table = table.append_column("split", pa.array([split] * count))
                appender.append(write_shard(table, appender.uri, "test", identity))
        return appender.uri

    return make


@pytest.fixture
def fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Fit:
    """fit(dataset, *overrides, words...) -> exit code, JSON line, standard error."""

    def call(dataset: str | None, *overrides: str, config: Any = None, words: tuple[str, ...] = ()) -> Any:
        settings = config or {
            "family": "bigram",
            "data": {"dataset": dataset, "batch": {"max_samples": 8, "frames_threshold": 200}},
            "loop": {"max_epochs": 2, "validate_every": 5, "log_every": 2, "optim": {"lr": 0.05}},
            "output": str(tmp_path / "run"),
            "tracking": {"enabled": False},
        }
        path = tmp_path / "fit.yaml"
        path.write_text(yaml.safe_dump(settings))
        sets = [word for override in overrides for word in ("--set", override)]
        code = main(["fit", str(path), *sets, *words])
        out, err = capfd.readouterr()
        lines = out.strip().splitlines()
        return code, json.loads(lines[-1]) if code == 0 else None, err

    return call


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Runs a command of `trainers`: its exit code, its JSON line (None without one), its standard error."""

    def call(*words: str) -> tuple[int, Any, str]:
        code = main(list(words))
        out, error = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, error

    return call


@pytest.fixture
def bigram_family(monkeypatch: pytest.MonkeyPatch) -> str:
    """The bigram objective under a name that a configuration can ask for."""
    module = types.ModuleType("trainers.objectives.bigram_family")
    module.OBJECTIVES = {"bigram": Bigram}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    family = Family("bigram_family", (Trainable("bigram", BigramConfig, nn.Identity),))
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
    return "bigram"
