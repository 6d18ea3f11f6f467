"""The record of a run: what made its rows, and one line where earlier rows were made otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.config import load_config
from catalog.datasets import Dataset
from catalog.runs import newest_record
from models.text import espeak
from models.text.verbalize import EDITION
from pipelines.prepare import record as written
from pipelines.prepare.record import record
from pipelines.prepare.settings import PrepareSettings


def settings(*words: str) -> PrepareSettings:
    return load_config(PrepareSettings, None, ["codec.name=pcm-16khz", *words])


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset], row: Callable[..., dict[str, object]]) -> Dataset:
    return make_dataset([row("a")])


def test_what_made_the_rows_is_recorded(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "LICENSE").write_text("CC0 1.0\n")
    source = (tmp_path / "voices").as_uri()
    record(dataset, source, settings("text.normalize=true", "text.phonemes=true"), "run1", False)
    found = newest_record(dataset)
    assert found["source"] == source
    assert found["settings"]["text"]["normalize"] is True
    makers = {name: found[name] for name in ("licence", "spoken_forms", "espeak_ng")}
    assert makers == {"licence": "CC0 1.0", "spoken_forms": EDITION, "espeak_ng": espeak.version()}


def test_what_made_no_row_is_not(dataset: Dataset, tmp_path: Path) -> None:
    record(dataset, tmp_path.as_uri(), settings(), "run1", False)
    assert set(newest_record(dataset)) == {"source", "settings"}


def test_another_edition_of_the_spoken_forms_is_said_in_one_line(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(run: str, holds_rows: bool, *words: str) -> str:
        record(dataset, tmp_path.as_uri(), settings(*words), run, holds_rows)
        return capsys.readouterr().err

    normalized = "text.normalize=true"
    monkeypatch.setattr(written, "EDITION", "98")
    assert said("run1", False, normalized) == ""
    assert said("run2", True, normalized) == ""
    monkeypatch.setattr(written, "EDITION", "99")
    assert said("run3", True, normalized) == (
        "numbers in new rows are written out by edition 99 of the spoken forms, "
        "in those of earlier runs by edition 98\n"
    )
    assert newest_record(dataset)["spoken_forms"] == "99"
    assert said("run4", True, normalized) == ""
    assert said("run5", True) == ""


def test_rows_from_before_there_were_editions_are_of_the_first(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset.storage.write("_settings/run0.yaml", b"source: file:///gone\nsettings: {}\n")
    record(dataset, tmp_path.as_uri(), settings("text.normalize=true"), "run1", True)
    assert capsys.readouterr().err.endswith("in those of earlier runs by edition 1\n")
