"""The table under a dataset: what its log refuses is one line, and what another job made is left as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from catalog import table
from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.identity import Identity
from catalog.schema import SCHEMA
from models.identity import TokenIdentity

LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=4)


def block_next_version(uri: str) -> None:
    """A folder in the place of the log's next entry."""
    newest = max(int(entry.stem) for entry in Path(uri, "_delta_log").glob("*.json"))
    Path(uri, f"_delta_log/{newest + 1:020d}.json").mkdir()


@pytest.mark.parametrize(
    ("attempt", "what"),
    [
        (lambda delta, uri, _: table.write(delta, uri, [], "any", "r"), "cannot commit 0 files"),
        (
            lambda delta, uri, _: table.set_columns(delta, uri, {"latents": LATENTS}),
            "cannot declare a column",
        ),
        (
            lambda delta, uri, codec: table.replace(delta, uri, Identity(codec, {"text": "none"})),
            "cannot start the dataset over",
        ),
    ],
    ids=["write", "set_columns", "replace"],
)
def test_an_entry_that_cannot_be_written_is_one_line(
    attempt: Callable[..., bool], what: str, appender: Appender, codec: TokenIdentity
) -> None:
    block_next_version(appender.uri)
    with pytest.raises(JobError, match=f"^{appender.uri}: {what}: Failed to commit transaction") as error:
        attempt(table.load(appender.uri), appender.uri, codec)
    assert "\n" not in str(error.value)
    assert table.load(appender.uri).version() == 0


def test_columns_that_cannot_be_added_are_one_line(tmp_path: Path, codec: TokenIdentity) -> None:
    uri = str(tmp_path / "old")
    reduced = pa.schema([*list(SCHEMA)[:-1], ("split", pa.string())])
    DeltaTable.create(
        uri,
        reduced,
        partition_by=["split"],
        configuration=Identity(codec, {}).to_configuration(),
        raise_if_key_not_exists=False,
    )
    block_next_version(uri)
    with pytest.raises(JobError, match=f"^{uri}: cannot add columns: Failed to commit transaction"):
        table.add_columns(uri)
    assert table.lacks_columns(table.load(uri))


def test_a_table_that_another_job_made_first_is_left_as_it_is(tmp_path: Path, codec: TokenIdentity) -> None:
    uri = str(tmp_path / "data")
    made = create(uri, codec, {"text": "theirs"})
    table.create(uri, Identity(codec, {"text": "mine"}))
    assert table.identity(table.load(uri), uri) == made.identity


def test_a_place_that_takes_no_table_is_one_line(tmp_path: Path, codec: TokenIdentity) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(JobError, match=f"^{place}: cannot create a dataset: "):
        table.create(str(place), Identity(codec, {}))
