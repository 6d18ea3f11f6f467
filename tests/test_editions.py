"""Codes of one edition of a codec are never decoded, added to or trained on as those of another."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from catalog.command import JobError, UsageError
from catalog.creation import create
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from models.identity import TokenIdentity
from pipelines.datasets.decode_rows import DatasetDecoder
from trainers.assemble import _check_codecs
from trainers.objectives import DataInfo

OTHER = "a0" * 32


@pytest.fixture(scope="module")
def first() -> TokenIdentity:
    return identity_of(load_codec("mill-16khz@1"))


@pytest.fixture(scope="module")
def second(first: TokenIdentity) -> TokenIdentity:
    """Another edition of the same sizes, which nothing but its name and weights tells apart."""
    return replace(first, edition="200", weights_sha256=OTHER)


def test_a_dataset_takes_no_codes_of_another_edition(
    first: TokenIdentity, second: TokenIdentity, tmp_path: Path
) -> None:
    create(tmp_path / "speech", first, {})
    with pytest.raises(JobError) as refused:
        create(tmp_path / "speech", second, {})
    assert "codec.edition is '1', this job has '200'" in str(refused.value)
    assert str(refused.value).endswith("; go on with the codec mill-16khz@1, or give another output")
    assert "\n" not in str(refused.value)


def test_a_dataset_is_not_heard_through_another_edition(second: TokenIdentity) -> None:
    with pytest.raises(JobError, match=r"codec\.edition is '200', this job has '1'"):
        DatasetDecoder(second, "mill-16khz@1")
    with pytest.raises(
        UsageError, match=r"mill-16khz@200 cannot be loaded \(mill-16khz has no edition '200'"
    ):
        DatasetDecoder(second)


def test_a_dataset_is_heard_through_its_own_edition_though_there_are_newer_ones(first: TokenIdentity) -> None:
    assert DatasetDecoder(first).sample_rate == 16_000
    with pytest.raises(JobError, match=r"codec\.weights_sha256 is 'a0a0"):
        DatasetDecoder(replace(first, weights_sha256=OTHER))


def test_generators_join_no_codec_of_another_edition(second: TokenIdentity) -> None:
    sizes = {
        key: asdict(second)[key] for key in ("sample_rate", "hop_length", "n_codebooks", "codebook_size")
    }
    data = DataInfo("mill-16khz@200", **sizes, frames_per_byte=1.0, codec_sha256=OTHER)
    with pytest.raises(
        JobError, match=r"t2s was trained on codes of mill-16khz@200: the codec is mill-16khz@1"
    ):
        _check_codecs("t2s", {"data": asdict(data)}, "codec", {"codec": "mill-16khz@1"})
