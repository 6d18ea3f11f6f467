"""`codecs`: every codec with a name, its sizes, and the terms of its weights."""

from __future__ import annotations

import json

import pytest

import speechmill
from models.codecs.mill.editions import editions
from models.codecs.published import PUBLISHED


def test_codecs_are_listed_with_their_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert speechmill.main(["codecs"]) == 0
    *lines, last = capsys.readouterr().out.strip().splitlines()
    rows = {row["codec"]: row for row in json.loads(last)["codecs"]}
    assert len(lines) == 1 + len(rows) == 1 + 3 + len(editions()) + len(PUBLISHED)
    assert all(line.split()[0] == name for line, name in zip(lines[1:], rows, strict=True))
    assert rows["mill-16khz@1"]["licence"] == "Apache-2.0"
    mimi = rows["mimi-24khz"]
    assert (mimi["rate_hz"], mimi["frames_per_s"], mimi["levels"]) == (24_000, 12.5, 32)
    assert mimi["kbit_per_s"] == pytest.approx(4.4)
    assert rows["encodec-48khz"]["frames_per_s"] == pytest.approx(150 / 0.99)
    for one in PUBLISHED:
        row = rows[one.name]
        assert row["use"] == one.use
        assert (row["licence"] == "see its card") == (one.use == "unstated")
        assert one.repository in row["source"]
    assert rows["maskgct-acoustic"]["use"] == "non-commercial"
    assert rows["speechtokenizer"]["source"].endswith("(import speechtokenizer)")
