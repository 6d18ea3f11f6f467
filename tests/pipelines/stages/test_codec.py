"""The codec stage writes, of every kind of codec, what the catalog takes and what decodes again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.codes import matrices, numbers, stored
from catalog.rules import check_rows
from models.codec_sources import load_codec
from models.families import codec_examples
from models.identity import TokenIdentity
from pipelines.datasets.decode_rows import DatasetDecoder
from pipelines.rows import samples_array
from pipelines.stages.codec import CodecStage

SECONDS = (0.3, 0.11, 0.3)


@pytest.mark.parametrize("name", codec_examples())
def test_rows_of_every_kind_of_codec(name: str, tiny_codec: Callable[[str], Path]) -> None:
    directory = tiny_codec(name)
    source = f"{directory}:1"
    codec = load_codec(source)
    draws = np.random.default_rng(0)
    waves = [draws.uniform(-0.3, 0.3, round(s * codec.sample_rate)).astype(np.float32) for s in SECONDS]
    table = CodecStage(source)(pa.table({"samples": samples_array(waves)}))
    assert check_rows(table, "train", codec.identity, {}) == []
    decoder = DatasetDecoder(codec.identity, str(directory))
    for wave, seconds, codes in zip(waves, SECONDS, matrices(table["codes"]), strict=True):
        assert codes is not None
        whole = codec.encode(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        assert numbers(codes, signed=False).tolist() == whole.codes_BQT[0].tolist()
        assert len(decoder.samples(codes)) == int(codec.decode(whole).lengths_B[0])
        missing = len(wave) - len(decoder.samples(codes, seconds))
        # MaskGCT's codec leaves a last part of a frame out.
        assert 0 <= missing < codec.hop_length


def test_a_codebook_of_65536_is_no_sound() -> None:
    wide = TokenIdentity("xcodec2-16khz", "hub", "", 16_000, 320, 1, 65_536)
    codes = np.array([[0, 40_000, 65_535]]).astype(np.int16)
    table = pa.table({"codes": stored([codes]), "target_length": [3]})
    assert check_rows(table, "train", wide, {}) == []
    (again,) = matrices(table["codes"])
    assert again is not None
    assert numbers(again, wide.holds_samples).tolist() == [[0, 40_000, 65_535]]
    assert numbers(again, signed=True).tolist() == [[0, -25_536, -1]]
