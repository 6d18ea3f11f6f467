"""Datasets of known rows for the jobs that read them, and a tiny system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.appending import Appender
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.shards import write_shard
from models.identity import TokenIdentity
from pipelines.datasets.formats.rows import to_table

TOY = TokenIdentity("toy", "1", "00ff", 16000, 320, 2, 1024)


def toy_row(row_id: str, seed: int = 0, **columns: Any) -> dict[str, Any]:
    """An accepted row of the toy codec with pseudo-random codes of 5 to 40 frames."""
    generator = np.random.default_rng([seed, *row_id.encode()])
    frames = int(generator.integers(5, 40))
    given = {
        "id": row_id,
        "recording_id": row_id,
        "split": "train",
        "text": f"the words of {row_id}",
        "codes": generator.integers(0, 1024, (2, frames)).astype(np.int16),
        "target_length": frames,
        "duration_s": frames * 0.02 - 0.005,
        "phonemes": ["h", "ə", " ", "l", "oʊ"],
    }
    return given | columns


def toy_reject(row_id: str, reason: str, detail: str) -> dict[str, Any]:
    return {"id": row_id, "recording_id": row_id, "split": "rejected", "codes": None} | {
        "reason": reason,
        "detail": detail,
    }


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """make_dataset(rows, codec=TOY, name="data"): two files a split where there are enough rows, one commit."""

    def make(rows: list[dict[str, Any]], codec: TokenIdentity = TOY, name: str = "data") -> Dataset:
        settings = {"segmentation": {"max_s": 30.0}, "text": "as given"}
        made = Appender(create(tmp_path / name, codec, settings))
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        shards = [
            shard for half in halves if half for shard in write_shard(to_table(half), made.uri, "r", codec)
        ]
        made.append(shards)
        return made.dataset

    return make


@pytest.fixture(scope="session")
def toy() -> TokenIdentity:
    """Two codebooks of 1024 entries, 20 ms per frame, no weights."""
    return TOY


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, Any]]:
    """row(id, seed=0, **columns): an accepted row of the toy codec."""
    return toy_row


@pytest.fixture(scope="session")
def reject() -> Callable[..., dict[str, Any]]:
    """reject(id, reason, detail): a rejected row."""
    return toy_reject


@pytest.fixture(scope="session")
def tiny_ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec 2.0 with random weights, saved as users have them."""
    import json

    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    folder = tmp_path_factory.mktemp("ctc")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (folder / "vocab.json").write_text(json.dumps({letter: n for n, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, conv_dim=(8,) * 7, num_conv_pos_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MaskGCT system over the embedded codec; its weights are random, its parts are real."""
    import torch

    from models.codec_sources import load_codec
    from models.generators import save_generator
    from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
    from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
    from models.system_files import save_system

    folder = tmp_path_factory.mktemp("system")
    codec = load_codec("mill-16khz")
    torch.manual_seed(0)
    sizes = {"text_vocab_size": 258, "codebook_size": codec.codebook_size, "hidden_size": 16, "n_layers": 1}
    sizes |= {"n_heads": 2, "feed_forward_size": 32}
    save_generator(MaskGCTT2S(MaskGCTT2SConfig(**sizes)), "maskgct_t2s", folder / "t2s")
    s2a = MaskGCTS2A(MaskGCTS2AConfig(**sizes, n_codebooks=codec.n_codebooks))
    save_generator(s2a, "maskgct_s2a", folder / "s2a")
    save_system(
        folder / "system",
        "maskgct",
        codec="mill-16khz",
        generators={"t2s": folder / "t2s", "s2a": folder / "s2a"},
        text={"kind": "bytes"},
        options={"frames_per_token": 4.0, "t2s_steps": 4, "s2a_steps": [1]},
    )
    return folder / "system"
