"""`prepare` with a semantic tokenizer, on Ray: made at once or added later, repaired, and never by another maker."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.upkeep import verify
from models.semantic.source import TokenizerSource
from models.tokenizer_sources import load_tokenizer
from pipelines.execution import columns
from pipelines.jobs.repair import repair
from pipelines.prepare.job import RunOptions, describe, prepare
from pipelines.prepare.settings import PrepareSettings

pytestmark = pytest.mark.ray


def with_tokens(semantic: dict[str, Any] | None) -> PrepareSettings:
    """A file for each recording."""
    resources = {"device": "cpu", "workers": 1, "max_batch_bytes": 1}
    plain = {"codec": {"name": "pcm-16khz"}, "resources": resources, "semantic": semantic}
    return PrepareSettings.model_validate(plain)


def rows(dataset: str | Path) -> dict[str, dict[str, Any]]:
    found = [
        row for uri in Dataset.open(dataset).file_uris() for row in pq.ParquetFile(uri).read().to_pylist()
    ]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def tokens(dataset: str | Path) -> dict[str, tuple[Any, Any]]:
    return {row_id: (row["semantic_codes"], row["latents"]) for row_id, row in rows(dataset).items()}


def lacking(dataset: str | Path) -> list[str]:
    """Accepted rows without tokens."""
    found = rows(dataset).items()
    return [row_id for row_id, row in found if not row["reason"] and not row["semantic_codes"]]


@pytest.fixture(scope="module")
def corpus(speech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings with transcripts and an empty one."""
    folder = tmp_path_factory.mktemp("corpus")
    for index in range(4):
        for file in speech_folder.glob(f"utterance{index}.*"):
            shutil.copy(file, folder)
    (folder / "000.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def reference(
    corpus: Path, semantic_parts: dict[str, Any], ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("reference") / "data"
    result = prepare(str(corpus), str(output), with_tokens({**semantic_parts, "latents": True}))
    assert (result["utterances"], result["rejected"], result["new_recordings"]) == (4, 1, 5)
    return output


def test_columns_have_values_and_makers(
    reference: Path, corpus: Path, semantic_parts: dict[str, Any]
) -> None:
    dataset = Dataset.open(reference)
    assert verify(dataset) == []
    tokenizer: Any = load_tokenizer(TokenizerSource(**semantic_parts))
    assert dataset.identity.columns == {"semantic_codes": tokenizer.identity, "latents": tokenizer.latents}
    for row in rows(reference).values():
        if row["reason"]:
            assert row["semantic_codes"] is row["latents"] is None
        else:
            assert len(row["latents"]) == len(row["semantic_codes"]) * 4 * 2
            assert abs(len(row["semantic_codes"]) - row["target_length"] / 320) <= 2
    again = prepare(str(corpus), str(reference), with_tokens({**semantic_parts, "latents": True}))
    assert (again["new_recordings"], again["version"]) == (0, dataset.version)


def test_another_maker_or_none_is_refused(
    reference: Path, corpus: Path, semantic_parts: dict[str, Any]
) -> None:
    refused = {
        r"columns.semantic_codes is 'repcodec@w2v.*', this job has None": None,
        r"columns.latents is 'repcodec@w2v.*', this job has None": semantic_parts,
        r"columns.semantic_codes is .*layer-2.*, this job has .*layer-1": {
            **semantic_parts,
            "layer": 1,
            "latents": True,
        },
    }
    for why, semantic in refused.items():
        with pytest.raises(JobError, match=why):
            prepare(str(corpus), str(reference), with_tokens(semantic))


def test_a_dataset_without_the_column_gets_it_and_keeps_it(
    reference: Path,
    corpus: Path,
    semantic_parts: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """File by file: who is interrupted goes on with the rest. Tokens first, latents after them, then a repair."""
    source, output = tmp_path / "corpus", tmp_path / "data"
    shutil.copytree(corpus, source)
    (source / "utterance3.wav").rename(tmp_path / "later.wav")
    prepare(str(source), str(output), with_tokens(None))
    before = Dataset.open(output)
    (tmp_path / "later.wav").rename(source / "utterance3.wav")
    settings = with_tokens(semantic_parts)
    planned = "\n".join(describe(str(source), str(output), settings, RunOptions()))
    assert "3 files get semantic_codes" in planned
    assert Dataset.open(output).version == before.version, "a dry run changes nothing"

    filled: list[str] = []

    def interrupted(head: Head, shard: Any, *rest: Any) -> bool:
        if len(filled) == 2:
            raise KeyboardInterrupt
        filled.append(shard.path)
        return done(head, shard, *rest)

    done = columns.fill
    monkeypatch.setattr(columns, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(source), str(output), settings)
    monkeypatch.undo()
    halfway = Dataset.open(output)
    assert verify(halfway) == []
    assert len(columns.files_to_fill(halfway, halfway.identity.columns)) == 1
    assert halfway.totals().utterances == 4, "new recordings came first"
    (missing,) = lacking(output)
    (source / missing).rename(tmp_path / "gone.wav")
    with pytest.raises(JobError, match=rf"1 files still lack token columns.*{missing}: .*the same command"):
        prepare(str(source), str(output), settings)
    (tmp_path / "gone.wav").rename(source / missing)
    capsys.readouterr()
    result = prepare(str(source), str(output), settings)
    assert result["new_recordings"] == 0
    assert "1 files were rewritten with semantic_codes" in capsys.readouterr().err
    assert lacking(output) == []
    prepare(str(source), str(output), with_tokens({**semantic_parts, "latents": True}))
    assert verify(Dataset.open(output)) == []
    assert tokens(output) == tokens(reference)
    # The run that made the file knew nothing of the columns; a later one says who makes them.
    damaged = next(Path(uri) for uri in Dataset.open(output).file_uris("train"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    repaired = repair(str(output))
    assert (repaired.files, repaired.recordings, repaired.missing) == (1, 1, [])
    assert verify(Dataset.open(output)) == []
    assert tokens(output) == tokens(reference)
