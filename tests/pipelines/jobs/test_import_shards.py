"""Imports: what was exported comes back row for row, once; what breaks a rule is rejected and named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import speechmill
from catalog.command import JobError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.schema import SCHEMA
from catalog.upkeep import verify
from models.identity import TokenIdentity
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.formats.interface import Export
from pipelines.datasets.formats.rows import check, to_table
from pipelines.jobs.export import export
from pipelines.jobs.import_shards import SETTINGS, import_rows

HELD = {
    "hf": [name for name in SCHEMA.names if name not in ("reason", "detail")],
    "webdataset": [name for name in SCHEMA.names if name not in ("reason", "detail")],
    "valle-tree": ["id", "speaker", "codes", "target_length", "phonemes"],
    "valle-hdf5": ["id", "speaker", "codes", "target_length", "phonemes"],
}


WORD = st.fixed_dictionaries(
    {
        "word": st.text("ab ", min_size=1),
        "start_s": st.just(0.25),
        "end_s": st.just(0.5),
        "score": st.floats(0, 1, width=32),
    }
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PHONES = st.lists(st.sampled_from(["h", "əˈ", "l", " ", ".", "t͡ʃ"]), min_size=2, max_size=8)
COLUMNS = st.fixed_dictionaries(
    {"text": TEXT, "phonemes": PHONES, "split": st.sampled_from(["train", "validation"])},
    optional={
        "speaker": TEXT.filter(bool),
        "language": st.sampled_from(["en", "de"]),
        "dnsmos": st.floats(1, 5, width=32),
        "start_s": st.floats(0, 100),
        "words": st.lists(WORD, max_size=2),
        "source_digest": st.just("00ff"),
    },
)
IDS = st.lists(TEXT, min_size=1, max_size=5, unique=True)


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=IDS, data=st.data())
def test_round_trip(format_: str, ids, data, row, toy, tmp_path_factory, stored, run_import) -> None:
    folder = tmp_path_factory.mktemp("trip")
    rows = [row(one, **data.draw(COLUMNS)) for one in ids]
    import_rows(rows, str(folder / "a"), toy)
    before = Dataset.open(folder / "a")
    export(before, folder / "out", format_, ["train", "validation"], Export(toy, "en"))
    assert run_import(folder / "out", folder, format_) == 0
    assert stored(folder / "new", HELD[format_]) == stored(folder / "a", HELD[format_])
    assert verify(Dataset.open(folder / "new")) == []
    shutil.rmtree(folder)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_rerun_adds_nothing(
    format_: str, make_dataset, row, toy, tmp_path: Path, capsys, run_import
) -> None:
    twice = [row("a"), row("b", split="validation")]
    export(make_dataset(twice), tmp_path / "out", format_, ["train", "validation"], Export(toy, "en"))
    assert run_import(tmp_path / "out", tmp_path, format_) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["utterances"], first["new_rows"], first["new_rejected"]) == (2, 2, {})
    assert run_import(tmp_path / "out", tmp_path, format_) == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (second["utterances"], second["new_rows"], second["version"]) == (2, 0, first["version"])


def test_the_utterances_of_a_recording_are_one_commit(row, toy, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.jobs.import_shards._FILE_ROWS", 2)
    rows = [row(f"r{index % 2}#{index}", recording_id=f"r{index % 2}") for index in range(7)]
    assert import_rows(rows, str(tmp_path / "new"), toy) == {"": 7}
    dataset = Dataset.open(tmp_path / "new")
    assert (dataset.version, len(dataset.shards())) == (1, 4)
    assert import_rows(rows, str(tmp_path / "new"), toy) == {}


def test_an_import_that_breaks_off_adds_nothing_and_leaves_nothing(
    row, toy, tmp_path: Path, monkeypatch, stored
) -> None:
    monkeypatch.setattr("pipelines.jobs.import_shards._FILE_ROWS", 2)

    def unplugged():
        for name in "abcde":
            yield row(name)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        import_rows(unplugged(), str(tmp_path / "new"), toy)
    assert Dataset.open(tmp_path / "new").totals().recordings == 0
    assert list((tmp_path / "new").rglob("*.parquet")) == []
    assert import_rows(map(row, "abcde"), str(tmp_path / "new"), toy) == {"": 5}
    assert set(stored(tmp_path / "new", [])) == set("abcde")


def test_a_source_that_grew_adds_what_is_new(row, toy, tmp_path: Path, stored) -> None:
    import_rows([row("a")], str(tmp_path / "new"), toy)
    assert import_rows([row("a"), row("b")], str(tmp_path / "new"), toy) == {"": 1}
    assert set(stored(tmp_path / "new", [])) == {"a", "b"}


def test_an_id_that_is_taken_is_rejected_once(row, toy, tmp_path: Path, stored) -> None:
    rows = [row("a", text="first"), row("a", 1, recording_id="other"), row("a", 2, recording_id="third")]
    for expected in ({"": 1, "duplicate_id": 2}, {}):
        assert import_rows(rows, str(tmp_path / "new"), toy) == expected
        found = stored(tmp_path / "new", ["text", "reason"])
        assert {key: (one["split"], one["reason"]) for key, one in found.items()} == {
            "a": ("train", None),
            "a#2": ("rejected", "duplicate_id"),
            "a#3": ("rejected", "duplicate_id"),
        }
        assert found["a"]["text"] == "first"


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"codes": np.zeros((3, 5), np.int16)}, "3 codebooks; toy has 2"),
        ({"codes": np.zeros((2, 0), np.int16)}, "no frames; must be at least 1"),
        ({"codes": np.full((2, 5), 1024)}, "codes from 1024 to 1024; toy has 0 to 1023"),
        ({"codes": np.full((2, 5), -1)}, "codes from -1 to -1; toy has 0 to 1023"),
        ({"codes": np.zeros((2, 5))}, "codes are float64 (2, 5); must be whole numbers (codebooks, frames)"),
        (
            {"codes": None},
            "codes are missing or of unequal lengths; must be whole numbers (codebooks, frames)",
        ),
        ({"target_length": 999}, "target_length is 999, the codes have 13 frames"),
        ({"dnsmos": "good"}, "dnsmos is 'good'; must be float"),
        ({"text": ["a"]}, "text is \"['a']\"; must be string"),
        ({"text": "\ud800"}, "text is '\\ud800'; must be string"),
        ({"duration_s": float("nan")}, "duration_s is nan; must be above 0"),
        ({"phonemes": [1]}, "phonemes is '[1]'; must be list<item: string>"),
    ],
)
def test_rules(row, toy, tmp_path: Path, broken: dict[str, Any], rule: str, stored) -> None:
    counts = import_rows([row("good"), row("bad", **broken)], str(tmp_path / "new"), toy)
    assert counts == {"": 1, "invalid_row": 1}
    found = stored(tmp_path / "new", ["reason", "detail", "codes"])["bad"]
    assert found == {"split": "rejected", "reason": "invalid_row", "detail": rule, "codes": None}


def test_codes_above_32768_may_be_written_either_way(toy) -> None:
    wide = TokenIdentity("wide", "1", "", 16000, 1, 1, 65536)
    signed = {"id": "a", "recording_id": "a", "split": "train", "codes": np.array([[-1, 5]], np.int16)}
    plain = {**signed, "codes": np.array([[65535, 5]], np.uint16)}
    assert to_table([check(signed, wide)]).equals(to_table([check(plain, wide)]))


def test_a_wrong_codec_makes_no_dataset(make_dataset, row, toy, tmp_path: Path, capsys) -> None:
    for format_ in FORMATS:
        export(
            make_dataset([row("a")], name=f"d{format_}"),
            tmp_path / format_,
            format_,
            ["train"],
            Export(toy, "en"),
        )
        words = ["import-shards", str(tmp_path / format_), str(tmp_path / "new"), "--format", format_]
        assert speechmill.main([*words, "--codec", "pcm-16khz"]) == 1
        assert "made with another codec: codec.name is 'toy'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_only_broken_rows_make_no_dataset(row, toy, tmp_path: Path) -> None:
    with pytest.raises(
        JobError, match=r"none of the source's first 2 rows can be imported; the last one, b: 1 codeb"
    ):
        import_rows([row(one, codes=np.zeros((1, 4), np.int16)) for one in "ab"], str(tmp_path / "new"), toy)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("hf", "cannot be read as a dataset directory"),
        ("valle-tree", "holds no *.qnt.pt"),
        ("valle-hdf5", "cannot be read as HDF5"),
        ("webdataset", "holds no *.tar"),
    ],
)
def test_a_source_of_something_else(
    toy, tmp_path: Path, format_: str, message: str, capsys, run_import
) -> None:
    (tmp_path / "source").mkdir()
    assert run_import(tmp_path / "source", tmp_path, format_) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_of_two_imports_at_once_each_reports_its_own_rows(row, toy, tmp_path: Path) -> None:
    """The second begins after the first has read what is there, and commits before it."""
    place = str(tmp_path / "data")
    second: list[Counter[str]] = []

    def rows() -> Iterator[dict[str, Any]]:
        yield row("a")
        second.append(import_rows(iter([row("b"), row("c")]), place, toy))
        yield row("b")

    create(place, toy, SETTINGS)
    first = import_rows(rows(), place, toy)
    assert second == [Counter({"": 2})]
    assert first == Counter({"": 1})
    assert sorted(Dataset.open(place).read(["id"])["id"].to_pylist()) == ["a", "b", "c"]
