"""The HTML page of an evaluation: the table of figures, the worst sentences with players, what was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.audio.containers import AudioError
from pipelines.audio.decode import Limits, decode
from pipelines.datasets.report.document import document, escape, player, section
from pipelines.evaluation.summary import MEASURES, Figure, Measure
from pipelines.rows import Row

MARK = "<!-- speechmill evaluation -->"
_LISTEN_HZ, _LISTEN_S = 24_000, 60.0
_SHOWN = ("speaker_similarity", "dnsmos", "mel_cepstral_distance", "duration_ratio")


@dataclass(frozen=True)
class Heard:
    """A sentence to listen to: its judgement, and recordings by their name."""

    judged: Row
    text: str
    recordings: Mapping[str, str]


def page(
    model: str,
    facts: Mapping[str, object],
    table: Mapping[str, Mapping[str, Figure]],
    worst: Sequence[Heard],
    rejects: Sequence[Row],
) -> str:
    """The whole document; `facts` say who judged what."""
    articles = "".join(_article(one) for one in worst)
    sections = (
        section("Figures", f'<div class="scroll">{_table(table)}</div>{_NOTE}'),
        section("Judged by", f'<div class="scroll">{_facts(facts)}</div>'),
        section("Worst sentences", f'<div class="examples">{articles}</div>') if worst else "",
        section("Rejected", _rejects(rejects)),
    )
    return document(MARK, "Evaluation", model, sections)


_NOTE = (
    '<p class="note">In brackets: 95 % intervals, sentences resampled, all seeds of a sentence together. '
    "Error rates are pooled over all words. Figures of another recogniser do not compare.</p>"
)


def _table(table: Mapping[str, Mapping[str, Figure]]) -> str:
    """A line a measure; references, codec, system and seeds side by side."""
    head = "".join(f'<th scope="col" class="right">{escape(of)}</th>' for of in table)
    rows = "".join(
        f'<tr><th scope="row">{escape(measure.title)}</th>'
        + "".join(f"<td>{_figure(measure, figures.get(name))}</td>" for figures in table.values())
        + "</tr>"
        for name, measure in MEASURES.items()
        if any(name in figures for figures in table.values())
    )
    return f'<table><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _figure(measure: Measure, figure: Figure | None) -> str:
    if figure is None:
        return ""
    scale, digits = (100.0, 1) if measure.percent else (1.0, 3)
    value, low, high = (f"{scale * one:.{digits}f}" for one in (figure.value, figure.low, figure.high))
    unit = " %" if measure.percent else ""
    return f"<b>{value}{unit}</b><br><small>[{low}, {high}] of {figure.recordings:,}</small>"


def _facts(facts: Mapping[str, object]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="wide">{escape(_fact(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {one}" for key, one in value.items() if one not in ("", None))
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _article(one: Heard) -> str:
    judged = one.judged
    counts = judged.get("words")
    facts = {} if counts is None else {"word errors": f"{_errors(counts)} of {counts['length']} words"}
    facts |= {MEASURES[name].title: f"{judged[name]:.3f}" for name in _SHOWN if judged.get(name) is not None}
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    heard = f"<p>heard: <bdi>{escape(judged['heard'])}</bdi></p>" if "heard" in judged else ""
    return (
        f"<article><h3><bdi>{escape(judged['id'])}</bdi></h3>"
        f'<blockquote dir="auto"><bdi>{escape(one.text)}</bdi></blockquote>{heard}'
        f'{"".join(_players(one))}<dl class="facts">{listed}</dl></article>\n'
    )


def _players(one: Heard) -> Iterator[str]:
    for name, path in one.recordings.items():
        try:
            audio = decode(Path(path), _LISTEN_HZ, Limits(max_duration_s=_LISTEN_S))
        except (AudioError, OSError) as error:
            yield f'<p class="note">{escape(name)}: {escape(error)}</p>'
            continue
        label = escape(f"{name}, {one.judged['id']}")
        yield f'<p class="note">{escape(name)}</p>{player(label, audio.samples, _LISTEN_HZ)}'


def _errors(counts: Mapping[str, int]) -> int:
    return counts["substitutions"] + counts["deletions"] + counts["insertions"]


def _rejects(rejects: Sequence[Row]) -> str:
    if not rejects:
        return "<p>Nothing was rejected.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(row["of"])}</th><td><code>{escape(row["id"])}</code></td>'
        f'<td class="wide">{escape(row["reason"])}</td></tr>'
        for row in rejects
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
