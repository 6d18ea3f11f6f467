"""Imports: what was exported comes back row for row, once; what breaks a rule is rejected and named."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import speechmill
from catalog.command import JobError, UsageError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.schema import SCHEMA
from catalog.upkeep import verify
from models.identity import TokenIdentity
from pipelines.datasets.formats import FORMATS, valle_hdf5
from pipelines.datasets.formats.interface import Export, Import
from pipelines.datasets.formats.rows import check, to_table
from pipelines.datasets.read import batches
from pipelines.jobs.export import export
from pipelines.jobs.import_shards import SETTINGS, import_rows

HELD = {
    "hf": [name for name in SCHEMA.names if name not in ("reason", "detail")],
    "webdataset": [name for name in SCHEMA.names if name not in ("reason", "detail")],
    "valle-tree": ["id", "speaker", "codes", "target_length", "phonemes"],
    "valle-hdf5": ["id", "speaker", "codes", "target_length", "phonemes"],
}


def stored(uri: str | Path, columns: list[str]) -> dict[str, dict[str, Any]]:
    """Rows by id, with their split."""
    dataset = Dataset.open(uri)
    found = {}
    for split in ("train", "validation", "rejected"):
        for table in batches(dataset, dataset.shards(split)):
            found |= {
                one["id"]: {"split": split} | {name: one[name] for name in columns}
                for one in table.to_pylist()
            }
    return found


def codec_json(codec: TokenIdentity, folder: Path) -> str:
    path = folder / "toy.json"
    path.write_text(codec.to_json())
    return str(path)


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
def test_round_trip(format_: str, ids, data, row, toy, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("trip")
    rows = [row(one, **data.draw(COLUMNS)) for one in ids]
    import_rows(rows, str(folder / "a"), toy)
    before = Dataset.open(folder / "a")
    export(before, folder / "out", format_, ["train", "validation"], Export(toy, "en"))
    words = [str(folder / "out"), str(folder / "b"), "--format", format_, "--codec", codec_json(toy, folder)]
    assert speechmill.main(["import-shards", *words]) == 0
    assert stored(folder / "b", HELD[format_]) == stored(folder / "a", HELD[format_])
    assert verify(Dataset.open(folder / "b")) == []
    shutil.rmtree(folder)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_rerun_adds_nothing(format_: str, make_dataset, row, toy, tmp_path: Path, capsys) -> None:
    twice = [row("a"), row("b", split="validation")]
    export(make_dataset(twice), tmp_path / "out", format_, ["train", "validation"], Export(toy, "en"))
    words = ["import-shards", str(tmp_path / "out"), str(tmp_path / "new"), "--format", format_]
    words += ["--codec", codec_json(toy, tmp_path)]
    assert speechmill.main(words) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["utterances"], first["new_rows"], first["new_rejected"]) == (2, 2, {})
    assert speechmill.main(words) == 0
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
    row, toy, tmp_path: Path, monkeypatch
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


def test_a_source_that_grew_adds_what_is_new(row, toy, tmp_path: Path) -> None:
    import_rows([row("a")], str(tmp_path / "new"), toy)
    assert import_rows([row("a"), row("b")], str(tmp_path / "new"), toy) == {"": 1}
    assert set(stored(tmp_path / "new", [])) == {"a", "b"}


def test_an_id_that_is_taken_is_rejected_once(row, toy, tmp_path: Path) -> None:
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
def test_rules(row, toy, tmp_path: Path, broken: dict[str, Any], rule: str) -> None:
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


def run_import(source: Path, tmp_path: Path, format_: str, toy: TokenIdentity, *words: str) -> int:
    given = [str(source), str(tmp_path / "new"), "--format", format_, "--codec", codec_json(toy, tmp_path)]
    return speechmill.main(["import-shards", *given, *words])


def test_the_three_columns_of_a_training_row_are_enough(row, toy, tmp_path: Path) -> None:
    one = row("x")
    frames = one["target_length"]
    rows = {"text": ["words"] * 2, "codes": [one["codes"].tolist()] * 2, "target_length": [frames] * 2}
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "source" / "train.parquet")
    assert run_import(tmp_path / "source", tmp_path, "hf", toy) == 0
    found = stored(tmp_path / "new", ["text", "duration_s", "codes"])
    assert sorted(found) == ["train/00000000", "train/00000001"]
    assert found["train/00000001"]["codes"] == one["codes"].tolist()
    assert found["train/00000001"]["duration_s"] == pytest.approx(frames * 0.02)


def test_a_saved_dataset_dict(row, toy, tmp_path: Path, capsys) -> None:
    import datasets

    columns = {"id": [7, 8], "codes": [row("x")["codes"].tolist(), [[1, 2], [3]]], "mood": ["glad", "sad"]}
    made = datasets.DatasetDict({name: datasets.Dataset.from_dict(columns) for name in ("train", "test")})
    made.save_to_disk(str(tmp_path / "source"))
    assert run_import(tmp_path / "source", tmp_path, "hf", toy) == 2
    assert "split 'test', which is neither for training nor for validation" in capsys.readouterr().err
    assert run_import(tmp_path / "source", tmp_path, "hf", toy, "--split", "train") == 0
    found = stored(tmp_path / "new", ["detail"])
    assert {key: one["split"] for key, one in found.items()} == {"7": "train", "8": "rejected"}
    assert found["8"]["detail"].startswith("codes are missing or of unequal lengths")


def test_a_tree_of_another_program(row, toy, tmp_path: Path) -> None:
    codes = torch.from_numpy(row("x")["codes"])[None]
    folder = tmp_path / "source" / "p225" / "book"
    folder.mkdir(parents=True)
    torch.save(codes.to(torch.int64), folder / "001.qnt.pt")
    (folder / "001.phn.txt").write_text("h ə  l\n")
    torch.save(codes[0], folder / "flat.qnt.pt")
    (folder / "damaged.qnt.pt").write_bytes(b"no tensor")
    torch.save(codes, folder / "mute.qnt.pt")
    torch.save({"codes": Path("x")}, folder / "pickled.qnt.pt")
    assert run_import(tmp_path / "source", tmp_path, "valle-tree", toy) == 0
    found = stored(tmp_path / "new", ["speaker", "phonemes", "reason", "detail"])
    good = found.pop("book/001")
    assert (good["split"], good["speaker"], good["phonemes"]) == ("train", "p225", ["h", "ə", " ", "l"])
    assert {key: one["reason"] for key, one in found.items()} == {
        "book/flat": "unreadable",
        "book/damaged": "unreadable",
        "book/mute": "missing_text",
        "book/pickled": "unreadable",
    }
    assert found["book/flat"]["detail"].startswith("flat.qnt.pt: holds (2, ")
    assert found["book/pickled"]["detail"] == "pickled.qnt.pt: damaged, or holds more than tensors"


def test_hdf5_of_the_original_whose_map_has_a_number_twice(row, toy, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for index, text in enumerate(([1, 7, 3, 8, 2], [1, 99, 2])):
            group = file.create_group(f"training/LibriTTS/p225/u{index}")
            group.create_dataset("audio", data=row("x")["codes"].T)
            group.create_dataset("text", data=np.array(text, np.uint8))
        file.create_group("noise/hum/n1").create_dataset("audio", data=row("x")["codes"].T)
        file["symmap"] = json.dumps({"<s>": 1, "</s>": 2, " ": 3, "?": 7, "p": 7, "ə": 8})
    assert run_import(tmp_path / "data.h5", tmp_path, "valle-hdf5", toy) == 0
    found = stored(tmp_path / "new", ["phonemes", "detail"])
    assert found["p225/u0"]["phonemes"] == ["p", " ", "ə"]
    assert found["p225/u1"] == {
        "split": "rejected",
        "phonemes": None,
        "detail": "text holds 99, which `symmap` does not have",
    }
    assert len(found) == 2


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def npy(codes: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, codes, allow_pickle=True)
    return file.getvalue()


def test_hdf5_without_its_map_is_one_line(row, toy, tmp_path: Path) -> None:
    """Numbers of phones mean nothing then; a file of codes alone needs none."""
    codes = np.ones((5, toy.n_codebooks), np.int16)
    for name, text in (("phones", True), ("codes", False)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            group = file.create_group("training/one/utterance")
            group["audio"] = codes
            if text:
                group["text"] = np.array([1, 8, 2], np.uint8)
    with pytest.raises(
        UsageError, match=r"phones\.h5 has numbers for phones .* `symmap` is missing"
    ) as caught:
        list(valle_hdf5.read(tmp_path / "phones.h5", Import(toy)))
    assert "\n" not in str(caught.value)
    (found,) = valle_hdf5.read(tmp_path / "codes.h5", Import(toy))
    assert found["codes"].shape == (toy.n_codebooks, 5)


def test_tars_of_another_program(row, toy, tmp_path: Path) -> None:
    codes = npy(row("x")["codes"].astype(np.int64))
    members = {
        "en/a.json": b'{"text": "hi", "duration": 0.5, "mood": 1}',
        "en/a.codes.npy": codes,
        "en/a.mp3": b"x",
    }
    members |= {"b.json": b"[1]", "b.codes.npy": codes, "c.json": b'{"text": "no codes"}'}
    members |= {"d.codes.npy": npy(np.array([{}], dtype=object))}
    tar_of(tmp_path / "source" / "valid" / "000.tar", members)
    assert run_import(tmp_path / "source", tmp_path, "webdataset", toy) == 0
    found = stored(tmp_path / "new", ["text", "duration_s", "reason", "detail"])
    good = {"split": "validation", "text": "hi", "duration_s": 0.5, "reason": None, "detail": None}
    assert found.pop("en/a") == good
    assert {key: one["reason"] for key, one in found.items()} == {
        "b": "unreadable",
        "c": "invalid_row",
        "d": "unreadable",
    }


def test_a_cut_tar_imports_nothing(make_dataset, row, toy, tmp_path: Path, capsys) -> None:
    export(make_dataset([row("a"), row("b")]), tmp_path / "out", "webdataset", ["train"], Export(toy, "en"))
    path = tmp_path / "out" / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:2600])
    assert run_import(tmp_path / "out", tmp_path, "webdataset", toy) == 1
    assert "train-000000.tar: damaged" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() or Dataset.open(tmp_path / "new").totals().recordings == 0


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("hf", "cannot be read as a dataset directory"),
        ("valle-tree", "holds no *.qnt.pt"),
        ("valle-hdf5", "cannot be read as HDF5"),
        ("webdataset", "holds no *.tar"),
    ],
)
def test_a_source_of_something_else(toy, tmp_path: Path, format_: str, message: str, capsys) -> None:
    (tmp_path / "source").mkdir()
    assert run_import(tmp_path / "source", tmp_path, format_, toy) == 2
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
