"""The examples of docs/extending.md do what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from catalog.filters import FILTERS, SNR, Filter, Thresholds
from models import codec_sources, families
from models.checkpoints import filled, hub_files
from models.codecs.interface import Codes, Context, Identified, Wave
from models.generators import load_generator, save_generator
from models.identity import TokenIdentity
from models.interop import load
from models.manifest import Example, Family
from pipelines.rows import SCHEMA, reject, samples_array, waves, with_column
from pipelines.sources.interface import Recording
from pipelines.sources.uris import local_path
from pipelines.speech.transcription.interface import TranscribeSettings, Transcript
from pipelines.stages.filter import FilterStage
from pipelines.stages.transcribe import TranscribeStage

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class TinyConfig:
    size: int = 2


class TinyNetwork(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.size, config.size)


def convert(config, reader):
    size = config["size"]
    state = {"linear.weight": reader.take("w", size, size), "linear.bias": reader.take("b", size)}
    return filled(TinyNetwork(TinyConfig(size)), state, reader)


def example() -> Example:
    return Example(TinyConfig(), (), lambda rows, padding: {}, lambda output, row: output)


def block(start: str, **names: object) -> dict[str, Any]:
    """The names that the page's block defines, run among `names`."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if code.startswith(start))
    defined: dict[str, Any] = dict(names)
    exec(compile(code, "extending.md", "exec", dont_inherit=True), defined)
    return defined


def test_a_family_is_declared_as_the_page_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names: dict[str, object] = {
        "TinyConfig": TinyConfig,
        "TinyNetwork": TinyNetwork,
        "convert": convert,
        "example": example,
    }
    names |= {"build": lambda parts: parts, "hub_files": hub_files}
    family = block("from models.manifest import Family", **names)["FAMILY"]
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
    assert families.family_of("tinytts").name == "tinytts"
    assert families.system_kind("tinytts").roles == {"generator": ("tinytts",)}
    state = {"w": torch.eye(3), "b": torch.ones(3)}
    save_generator(load("someone-tinytts", {"size": 3}, state), "tinytts", tmp_path)
    name, loaded = load_generator(tmp_path)
    assert (name, loaded.config) == ("tinytts", TinyConfig(3))
    assert torch.equal(loaded.linear.weight, state["w"])


def test_a_codec_is_found_by_its_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = (Codes, Context, Identified, Wave, TokenIdentity, Family)
    defined = block("class EightBit", **{one.__name__: one for one in names})
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, defined["FAMILY"]))
    (tmp_path / "config.json").write_text('{"kind": "eight-bit"}', encoding="utf-8")
    codec = codec_sources.load_codec(str(tmp_path))
    wave_BT, lengths_B = torch.linspace(-1, 1, 100)[None], torch.tensor([100])
    decoded = codec.decode(codec.encode(wave_BT, lengths_B))
    torch.testing.assert_close(decoded.wave_BT, wave_BT, rtol=0, atol=1 / 128)


def in_flight(*levels: float, **columns: object) -> pa.Table:
    """Rows in flight, each a second of one value at 16 kHz."""
    samples = samples_array([np.full(16_000, level, np.float32) for level in levels])
    made = {field.name: pa.nulls(len(levels), field.type) for field in SCHEMA}
    made |= {"samples": samples, "duration_s": pa.array([1.0] * len(levels)), "recording_id": pa.array(["a"])}
    return pa.table({name: made[name] for name in SCHEMA.names} | columns)


def test_a_filter_is_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"Annotated": Annotated, "Thresholds": Thresholds, "Filter": Filter, "SNR": SNR}
    settings = block("class Stricter", **names)["Stricter"]
    # The page's class stands for `Thresholds` with one more field.
    (added,) = settings.model_fields["max_snr_db"].metadata
    monkeypatch.setitem(FILTERS, "max_snr_db", added)
    stricter = settings(max_snr_db=60.0)
    table = with_column(in_flight(0.5), "snr_db", [80.0])
    (row,) = FilterStage(stricter, "audio")(table).to_pylist()
    assert row["reason"] == "too_clean"
    assert "80" in row["detail"]


def test_a_stage_maps_rows_to_rows() -> None:
    loud = block("class LoudEnough", pa=pa, np=np, waves=waves, reject=reject)["LoudEnough"](0.01)
    for level, reason in ((0.5, None), (0.001, "too_quiet")):
        (row,) = loud(in_flight(level)).to_pylist()
        assert row["reason"] == reason


def test_an_engine_is_a_transcriber() -> None:
    constant = block("class Constant", Transcript=Transcript)["Constant"]
    settings = TranscribeSettings(model="any", language="en")
    stage = TranscribeStage(settings, 16_000, load=lambda *_: constant())
    (row,) = stage(in_flight(0.5)).to_pylist()
    assert row["text"] == "the same words"


def test_a_source_offers_recordings(tmp_path: Path) -> None:
    for name in ("two.raw.wav", "one.raw.wav", "other.wav"):
        (tmp_path / name).write_bytes(b"x")
    names = {"dataclass": dataclass, "Iterator": Iterator, "Recording": Recording, "local_path": local_path}
    source = block("@dataclass", **names)["Numbered"](tmp_path.as_uri())
    assert [(one.recording_id, one.text) for one in source.recordings()] == [
        ("one.raw.wav", "one"),
        ("two.raw.wav", "two"),
    ]
