"""The HTML of a report. Everything that comes from a dataset is escaped; only the page's own script may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.datasets import Dataset
from catalog.filters import MEASURES, REASONS
from pipelines.audio.containers import Samples
from pipelines.datasets.report.distribution import Distribution
from pipelines.datasets.report.document import data_uri, document, escape, player, section
from pipelines.datasets.report.drawing import histogram, number, spectrogram
from pipelines.datasets.report.statistics import Groups, Summary
from pipelines.rows import Row

MARK = "<!-- speechmill report -->"
_ROWS = 20
_FACTS = ("speaker", "language", "text_source", "dnsmos", "snr_db", "chars_per_s", "text_confidence")


@dataclass(frozen=True)
class Sound:
    """An utterance to listen to."""

    split: str
    row: Row
    samples: Samples
    cut: bool
    """Only its beginning is there."""


def page(dataset: Dataset, summary: Summary, sounds: Sequence[Sound]) -> str:
    """The whole document."""
    title = f"{_last_part(dataset.uri)}, version {dataset.version}"
    sections = (
        _totals(dataset, summary),
        _hours(summary),
        _rejects(summary),
        _distributions(summary),
        _examples(sounds, dataset.codec.sample_rate),
        _made_with(dataset, summary),
    )
    return document(MARK, title, dataset.uri, sections)


def _totals(dataset: Dataset, summary: Summary) -> str:
    totals = summary.totals
    offered = totals.utterances + totals.rejected
    tiles = {
        "hours": f"{totals.hours:,.2f}",
        "utterances": f"{totals.utterances:,}",
        "recordings": f"{totals.recordings:,}",
        "rejected rows": f"{totals.rejected:,}" + (f" ({totals.rejected / offered:.1%})" if offered else ""),
        "speakers": ("over " if summary.speakers.others else "")
        + f"{len(summary.speakers.rows.keys() - {None}):,}",
        "files": f"{len(dataset.shards()):,}",
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f'<section aria-label="Totals"><dl class="tiles">{items}</dl></section>\n'


def _hours(summary: Summary) -> str:
    groups = {
        "By split": summary.splits,
        "By language": summary.languages,
        "By speaker": summary.speakers,
        "By source": summary.sources,
        "By origin of the text": summary.texts,
    }
    tables = "".join(_group_table(title, group) for title, group in groups.items() if group.rows)
    return section("Hours", f'<div class="columns">{tables}</div>' if tables else "<p>No accepted rows.</p>")


def _group_table(title: str, group: Groups) -> str:
    shown = sorted(group.rows, key=lambda name: (-group.seconds[name], str(name)))
    most = max(group.seconds.values(), default=0.0)
    rows = [
        _bar_row(_or_unknown(name), group.seconds[name] / 3600, group.rows[name], group.seconds[name], most)
        for name in shown[:_ROWS]
    ]
    rest = shown[_ROWS:]
    if rest:
        seconds, count = sum(group.seconds[name] for name in rest), sum(group.rows[name] for name in rest)
        rows.append(_bar_row(f"<i>{len(rest):,} more</i>", seconds / 3600, count, 0.0, most))
    head = '<tr><th scope="col">name</th><th scope="col">hours</th><th scope="col">rows</th></tr>'
    note = f"<p>{group.others:,} rows of further names are counted as unknown.</p>" if group.others else ""
    return (
        f"<div><h3>{title}</h3><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>{note}</div>"
    )


def _bar_row(name: str, hours: float, rows: int, part: float, whole: float) -> str:
    width = 100 * part / whole if whole else 0.0
    bar = f'<span class="bar" aria-hidden="true" style="width:{width:.1f}%"></span>'
    return f'<tr><th scope="row">{name}{bar}</th><td>{_hours_text(hours)}</td><td>{rows:,}</td></tr>'


def _hours_text(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 100 else f"{hours:.3f}"


def _or_unknown(name: str | None) -> str:
    return "<i>unknown</i>" if name is None else f"<bdi>{escape(name)}</bdi>"


def _rejects(summary: Summary) -> str:
    if not summary.rejects:
        return section("Rejected", "<p>Nothing was rejected.</p>")
    offered = summary.totals.utterances + summary.totals.rejected
    rows = []
    for reason, found in sorted(summary.rejects.items(), key=lambda item: -item[1].rows):
        examples = "".join(
            f"<li><code>{escape(row_id)}</code>: {escape(detail)}</li>" for row_id, detail in found.examples
        )
        rows.append(
            f'<tr><th scope="row" title="{escape(REASONS.get(reason, ""))}"><code>{escape(reason)}</code></th>'
            f"<td>{found.rows:,}</td>"
            f'<td>{found.rows / offered:.2%}</td><td class="wide"><ul>{examples}</ul></td></tr>'
        )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("reason", "rows", "of all rows", "for example")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return section("Rejected", f'<div class="scroll">{table}</div>')


def _distributions(summary: Summary) -> str:
    figures = []
    for measure in MEASURES:
        one = summary.distributions.get(measure.column)
        if one is None:
            continue
        unit = f" <small>{measure.unit}</small>" if measure.unit else ""
        figures.append(f"<figure><h3>{measure.title}{unit}</h3>{_figure(one, measure.title)}</figure>")
    return section("Distributions", f'<div class="figures">{"".join(figures)}</div>') if figures else ""


def _figure(one: Distribution, title: str) -> str:
    rows = f"{one.count:,} rows" + (f", {one.missing:,} without" if one.missing else "")
    if one.least == one.most:
        return f"<figcaption>always <b>{number(one.least)}</b>; {rows}</figcaption>"
    low, middle, high = (number(one.quantile(share)) for share in (0.05, 0.5, 0.95))
    bars = one.bars()
    summary = f"{title}: median {middle}, 90 % between {low} and {high}"
    return (
        f"{histogram(one, summary)}"
        f'<p class="axis"><span>{number(max(bars[0].low, one.least))}</span>'
        f"<span>{number(min(bars[-1].high, one.most))}</span></p>"
        f"<figcaption>median <b>{middle}</b>, mean {number(one.mean)}, 90 % between {low} and {high}, "
        f"all between {number(one.least)} and {number(one.most)}; {rows}</figcaption>"
    )


def _examples(sounds: Sequence[Sound], sample_rate: int) -> str:
    articles = "".join(_example(sound, sample_rate) for sound in sounds)
    return section("Examples", f'<div class="examples">{articles}</div>') if sounds else ""


def _example(sound: Sound, sample_rate: int) -> str:
    row = sound.row
    seconds = len(sound.samples) / sample_rate
    facts = [("split", sound.split)]
    facts += [(name, _plain(row[name])) for name in _FACTS if row.get(name) is not None]
    listed = "".join(
        f"<div><dt>{name}</dt><dd><bdi>{escape(value)}</bdi></dd></div>" for name, value in facts
    )
    cut = f" Only the first {seconds:.0f} s are here." if sound.cut else ""
    described = f"Spectrogram, 0 to {sample_rate / 2000:g} kHz, {seconds:.1f} s"
    said = f"<bdi>{escape(row['text'])}</bdi>" if row.get("text") else "<i>no text</i>"
    name = escape(row["id"])
    return f"""<article><h3><bdi>{name}</bdi></h3>
<blockquote dir="auto">{said}</blockquote>
<img src="{data_uri("image/png", spectrogram(sound.samples))}" alt="{described}">
{player(name, sound.samples, sample_rate)}
<dl class="facts">{listed}</dl><p class="note">{described}.{cut}</p></article>
"""


def _plain(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _made_with(dataset: Dataset, summary: Summary) -> str:
    codec = dataset.codec.as_dict()
    tables = _facts_table("Codec", codec) + _facts_table(
        "Settings that change a row", _flat(dataset.settings)
    )
    if summary.codebooks:
        levels = "".join(
            f'<tr><th scope="row">{level}</th><td>{used:,}</td><td>{perplexity:,.1f}</td>'
            f"<td>{perplexity / dataset.codec.codebook_size:.1%}</td></tr>"
            for level, (used, perplexity) in enumerate(summary.codebooks, 1)
        )
        names = ("level", "entries used", "perplexity", f"of {dataset.codec.codebook_size:,} entries")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        tables += (
            f"<div><h3>Codebook use</h3><table><thead><tr>{head}</tr></thead><tbody>{levels}</tbody></table>"
            f'<p class="note">Counted over {summary.code_frames:,} frames.</p></div>'
        )
    return section("Codec and settings", f'<div class="columns">{tables}</div>')


def _facts_table(title: str, facts: Mapping[str, object]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(key)}</code></th><td class="wide">{escape(value)}</td></tr>'
        for key, value in facts.items()
    )
    return f"<div><h3>{title}</h3><table><tbody>{rows}</tbody></table></div>" if rows else ""


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _last_part(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2] or uri
