"""The table of an evaluation by known answers."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.evaluation.page import MARK, page
from pipelines.evaluation.summary import table, worst_first


def judged(name: str, edits: tuple[int, int, int], length: int, **figures: Any) -> dict[str, Any]:
    counts = dict(zip(("substitutions", "deletions", "insertions"), edits, strict=True)) | {"length": length}
    return {"id": name, "reason": None, "recogniser": "whisperx:tiny", "words": counts} | figures


ROWS = [
    judged("a", (1, 0, 0), 2, dnsmos=3.0, duration_s=1.0, wall_s=2.0, finish_reason="length"),
    judged("b", (0, 0, 0), 8, dnsmos=4.0, duration_s=3.0, wall_s=2.0, finish_reason="loop"),
    judged("c", (0, 6, 0), 10, speaker_similarity=0.5, f0_correlation=None),
    {"id": "d", "reason": "recording d.wav: truncated"},
]


def test_figures_are_pooled() -> None:
    figures = table({"system": ROWS})["system"]
    assert figures["wer"].value == pytest.approx(7 / 20)
    assert figures["wer"].recordings == 3
    assert figures["dnsmos"].value == pytest.approx(3.5)
    assert figures["real_time_factor"].value == pytest.approx(4.0 / 4.0)
    assert figures["skip_rate"].value == pytest.approx(1 / 3)  # c lost six of ten words
    assert figures["runaway_rate"].value == pytest.approx(1 / 3)  # b repeated itself
    assert "f0_correlation" not in figures
    assert "cer" not in figures


def test_a_word_inserted_for_two_is_no_runaway_and_two_are() -> None:
    limit, above = judged("a", (0, 0, 1), 2), judged("b", (0, 0, 2), 2)
    assert table({"system": [limit]})["system"]["runaway_rate"].value == 0.0
    assert table({"system": [above]})["system"]["runaway_rate"].value == 1.0


def test_intervals_are_over_sentences_not_draws() -> None:
    once = [judged(str(row), (int(row % 4 == 0), 0, 0), 5) for row in range(40)]
    thrice = [row for row in once for _ in range(3)]
    one, three = (table({"system": rows})["system"]["wer"] for rows in (once, thrice))
    assert one.low < one.value < one.high
    assert (three.low, three.value, three.high) == pytest.approx((one.low, one.value, one.high))
    apart = [row | {"id": f"{row['id']}.{draw}"} for row in once for draw in range(3)]
    narrow = table({"system": apart})["system"]["wer"]
    assert narrow.high - narrow.low < 0.7 * (one.high - one.low)


def test_recognisers_are_not_mixed() -> None:
    other = judged("a", (0, 0, 0), 2) | {"recogniser": "whisperx:large"}
    with pytest.raises(ValueError, match="whisperx:large and whisperx:tiny in one table"):
        table({"references": [other], "system": ROWS})


def test_worst_first() -> None:
    assert [row["id"] for row in worst_first(ROWS)] == ["c", "a", "b"]
    alike = [
        judged("x", (0, 0, 0), 1, speaker_similarity=0.9),
        judged("y", (0, 0, 0), 1, speaker_similarity=0.1),
    ]
    assert [row["id"] for row in worst_first(alike)] == ["y", "x"]


def test_the_page_has_the_figures() -> None:
    figures = table({"system": ROWS})
    text = page(
        "models:/m/1",
        {"recogniser": "whisperx:tiny"},
        figures,
        [],
        [{"of": "input", "id": "d", "reason": "<b>"}],
    )
    assert MARK in text
    assert "<b>35.0 %</b>" in text
    assert "&lt;b&gt;" in text
