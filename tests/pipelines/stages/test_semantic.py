"""Semantic tokens of rows in flight, and the same of committed files, without Ray."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.appending import Appender
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.token_columns import unpack_latents
from models.codec_sources import load_codec
from models.tokenizer_sources import load_tokenizer
from pipelines.audio.decode import Limits, resample
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.audio.wav import write_wav
from pipelines.rows import Part, explode, reject, waves
from pipelines.sources.interface import Recording, to_table
from pipelines.stages.augment import AugmentStage
from pipelines.stages.codec import CodecStage
from pipelines.stages.decode import DecodeStage
from pipelines.stages.semantic import SemanticSettings, SemanticStage, SemanticTokens
from pipelines.stages.stored_tokens import StoredTokensStage
from pipelines.stages.write import WriteStage, Written

RATE = 24_000
DECODING = DecodeSettings(RATE, Limits(0.05), loudness="peak", target_dbfs=-3.0)
NOISE_STD = 1e-3


@pytest.fixture(scope="module")
def settings(semantic_parts: dict[str, Any]) -> SemanticSettings:
    return SemanticSettings(**semantic_parts, latents=True)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Three files, of which the last holds two recordings."""
    generator = np.random.default_rng(0)
    found = []
    for name, seconds in (("a", 1.3), ("b", 2.0), ("c", 3.0)):
        wave = np.sin(generator.standard_normal(int(seconds * 16_000)).cumsum() / 2).astype(np.float32) / 2
        write_wav(tmp_path / f"{name}.wav", wave, 16_000)
        found.append(Recording(name, (tmp_path / f"{name}.wav").as_uri(), None, text=f"words of {name}"))
    parts = [{"start_s": 0.0, "stop_s": 1.21}, {"start_s": 1.4, "stop_s": 2.77}]
    return [
        *found[:2],
        *(dataclasses.replace(found[2], recording_id=f"c{at}", **part) for at, part in enumerate(parts)),
    ]


def cut(table: pa.Table) -> pa.Table:
    """Recording `b` as two utterances, as segmentation leaves them."""
    parts = []
    for row, (row_id, wave) in enumerate(zip(table["id"].to_pylist(), waves(table), strict=True)):
        if row_id != "b" or wave is None:
            parts.append(Part(row, wave))
            continue
        for start_s, stop_s in ((0.0, 0.75), (0.9, 1.8)):
            changes = {"id": f"b#t={start_s}", "start_s": start_s, "duration_s": stop_s - start_s}
            parts.append(Part(row, wave[round(start_s * RATE) : round(stop_s * RATE)], changes))
    return explode(table, parts)


@pytest.fixture
def table(recordings: list[Recording]) -> pa.Table:
    decoded = cut(DecodeStage(DECODING)(to_table(recordings)))
    assert decoded["reason"].null_count == len(decoded) == 5
    return AugmentStage(2, NOISE_STD, 0.0, 0)(decoded)


def test_rows_get_the_tokens_of_their_waves(settings: SemanticSettings, table: pa.Table) -> None:
    rejected = reject(table, {1: ("silent", "why")})
    found = SemanticStage(settings, RATE)(rejected)
    tokenizer = load_tokenizer(settings)
    assert found["semantic_codes"].type == pa.list_(pa.int32())
    assert found["semantic_codes"].null_count == found["latents"].null_count == 1
    assert found["samples"].null_count == 1, "the codec has yet to come"
    wave = waves(table)[0]
    assert wave is not None
    wave_T = torch.from_numpy(np.array(resample(wave, RATE, 16_000)))
    codes = tokenizer.encode(wave_T[None], torch.tensor([len(wave_T)]))
    assert found["semantic_codes"][0].as_py() == codes.codes_BQT[0, 0].tolist()
    latents = unpack_latents(found["latents"][0].as_py(), 4)
    assert len(latents) == codes.codes_BQT.shape[2]
    assert np.abs(latents).max() > 0.01
    alone = SemanticStage(settings, RATE)(table.slice(2, 1))
    assert alone["latents"][0] == found["latents"][2]
    assert alone["semantic_codes"][0] == found["semantic_codes"][2]


def test_what_is_too_long_or_too_short_has_none(settings: SemanticSettings) -> None:
    tokens = SemanticTokens(settings)
    nothing = {"semantic_codes": None, "latents": None}
    assert tokens(np.zeros(200, np.float32), 16_000) == nothing
    assert tokens(np.zeros(60 * 16_000 + 1, np.float32), 16_000) == nothing
    assert tokens(np.zeros(0, np.float32), 16_000) == nothing


def test_latents_only_where_there_are_some() -> None:
    tokens = SemanticTokens(SemanticSettings("mill-16khz"))
    assert list(tokens.columns) == ["semantic_codes"]
    with pytest.raises(ValueError, match=r"mill-16khz@\d has no latents; set semantic.latents to false"):
        SemanticTokens(SemanticSettings("mill-16khz", latents=True))


Written_ = Callable[..., Dataset]


@pytest.fixture
def write(settings: SemanticSettings, table: pa.Table, tmp_path: Path) -> Written_:
    """write(semantic): the table as a dataset with a file per split, with or without its tokens."""

    def made(semantic: bool) -> Dataset:
        codec = load_codec("pcm-24khz").identity
        columns = SemanticTokens(settings).columns if semantic else {}
        appender = Appender(create(tmp_path / f"data{semantic}", codec, {}, columns))
        rows = SemanticStage(settings, RATE)(table) if semantic else table
        rows = CodecStage("pcm-24khz")(rows)
        written = WriteStage(appender.uri, "run", codec, 0.0, 0, columns)(rows)
        appender.append(Written.from_table(written).shards)
        return appender.dataset

    return made


def stored(settings: SemanticSettings, dataset: Dataset) -> pa.Table:
    stage = StoredTokensStage(dataset.uri, SemanticTokens, {"settings": settings}, DECODING, NOISE_STD)
    shards = [json.dumps(dataclasses.asdict(shard)) for shard in dataset.shards()]
    assert len(shards) == 2, "utterances, and their copies"
    return pa.concat_tables(stage(pa.table({"shard": [shard]})) for shard in shards)


def test_committed_files_get_the_same_tokens(settings: SemanticSettings, write: Written_) -> None:
    """Whole files, parts of files, utterances and noisy copies: to the bit as if they had been made at once."""
    expected = write(True).read(["id", "semantic_codes", "latents"])
    found = stored(settings, write(False))
    assert found["problem"].null_count == len(found) == 10
    assert found["semantic_codes"].to_pylist() == expected["semantic_codes"].to_pylist()
    assert found["latents"].to_pylist() == expected["latents"].to_pylist()


def test_what_is_not_as_it_was_has_none(settings: SemanticSettings, write: Written_, tmp_path: Path) -> None:
    dataset = write(False)
    (tmp_path / "a.wav").unlink()
    write_wav(tmp_path / "b.wav", np.full(32_000, 0.1, np.float32), 16_000)
    found = stored(settings, dataset)["problem"].to_pylist()
    assert found[0].startswith("a: unavailable: ") or found[0].startswith("a: unreadable: ")
    assert found[1] == "b: has changed since it was committed"
    assert found[3:5] == found[8:] == [None] * 2
    assert found[5:8] == found[:3]
