"""A family that is trained in milliseconds, and Parquet files for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from trainers.data import Batch, BatchConfig, Batches, open_batches
from trainers.objectives import DataInfo, Loss, Objective, mean_metric

CODEBOOK_SIZE = 16


@dataclass(frozen=True)
class BigramConfig:
    codebook_size: int = CODEBOOK_SIZE
    hidden_size: int = 8


@dataclass(frozen=True)
class BigramSettings:
    dropout: float = 0.1


class Bigram(Objective):
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

    def loss(self, batch: Batch, phase: str, generator: torch.Generator) -> Loss:
        codes_BT = batch.codes_BQT[:, 0]
        hidden = self.embedding(codes_BT[:, :-1])
        hidden = hidden + 0.01 * torch.randn(hidden.shape, generator=generator)
        logits = self.head(hidden)
        valid = torch.arange(1, codes_BT.shape[1]) < batch.lengths_B[:, None]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), codes_BT[:, 1:], reduction="none")
        right = (logits.argmax(-1) == codes_BT[:, 1:])[valid].sum()
        return Loss((each * valid).sum(), valid.sum(), {"accuracy": mean_metric(right, valid.sum())})

    def after_step(self, step: int) -> None:
        self.seen += 1

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


def write_rows(path: Path, count: int, seed: int = 0, n_codebooks: int = 2) -> Path:
    """Rows whose codes count upwards from a random start, so that a bigram model can learn them."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "id": f"row-{index:04d}",
            "text": "a" * int(rng.integers(1, 9)),
            "codes": [
                [(int(start) + t) % CODEBOOK_SIZE for t in range(length)]
                for start in rng.integers(0, CODEBOOK_SIZE, n_codebooks)
            ],
            "target_length": length,
        }
        for index, length in enumerate(map(int, rng.integers(3, 30, count)))
    ]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("codes", pa.list_(pa.list_(pa.int16()))),
            ("target_length", pa.int32()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    """40 rows in batches of at most 8."""
    file = write_rows(tmp_path / "train.parquet", 40)
    return open_batches(
        [file], BatchConfig(frames_threshold=200, max_samples=8), 0, codebook_size=CODEBOOK_SIZE
    )
