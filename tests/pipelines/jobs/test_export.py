"""Exports: each format as the programs that read it see it, complete or not there at all."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import speechmill
from catalog.command import UsageError
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.datasets.decode_rows import DatasetDecoder
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.formats.interface import Export
from pipelines.datasets.formats.names import from_name, to_name
from pipelines.datasets.formats.phones import from_line, to_line
from pipelines.jobs.export import export
from pipelines.sources.interface import to_table
from pipelines.sources.open import open_source
from pipelines.stages.codec import CodecStage
from pipelines.stages.decode import DecodeStage

ODD_ID = "../a folder/ünï .codes#t=0.50,1.25"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_names_are_reversible_and_safe(text: str) -> None:
    name = to_name(text)
    assert from_name(name) == text
    assert name
    assert not set(name) & set('./\\:*?"<>| \0\n')
    assert name != "_"


def test_names_of_different_ids_differ() -> None:
    ids = ["a", "a.b", "a/b", "a%2Fb", "a b", "_", "", "%", "A"]
    assert len({to_name(one) for one in ids}) == len(ids)


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="file name of 300 bytes; at most 240"):
        to_name("x" * 300)


PHONE = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc", "Zl", "Zp"]), min_size=1, max_size=3)


@given(st.lists(PHONE | st.just(" "), min_size=1).filter(lambda phones: phones != [" "]))
def test_phone_lines_are_reversible(phones: list[str]) -> None:
    assert from_line(to_line(phones)) == phones


def test_a_space_is_an_empty_field() -> None:
    assert to_line(["h", "ə", " ", "l"]) == "h ə  l"


@pytest.fixture
def rows(row, reject) -> list[dict]:
    return [
        row("a", speaker="anna", language="en", dnsmos=3.25),
        row(ODD_ID, speaker="../bo", recording_id="../a folder/ünï .codes", start_s=0.5),
        row("c", split="validation", speaker="anna", source="file:///x/c.wav"),
        reject("r", "too_short", "0.1 s; at least 0.5"),
    ]


def test_hugging_face_loads_it_with_its_splits(make_dataset, rows, tmp_path: Path) -> None:
    import datasets

    dataset = make_dataset(rows)
    assert export(dataset, tmp_path / "out", "hf", ["train", "validation"], Export(dataset.codec, "en")) == 3
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 2, "validation": 1}
    first = next(one for one in loaded["train"] if one["id"] == "a")
    assert np.array_equal(first["codes"], rows[0]["codes"])
    assert (first["text"], first["dnsmos"], first["speaker"]) == ("the words of a", 3.25, "anna")
    assert "reason" not in first
    streamed = datasets.load_dataset(
        str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"), split="validation", streaming=True
    )
    assert [one["id"] for one in streamed] == ["c"]


def test_hugging_face_files_hold_plain_types(make_dataset, rows, tmp_path: Path) -> None:
    dataset = make_dataset(rows)
    export(dataset, tmp_path / "out", "hf", ["train"], Export(dataset.codec, "en"))
    (file,) = (tmp_path / "out" / "data").iterdir()
    schema = pq.read_schema(file)
    assert str(schema.field("codes").type).replace("element", "item") == "list<item: list<item: int16>>"
    assert not [field.name for field in schema if "extension" in str(field.type)]


@pytest.fixture
def spoken(make_dataset, speech_folder: Path):
    """Two real recordings as samples, so that decoding is exact; the dataset and the waves."""
    codec = identity_of(load_codec("pcm-16khz"))
    rows, waves = [], {}
    from pipelines.audio.decode import decode

    for index, split in enumerate(("train", "validation")):
        samples = decode(speech_folder / f"utterance{index}.wav", 16000).samples
        codes = load_codec("pcm-16khz").encode(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        waves[f"u{index}"] = codes.codes_BQT[0, 0].numpy()
        rows.append(
            {"id": f"u{index}", "recording_id": f"u{index}", "split": split, "text": "words", "speaker": "s"}
            | {"codes": codes.codes_BQT[0].numpy().astype(np.int16), "target_length": len(samples)}
            | {"duration_s": len(samples) / 16000, "language": "en"}
        )
    return make_dataset(rows, codec), waves


def test_hugging_face_audio_is_the_decoded_codes(spoken, tmp_path: Path, capsys) -> None:
    import datasets

    dataset, waves = spoken
    words = ["export", dataset.uri, str(tmp_path / "out"), "--format", "hf", "--audio"]
    assert speechmill.main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 2
    loaded = datasets.load_dataset(
        str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"), split="validation"
    )
    assert loaded.features["audio"] == datasets.Audio(sampling_rate=16000)
    heard = loaded.cast_column("audio", datasets.Audio(decode=False))[0]["audio"]["bytes"]
    samples, rate = soundfile.read(io.BytesIO(heard), dtype="int16")
    assert rate == 16000
    assert np.array_equal(samples, waves["u1"])


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_hugging_face_audio_is_prepared_again(spoken, prefix: str, tmp_path: Path, capsys) -> None:
    """Texts, speakers, languages and samples come back; the splits, too, where it is read as a repository."""
    dataset, waves = spoken
    out = tmp_path / "out"
    assert speechmill.main(["export", dataset.uri, str(out), "--format", "hf", "--audio"]) == 0
    capsys.readouterr()
    found = list(open_source(f"{prefix}{out}").recordings())
    columns = [(one.text, one.speaker, one.language, one.split, one.problem) for one in found]
    splits = ("train", "validation") if prefix else (None, None)
    assert columns == [("words", "s", "en", split, None) for split in splits]
    rows = CodecStage("pcm-16khz")(DecodeStage(DecodeSettings(16_000, Limits()))(to_table(found)))
    for (codes,), wave in zip(rows["codes"].to_pylist(), waves.values(), strict=True):
        assert np.array_equal(codes, wave)


def test_webdataset_members(spoken, tmp_path: Path) -> None:
    dataset, waves = spoken
    context = Export(dataset.codec, "en", DatasetDecoder(dataset.codec).flac)
    assert export(dataset, tmp_path / "out", "webdataset", ["train", "validation"], context) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "codec.json",
        "train-000000.tar",
        "validation-000000.tar",
    ]
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert list(members) == ["u0.json", "u0.codes.npy", "u0.flac"]
    fields = json.loads(members["u0.json"])
    # Emilia's names, for programs that read its layout.
    assert {"id": "u0", "text": "words", "speaker": "s", "language": "en"}.items() <= fields.items()
    assert fields["duration"] == pytest.approx(len(waves["u0"]) / 16000)
    assert np.array_equal(np.load(io.BytesIO(members["u0.codes.npy"])), waves["u0"][None])
    samples, _ = soundfile.read(io.BytesIO(members["u0.flac"]), dtype="int16")
    assert np.array_equal(samples, waves["u0"])


def test_webdataset_cuts_shards_by_size(make_dataset, row, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.datasets.formats.webdataset.SHARD_BYTES", 3000)
    dataset = make_dataset([row(f"u{index}") for index in range(7)])
    export(dataset, tmp_path / "out", "webdataset", ["train"], Export(dataset.codec, "en"))
    names = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            names += [name for name in tar.getnames() if name.endswith(".json")]
    assert len(list((tmp_path / "out").glob("*.tar"))) > 1
    assert sorted(names) == [f"u{index}.json" for index in range(7)]


def test_valle_tree_files(make_dataset, rows, tmp_path: Path) -> None:
    dataset = make_dataset(rows)
    export(dataset, tmp_path / "out", "valle-tree", ["train", "validation"], Export(dataset.codec, "en"))
    codes = torch.load(tmp_path / "out" / "train" / "anna" / "a.qnt.pt", weights_only=True)
    assert codes.shape == (1, *rows[0]["codes"].shape)
    assert np.array_equal(codes[0], rows[0]["codes"])
    assert (tmp_path / "out" / "train" / "anna" / "a.phn.txt").read_text() == "h ə  l oʊ"
    found = sorted(path.relative_to(tmp_path / "out").parts[:2] for path in (tmp_path / "out").rglob("*.pt"))
    assert found == [("train", "%2E%2E%2Fbo"), ("train", "anna"), ("validation", "anna")]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


def test_valle_hdf5_groups(make_dataset, rows, tmp_path: Path) -> None:
    dataset = make_dataset(rows)
    export(dataset, tmp_path / "data.h5", "valle-hdf5", ["train", "validation"], Export(dataset.codec, "en"))
    with h5py.File(tmp_path / "data.h5") as file:
        group = file["training/anna/a"]
        assert np.array_equal(group["audio"][()], rows[0]["codes"].T)
        assert (group["audio"].compression, group["text"].compression) == ("lzf", "lzf")
        symbols = json.loads(file["symmap"][()])
        assert group["text"][()].tolist() == [
            symbols[one] for one in ("<s>", "h", "ə", " ", "l", "oʊ", "</s>")
        ]
        assert group["text"].dtype == np.uint8
        assert (symbols["<s>"], symbols["</s>"], symbols[" "]) == (1, 2, 3)
        assert len(set(symbols.values())) == len(symbols)
        frames = rows[0]["codes"].shape[1]
        described = {"id": "a", "type": "training", "speaker": "anna", "phonemes": 7}
        assert {key: group.attrs[key] for key in described} == described
        assert group.attrs["duration"] == pytest.approx(frames * 0.02)
        assert list(file["validation"]) == ["anna"]


def test_phonemes_are_made_where_the_column_is_empty(make_dataset, row, tmp_path: Path) -> None:
    spoken = row("a", text="Hello there.", phonemes=None, language="en")
    silent = row("b", text=None, phonemes=None)
    foreign = row("c", language="tlh-piqd", phonemes=None)
    dataset = make_dataset([spoken, silent, foreign])
    context = Export(dataset.codec, "en")
    assert export(dataset, tmp_path / "out", "valle-tree", ["train"], context) == 1
    (phones,) = (tmp_path / "out").rglob("*.phn.txt")
    assert from_line(phones.read_text(encoding="utf-8"))[-1] == "."
    assert " " in from_line(phones.read_text(encoding="utf-8"))
    rules = sorted(context.skipped)
    assert rules[1] == "neither phonemes nor a text that has some"
    assert "'tlh-piqd'" in rules[0]
    assert context.skipped.total() == 2


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_there_is_refused_and_kept(make_dataset, row, tmp_path: Path, format_: str, capsys) -> None:
    dataset = make_dataset([row("a")])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert speechmill.main(["export", dataset.uri, str(tmp_path / "out"), "--format", format_]) == 2
    assert "exists; give a new path or an empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_output_inside_the_dataset_is_refused(make_dataset, row, capsys) -> None:
    dataset = make_dataset([row("a")])
    words = ["export", dataset.uri, f"{dataset.uri}/out", "--format", "webdataset"]
    assert speechmill.main(words) == 2
    assert "is inside the dataset" in capsys.readouterr().err
    assert not Path(dataset.uri, "out").exists()


@pytest.mark.parametrize("format_", FORMATS)
def test_an_empty_folder_is_taken(make_dataset, row, tmp_path: Path, format_: str) -> None:
    dataset = make_dataset([row("a")])
    (tmp_path / "out").mkdir()
    assert export(dataset, tmp_path / "out", format_, ["train"], Export(dataset.codec, "en")) == 1


@pytest.mark.parametrize("format_", FORMATS)
def test_a_failure_leaves_nothing(make_dataset, row, tmp_path: Path, format_: str, capsys) -> None:
    dataset = make_dataset([row("a"), row("b")])
    (Path(dataset.uri) / dataset.shards("train")[-1].path).unlink()
    assert speechmill.main(["export", dataset.uri, str(tmp_path / "out"), "--format", format_]) == 1
    assert "the file is missing" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_to_export_is_an_error(make_dataset, reject, tmp_path: Path, capsys) -> None:
    dataset = make_dataset([reject("r", "silent", "peak 0")])
    assert speechmill.main(["export", dataset.uri, str(tmp_path / "out"), "--format", "hf"]) == 1
    assert "nothing to export in train, validation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "valle-tree", "--audio"], "valle-tree has no place for audio; hf, webdataset have"),
        (["--format", "hf", "--split", "rejected"], "--split 'rejected': must be of train, validation"),
        (["--format", "hf", "--audio"], "codec toy@1 cannot be loaded"),
    ],
)
def test_refusals(make_dataset, row, tmp_path: Path, words: list[str], message: str, capsys) -> None:
    dataset = make_dataset([row("a")])
    assert speechmill.main(["export", dataset.uri, str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err


def test_another_codec_does_not_decode_it(make_dataset, row) -> None:
    from catalog.command import JobError

    with pytest.raises(JobError, match=r"did not make this dataset: codec.name is 'toy'"):
        DatasetDecoder(make_dataset([row("a")]).codec, "pcm-16khz")
    with pytest.raises(UsageError, match="give its directory with --codec"):
        DatasetDecoder(make_dataset([row("a")], name="b").codec)
