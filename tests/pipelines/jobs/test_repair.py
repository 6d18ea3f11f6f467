"""`repair`: exactly the recordings of damaged files are prepared again, with the same codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from catalog.datasets import Dataset
from catalog.upkeep import compact, verify
from pipelines.__main__ import main
from pipelines.prepare.job import prepare
from pipelines.prepare.settings import PrepareSettings


def rows(dataset: str | Path) -> dict[str, dict[str, Any]]:
    tables = [pq.ParquetFile(uri).read() for uri in Dataset.open(dataset).file_uris()]
    found = [row for table in tables for row in table.to_pylist()]
    assert len({row["id"] for row in found}) == len(found)
    # Where a recording was, and when it was written there, is another matter in a copy of its source.
    return {row["id"]: {**row, "source": None, "source_stat": None} for row in found}


def file_of(dataset: str | Path, recording: str) -> Path:
    uris = Dataset.open(dataset).file_uris()
    return next(Path(uri) for uri in uris if recording in pq.read_table(uri)["recording_id"].to_pylist())


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["repair", *words])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    return code, json.loads(lines[-1]) if lines else {}, said.err


@pytest.fixture(scope="module")
def template(
    speech_folder: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two sources, of six recordings and of one, and their dataset, with a file for each recording."""
    folder = tmp_path_factory.mktemp("template")
    sources, output = folder / "sources", folder / "data"
    shutil.copytree(speech_folder, sources / "one")
    (sources / "two").mkdir()
    for file in speech_folder.glob("utterance0.*"):
        shutil.copy(file, sources / "two" / f"other{file.suffix}")
    settings = {"codec": {"name": "pcm-16khz"}, "resources": {"workers": 1, "max_batch_bytes": 1}}
    for name in ("one", "two"):
        plain = {**settings, "source": {"name": name}}
        prepare(str(sources / name), str(output), PrepareSettings.model_validate(plain))
    assert len(Dataset.open(output).shards()) == 7
    return sources, output


@pytest.fixture
def prepared(template: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the sources and of the dataset, which knows where its sources are now."""
    sources, output = tmp_path / "sources", tmp_path / "data"
    for here, there in zip(template, (sources, output), strict=True):
        shutil.copytree(here, there)
    for file in (output / "_settings").iterdir():
        file.write_text(file.read_text().replace(str(template[0]), str(sources)))
    return sources, output


@pytest.mark.ray
def test_exactly_the_damaged_recordings_are_made_again(
    prepared: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sources, output = prepared
    before = rows(output)
    damaged = ["one/utterance1.wav", "one/utterance3.wav", "one/utterance5.wav", "two/other.wav"]
    files = [file_of(output, name) for name in damaged]
    flip(files[0])
    files[1].write_bytes(files[1].read_bytes()[:-100])
    files[2].unlink()
    flip(files[3])
    # Meanwhile: a new recording, one that has changed and whose rows are sound, a source that was moved.
    for suffix in (".wav", ".txt"):
        shutil.copy(sources / "one" / f"utterance0{suffix}", sources / "one" / f"new{suffix}")
    with (sources / "one" / "utterance2.wav").open("ab") as file:
        file.write(b"more")
    (sources / "two").rename(sources / "moved")
    planned = call(capsys, str(output), "--dry-run")
    assert (planned[0], planned[1]["files"], planned[1]["recordings"]) == (0, 4, 4)
    assert all(files[index].exists() for index in (0, 1, 3)), "a dry run moves nothing"

    code, result, error = call(capsys, str(output))
    assert (code, result["files"], result["recordings"], len(result["missing"])) == (1, 4, 3, 1)
    assert f"{output}: 1 recordings of damaged files are lost: no source has " in error
    assert rows(output) == {name: row for name, row in before.items() if name != "two/other.wav"}
    assert verify(Dataset.open(output)) == []
    assert len(list((output / "_corrupt").rglob("*.parquet"))) == 3
    assert "two/other.wav" not in Dataset.open(output).read(["recording_id"])["recording_id"].to_pylist()

    there = ["--source", str(sources / "moved"), "--set", "source.name=two"]
    code, result, _ = call(capsys, str(output), *there)
    assert (code, result["files"], result["recordings"], result["missing"]) == (0, 0, 1, [])
    assert rows(output) == before
    assert call(capsys, str(output))[1]["version"] == result["version"], "there is nothing left to do"


@pytest.mark.ray
def test_a_compacted_file_is_repaired_from_all_sources(
    prepared: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, output = prepared
    before = rows(output)
    compact(Dataset.open(output))
    file = file_of(output, "two/other.wav")
    held = pq.ParquetFile(file).metadata.num_rows
    assert held > 1
    flip(file)
    code, result, _ = call(capsys, str(output))
    assert (code, result["recordings"], result["missing"]) == (0, held, [])
    assert rows(output) == before


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "")[::2] == (2, "speechmill: DATASET is empty; must be a folder or URI\n")
    assert call(capsys, str(tmp_path))[::2] == (1, f"speechmill: {tmp_path}: no dataset there\n")
