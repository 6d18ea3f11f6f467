"""Codec sources: what each form loads, levels that hold everywhere, what is refused and in which words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import codec_sources
from models.codec_sources import absolute_source, codec_directory, lasting_source, load_codec, load_levels
from models.codecs.published import PUBLISHED

TinyCodec = Callable[[str], Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_codec: TinyCodec) -> list[tuple[str, str]]:
    """A hub that has a tiny EnCodec at every id; the ids and revisions that were requested."""
    asked: list[tuple[str, str]] = []

    def fetch(source: str, revision: str, _patterns: Any) -> Path:
        asked.append((source, revision))
        return tiny_codec("encodec_24khz")

    monkeypatch.setattr(codec_sources, "local_or_hub", fetch)
    return asked


def test_a_directory_with_levels_and_an_edition(tiny_codec: TinyCodec, tmp_path: Path) -> None:
    directory = tiny_codec("mill")
    assert load_codec(str(directory)).n_codebooks == 3
    assert load_codec(f"{directory}:2").identity == load_levels(str(directory), 2).identity
    assert load_codec(f"{directory}@1:2").n_codebooks == 2
    assert load_levels(str(directory), 9).n_codebooks == 3
    with pytest.raises(ValueError, match="the directory holds edition '1'"):
        load_codec(f"{directory}@7")
    with pytest.raises(ValueError, match="tiny has 3 levels; 4 were requested"):
        load_codec(f"{directory}:4")
    marked = Path(shutil.copytree(directory, tmp_path / "mine@2:5"))
    assert load_codec(str(marked)).n_codebooks == 3
    assert load_codec("mill-16khz@1:3").n_codebooks == 3


def test_published_names_and_ids_come_from_the_hub(hub: list[tuple[str, str]]) -> None:
    assert load_codec("encodec-24khz:2").n_codebooks == 2
    # How a dataset names its codec.
    assert load_codec("encodec-24khz@hub").identity.source == "encodec-24khz@hub"
    load_codec("facebook/encodec_24khz")
    load_codec("someone/fine-tuned@v2:1")
    assert hub == [
        ("facebook/encodec_24khz", ""),
        ("facebook/encodec_24khz", ""),
        ("facebook/encodec_24khz", ""),
        ("someone/fine-tuned", "v2"),
    ]


def test_sources_that_last(hub: list[tuple[str, str]], tiny_codec: TinyCodec) -> None:
    directory = str(tiny_codec("dac"))
    for source, lasting in [
        ("mill-16khz:4", "mill-16khz@2"),
        ("encodec-24khz:2", "encodec-24khz@hub"),
        ("someone/fine-tuned", "someone/fine-tuned"),
        (directory, directory),
        (f"{directory}:2", f"{directory}:2"),
    ]:
        assert lasting_source(source, load_codec(source).identity) == lasting
    assert codec_directory("encodec-24khz") is codec_directory("mill-16khz") is None
    assert codec_directory(f"{directory}:2") == Path(directory)
    assert codec_directory("someone/fine-tuned") == tiny_codec("encodec_24khz")


def test_a_directory_from_elsewhere(
    tiny_codec: TinyCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_codec("dac").parent)
    for source in ("dac", "dac:2", "./dac@1:2"):
        absolute = absolute_source(source)
        assert absolute == str(Path.cwd() / source)
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path)
            assert load_codec(absolute).name == "tiny"
    shutil.copytree("dac", tmp_path / "encodec-24khz")
    with monkeypatch.context() as beside:
        beside.chdir(tmp_path)
        # A directory that is there comes before weights that must be fetched.
        found = load_codec("encodec-24khz:2").identity
        assert found.name == "tiny"
        assert lasting_source("encodec-24khz:2", found) == "encodec-24khz:2"
    for source in ("mill-16khz:2", "encodec-24khz@hub", "someone/fine-tuned", "nowhere:2"):
        assert absolute_source(source) == source


def test_an_unknown_name_is_one_line_that_names_what_exists() -> None:
    with pytest.raises(ValueError, match="codec 'opus' is not known; use pcm-16khz, ") as caught:
        load_codec("opus")
    assert "\n" not in str(caught.value)
    assert all(one.name in str(caught.value) for one in PUBLISHED)


@pytest.mark.parametrize("name", [one.name for one in PUBLISHED if one.format])
def test_a_checkpoint_that_must_be_imported_says_how(name: str) -> None:
    with pytest.raises(ValueError, match=f"codec {name} is published as .* run `speechmill import "):
        load_codec(name)
