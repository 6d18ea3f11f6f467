"""Hugging Face datasets in local directories: saved ones, and repositories of Parquet, tars and audio files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.command import UsageError
from pipelines.sources.interface import Recording
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source


@pytest.fixture(autouse=True)
def _quiet_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))


def table(*texts: str) -> pa.Table:
    audio = pa.array([{"bytes": f"{text}!".encode(), "path": f"{text}.wav"} for text in texts])
    info = {
        "info": {"features": {"audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}}
    }
    made = pa.table({"audio": audio, "text": list(texts)})
    return made.replace_schema_metadata({"huggingface": json.dumps(info)})


def offered(location: str) -> list[Recording]:
    return list(open_source(location).recordings())


def content(recording: Recording) -> bytes:
    with open_file(recording.uri) as file:
        return file.read()


def test_saved_datasets_are_read_from_their_arrow_files(tmp_path: Path) -> None:
    import datasets

    both = datasets.DatasetDict(
        {"train": datasets.Dataset(table("a", "b")), "test": datasets.Dataset(table("c"))}
    )
    both.save_to_disk(tmp_path / "both", num_shards={"train": 2, "test": 1})
    found = offered(f"hf:{tmp_path / 'both'}")
    assert [(one.recording_id, one.text, one.split, content(one)) for one in found] == [
        ("train/data-00000-of-00002.arrow#0", "a", "train", b"a!"),
        ("train/data-00001-of-00002.arrow#0", "b", "train", b"b!"),
        ("test/data-00000-of-00001.arrow#0", "c", "validation", b"c!"),
    ]
    assert offered(str(tmp_path / "both")) == found
    assert offered(f"hf:{tmp_path / 'both'},split=test") == found[2:]
    assert [one.text for one in offered(str(tmp_path / "both" / "train"))] == ["a", "b"]
    with pytest.raises(UsageError, match=r"has no split 'dev'; it has train, test"):
        offered(f"hf:{tmp_path / 'both'},split=dev")


def test_a_repository_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(table("a", "b"), tmp_path / "data" / "train-00000-of-00001.parquet")
    pq.write_table(table("c"), tmp_path / "data" / "test-00000-of-00001.parquet")
    found = offered(f"hf:{tmp_path}")
    assert [(one.recording_id, one.split, content(one)) for one in found] == [
        ("data/train-00000-of-00001.parquet#0", "train", b"a!"),
        ("data/train-00000-of-00001.parquet#1", "train", b"b!"),
        ("data/test-00000-of-00001.parquet#0", "validation", b"c!"),
    ]


def test_configurations_are_chosen_by_name(tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / language).mkdir()
        pq.write_table(table(language), tmp_path / language / "train.parquet")
    configs = "".join(
        f"- config_name: {one}\n  data_files:\n  - split: train\n    path: {one}/train.parquet\n"
        for one in ("de", "en")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert [one.recording_id for one in offered(f"hf:{tmp_path},config=en")] == ["en/train.parquet#0"]
    with pytest.raises(UsageError, match=r"Please pick one among the available configs: \['de', 'en'\]"):
        offered(f"hf:{tmp_path}")


def test_a_repository_of_audio_files_with_a_table(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "train" / name).write_bytes(name.encode())
    (tmp_path / "train" / "metadata.csv").write_text("file_name,transcription\nb.wav,text of b\n")
    found = offered(f"hf:{tmp_path}")
    assert [(one.recording_id, one.text, content(one)) for one in found] == [
        ("train/b.wav", "text of b", b"b.wav"),
        ("train/a.wav", None, b"a.wav"),
    ]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("hf:", "write hf:NAME_OR_DIRECTORY"),
        ("hf:some/where,subset=de", "subset is neither config nor split"),
        ("hf:absent/directory-of-mine", "source 'hf:absent/directory-of-mine': "),
    ],
)
def test_what_cannot_be_found_is_refused(location: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        offered(location)
    assert message in str(caught.value)
