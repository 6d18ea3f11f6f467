"""Of several candidates the best is kept, whatever else is spoken beside it, and the manifest says which."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import soundfile

from catalog.command import UsageError
from catalog.config import load_config
from pipelines.__main__ import main
from pipelines.evaluation import candidates
from pipelines.evaluation.candidates import SpeakBest, SynthesizeSettings, choice_of, rank, score_of
from pipelines.stages.speak import REQUESTS, Speak

ENERGY = ("dnsmos",)


def settings(*overrides: str) -> SynthesizeSettings:
    return load_config(SynthesizeSettings, None, overrides)


def loudest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A judge by a known answer: the energy of the file."""
    energies = [float((soundfile.read(row["wave"])[0] ** 2).mean()) for row in rows]
    return [{"id": row["id"], "reason": None, "dnsmos": one} for row, one in zip(rows, energies, strict=True)]


def requests(folder: Path, *names: str) -> pa.Table:
    rows = [{"id": name, "text": f"say {name}", "output": str(folder / f"{name}.wav")} for name in names]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def best_of(system: Path, count: int, judge: Callable[..., Any] = loudest) -> SpeakBest:
    choice = choice_of(settings("candidates=2", "scorer=[dnsmos]"))
    assert choice is not None
    return SpeakBest(str(system), "cpu", 0, {}, replace(choice, candidates=count), judge)


def test_the_best_is_kept(system: Path, tmp_path: Path) -> None:
    (row,) = best_of(system, 4)(requests(tmp_path, "one")).to_pylist()
    # Each candidate by itself: the first is what is spoken without candidates.
    alone = [best_of(system, 4, only(number))(requests(tmp_path / str(number), "one")) for number in range(4)]
    waves = [tmp_path / str(number) / "one.wav" for number in range(4)]
    energies = [float((soundfile.read(wave)[0] ** 2).mean()) for wave in waves]
    assert len(alone) == 4
    assert len(set(energies)) == 4
    assert row["candidate"] == energies.index(max(energies))
    assert (row["candidates"], json.loads(row["score"])) == (4, {"dnsmos": max(energies)})
    assert (tmp_path / "one.wav").read_bytes() == waves[row["candidate"]].read_bytes()
    Speak(str(system), "cpu", 0, {})(requests(tmp_path / "plain", "one"))
    assert (tmp_path / "plain" / "one.wav").read_bytes() == waves[0].read_bytes()


def only(number: int) -> Callable[..., Any]:
    """A judge that likes one candidate."""
    return lambda rows: [
        {"id": row["id"], "reason": None, "dnsmos": float(n == number)} for n, row in enumerate(rows)
    ]


def test_the_batch_does_not_matter(system: Path, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    together = best_of(system, 3)(requests(tmp_path / "together", *names)).to_pylist()
    alone = [best_of(system, 3)(requests(tmp_path / "alone", name)).to_pylist()[0] for name in names]
    assert [row["candidate"] for row in together] == [row["candidate"] for row in alone]
    for name in names:
        files = [(tmp_path / folder / f"{name}.wav").read_bytes() for folder in ("together", "alone")]
        assert files[0] == files[1]


def test_what_cannot_be_judged_is_kept_only_if_nothing_can(system: Path, tmp_path: Path) -> None:
    def last(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"id": row["id"], "reason": "broken"} for row in rows[:-1]] + loudest(rows[-1:])

    def none(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"id": row["id"], "reason": "broken"} for row in rows]

    (row,) = best_of(system, 3, last)(requests(tmp_path, "one")).to_pylist()
    assert row["candidate"] == 2
    (row,) = best_of(system, 3, none)(requests(tmp_path, "one")).to_pylist()
    assert (row["candidate"], row["score"], row["reason"]) == (0, "null", None)


def test_scores_are_compared_in_the_order_of_the_scorer() -> None:
    def figures(errors: int, quality: float) -> dict[str, Any]:
        edits = {"substitutions": errors, "deletions": 0, "insertions": 0, "length": 10}
        return {"reason": None, "characters": edits, "dnsmos": quality}

    found = [score_of(figures(*one), ("characters", "dnsmos")) for one in ((1, 4.0), (0, 2.0), (0, 3.0))]
    assert found[0] == {"characters": 0.1, "dnsmos": 4.0}
    assert sorted(range(3), key=lambda n: rank(found[n] or {})) == [2, 1, 0]
    assert score_of({"reason": None, "dnsmos": None}, ("dnsmos",)) is None
    assert score_of({"reason": None}, ("speaker",)) is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["candidates=3"], r"candidates is 3: scorer must say which one is kept"),
        (["candidates=3", "scorer=[loudness]"], "'words', 'characters', 'dnsmos' or 'speaker'"),
        (["candidates=3", "scorer=[words]"], "scorer words needs a recogniser: give --set transcribe.model"),
        (["candidates=0"], "candidates"),
    ],
)
def test_settings_that_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        choice_of(settings(*overrides))
    assert len(str(caught.value).splitlines()) == 1


def test_a_judge_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.evaluation import settings as judges

    monkeypatch.setattr(judges, "_package", lambda name: None)
    with pytest.raises(UsageError, match="scorer dnsmos: speechmos is not installed"):
        choice_of(settings("candidates=2", "scorer=[dnsmos]"))


def test_one_candidate_needs_no_judge() -> None:
    assert choice_of(settings()) is None


def test_the_manifest_says_which_and_a_rerun_goes_on(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "Judge", lambda *_: type("Fake", (), {"judge": staticmethod(loudest)}))
    listing = tmp_path / "lines.txt"
    listing.write_text("one\ntwo\nthree\n", encoding="utf-8")

    def speak(*overrides: str) -> dict[str, Any]:
        words = [word for one in overrides for word in ("--set", one)]
        folder = str(tmp_path / "spoken")
        assert (
            main(["synthesize", "--model", str(system), "--input", str(listing), "-o", folder, *words]) == 0
        )
        found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        return found

    def lines() -> list[dict[str, Any]]:
        text = (tmp_path / "spoken" / "manifest.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    asked = ("candidates=3", "scorer=[dnsmos]", "batch_size=2")
    assert speak(*asked)["new_sentences"] == 3
    first = lines()
    assert [set(line["score"]) for line in first] == [{"dnsmos"}] * 3
    assert all(line["candidates"] == 3 and line["candidate"] in range(3) for line in first)
    assert speak(*asked)["new_sentences"] == 0
    assert lines() == first

    # A file whose line does not say it, as after a kill between the two, is made again, and alike.
    lost = [{k: v for k, v in line.items() if k not in candidates.NOTED} for line in first[:1]] + first[1:]
    (tmp_path / "spoken" / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lost))
    assert speak(*asked)["new_sentences"] == 1
    assert lines() == first
    # Without candidates the answers are others.
    assert speak()["new_sentences"] == 3
    assert "candidate" not in lines()[0]


def test_a_recogniser_keeps_what_it_hears_best(system: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    choice = choice_of(
        settings("candidates=2", "scorer=[characters, dnsmos]", f"transcribe.model={tiny_whisper}")
    )
    assert choice is not None
    (row,) = SpeakBest(str(system), "cpu", 0, {}, choice)(requests(tmp_path, "one")).to_pylist()
    assert row["reason"] is None
    assert row["candidate"] in (0, 1)
    assert json.loads(row["score"]) is None or set(json.loads(row["score"])) == {"characters", "dnsmos"}
