"""The report: its numbers, its HTML as a parser sees it, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import speechmill
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from pipelines.datasets.report.distribution import Distribution
from pipelines.datasets.report.drawing import spectrogram
from pipelines.datasets.report.page import page
from pipelines.datasets.report.statistics import examples, summarize

SCRIPT = "<script>document.title = 'pwned'</script><img src=x onerror=\"document.title='pwned'\">"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Elements with their attributes, and the text under each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self) -> str:
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))


@pytest.fixture
def spoken_rows() -> list[dict[str, Any]]:
    """Twelve short utterances of `pcm-16khz`, whose decoding is exact."""
    time = np.arange(4000)
    rows = []
    for index in range(12):
        wave = (8000 * np.sin(2 * np.pi * (200 + 50 * index) * time / 16000)).astype(np.int16)
        rows.append(
            {
                "id": f"u/{index}",
                "recording_id": f"u/{index}",
                "split": "validation" if index == 0 else "train",
            }
            | {
                "codes": wave[None],
                "target_length": len(wave),
                "duration_s": 0.25,
                "dnsmos": 3.0 + index / 20,
            }
            | {"text": SCRIPT if index % 2 else "one two", "speaker": SCRIPT, "language": "en"}
            | {"source": f"file:///corpus/{'ab'[index % 2]}/{index}.wav", "text_source": "given"}
        )
    return rows


@pytest.fixture
def spoken(make_dataset, spoken_rows, reject):
    rejects = [reject(f"r{index}", "too_short", f"0.{index} s; {SCRIPT}") for index in range(5)]
    rejects.append(reject("s", "silent", "peak 0"))
    return make_dataset([*spoken_rows, *rejects], identity_of(load_codec("pcm-16khz")))


@pytest.fixture
def written(spoken, tmp_path: Path) -> Path:
    assert speechmill.main(["report", spoken.uri, "--output", str(tmp_path / "report.html")]) == 0
    return tmp_path / "report.html"


def test_nothing_is_fetched(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert not page.all("link")
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none';")
    assert "url(" not in written.read_text(encoding="utf-8")


def test_what_a_dataset_says_stays_text(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.all("script")) == 1
    assert not [
        attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)
    ]
    assert page.said().count(SCRIPT) >= 6


def test_the_page_can_be_read_aloud(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert [data for tag, data in page.texts if tag == "h2"] == [
        "Hours",
        "Rejected",
        "Distributions",
        "Examples",
        "Codec and settings",
    ]
    assert all(re.match(r"Spectrogram, 0 to 8 kHz, 0\.\d s", image["alt"]) for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(audio["aria-label"].startswith("u/") for audio in page.all("audio"))


def test_its_numbers(written: Path) -> None:
    said = Page(written.read_text(encoding="utf-8")).said()
    for expected in (
        "6 (33.3%)",
        "rejected rows",
        "file:///corpus/a",
        "too_short 5 27.78%",
        "silent 1 5.56%",
    ):
        assert expected in said, expected
    assert "segmentation.max_s 30.0" in said
    assert "sample_rate 16000" in said


def test_audio_is_the_decoded_codes(written: Path, spoken_rows) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    waves = {row["id"]: row["codes"][0] for row in spoken_rows}
    assert len(page.all("audio")) == 12
    for audio in page.all("audio"):
        kind, _, data = audio["src"].partition(";base64,")
        assert kind == "data:audio/flac"
        file = written.with_name("heard.flac")
        file.write_bytes(base64.b64decode(data))
        samples, rate = soundfile.read(file, dtype="int16")
        assert rate == 16000
        assert np.array_equal(samples, waves[audio["aria-label"]])


def test_examples_are_drawn_by_seed(spoken) -> None:
    drawn = [[one.row["id"] for one in examples(spoken, 5, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(ids)) == 5 for ids in drawn)
    every = {one.row["id"]: one for one in examples(spoken, 1000, 0)}
    assert len(every) == 12
    assert every["u/0"].split == "validation"


def test_summary(spoken) -> None:
    summary = summarize(spoken)
    assert summary.splits.rows == {"train": 11, "validation": 1}
    assert summary.sources.seconds == {
        "file:///corpus/a": pytest.approx(1.5),
        "file:///corpus/b": pytest.approx(1.5),
    }
    assert (summary.rejects["too_short"].rows, len(summary.rejects["too_short"].examples)) == (5, 3)
    assert summary.distributions.keys() == {"duration_s", "chars_per_s", "dnsmos"}
    # "one two" has six characters in 0.25 s; the column itself was never filled.
    assert summary.distributions["chars_per_s"].least == pytest.approx(24.0)
    assert summary.codebooks == []


def test_codebook_use(make_dataset, row) -> None:
    even = np.arange(1024, dtype=np.int16)
    codes = np.stack([even, np.where(even % 2, 7, 9).astype(np.int16)])
    rows = [row(f"u{index}", codes=codes, target_length=1024, duration_s=20.0) for index in range(3)]
    summary = summarize(make_dataset(rows))
    assert summary.codebooks == [(1024, pytest.approx(1024)), (2, pytest.approx(2))]
    assert summary.code_frames == 3 * 1024


def test_names_beyond_the_bound_are_counted_as_unknown(make_dataset, row, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.datasets.report.statistics._MOST_NAMES", 3)
    rows = [row(f"u{index}", speaker=f"s{index}") for index in range(8)]
    dataset = make_dataset(rows)
    summary = summarize(dataset)
    assert (len(summary.speakers.rows), summary.speakers.others) == (4, 5)
    assert summary.speakers.rows.total() == 8
    assert "over 3" in Page(page(dataset, summary, [])).said()


@given(st.lists(st.floats(-300, 300) | st.none() | st.just(float("nan")), min_size=1, max_size=300))
def test_a_histogram_loses_nothing(values: list[float | None]) -> None:
    distribution = Distribution(-100.0, 100.0)
    for start in range(0, len(values), 50):
        distribution.add(pa.array(values[start : start + 50], pa.float64()))
    numbers = [value for value in values if value is not None and np.isfinite(value)]
    assert (distribution.count, distribution.missing) == (len(numbers), len(values) - len(numbers))
    if numbers:
        bars = distribution.bars()
        assert sum(bar.count for bar in bars) == len(numbers)
        assert len(bars) <= 40
        assert distribution.mean == pytest.approx(np.mean(numbers), abs=1e-9)
        inside = sorted(np.clip(numbers, -100, 100))
        assert abs(np.clip(distribution.quantile(0.5), -100, 100) - inside[(len(inside) - 1) // 2]) <= 0.011


def test_a_tone_is_a_line_in_the_spectrogram() -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000).astype(np.float32)
    data = spectrogram(tone)
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompress(data[start : data.index(b"IEND") - 8]), np.uint8).reshape(
        height, -1
    )
    assert (height, width) == (257, lines.shape[1] - 1)
    assert set(lines[:, 1:].argmax(0)) == {256 - 64}  # 2 kHz of 8, the lowest line is 0 Hz


def test_short_and_silent_waves_have_a_spectrogram() -> None:
    assert all(
        spectrogram(np.zeros(length, np.float32)).startswith(b"\x89PNG") for length in (1, 512, 513, 100_000)
    )


def test_a_dataset_without_accepted_rows(make_dataset, reject, tmp_path: Path) -> None:
    dataset = make_dataset([reject("r", "silent", "peak 0")])
    assert speechmill.main(["report", dataset.uri, "--output", str(tmp_path / "report.html")]) == 0
    said = Page((tmp_path / "report.html").read_text(encoding="utf-8")).said()
    assert "No accepted rows." in said
    assert "1 (100.0%)" in said


def test_a_codec_that_is_not_here(make_dataset, row, tmp_path: Path, capsys) -> None:
    words = ["report", make_dataset([row("a")]).uri, "--output", str(tmp_path / "report.html")]
    assert speechmill.main(words) == 2
    assert "codec toy@1 cannot be loaded" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
    assert speechmill.main([*words, "--examples", "0"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 0


def test_only_a_report_is_replaced(spoken, written: Path, capsys) -> None:
    words = ["report", spoken.uri, "--examples", "0", "--output", str(written)]
    assert speechmill.main(words) == 0
    written.write_text("<!doctype html> mine")
    assert speechmill.main(words) == 2
    assert "exists and is no report" in capsys.readouterr().err
    assert written.read_text() == "<!doctype html> mine"


def test_an_older_version(make_dataset, row, tmp_path: Path) -> None:
    from catalog.appending import Appender
    from catalog.datasets import Dataset
    from catalog.shards import write_shard
    from pipelines.datasets.formats.rows import to_table

    dataset = make_dataset([row("a")])
    appender = Appender(dataset)
    appender.committed()
    appender.append(write_shard(to_table([row("b")]), dataset.uri, "r", dataset.codec))
    assert summarize(Dataset.open(dataset.uri, 1)).totals.utterances == 1
    assert summarize(Dataset.open(dataset.uri)).totals.utterances == 2


def browse(page: Path, profile: Path) -> tuple[Page, str]:
    """The document after its script ran, and what Chromium logged: it writes a page's console there, too."""
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    words += [f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--enable-logging=stderr"]
    words += ["--dump-dom", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return Page(shown.stdout), shown.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on PATH")
def test_in_a_real_browser(written: Path, tmp_path: Path) -> None:
    page, logged = browse(written, tmp_path / "profile")
    assert [audio.get("data-duration") for audio in page.all("audio")] == ["0.250"] * 12
    assert [data for tag, data in page.texts if tag == "output"] == ["0.3 s"] * 12
    assert next(data for tag, data in page.texts if tag == "title") == "data, version 1"
    assert len(page.all("script")) == 1
    assert "CONSOLE" not in logged


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on PATH")
def test_the_browser_runs_no_other_script(written: Path, tmp_path: Path) -> None:
    text = written.read_text(encoding="utf-8")
    written.write_text(text.replace("</main>", f"{SCRIPT}</main>"), encoding="utf-8")
    page, logged = browse(written, tmp_path / "profile")
    assert next(data for tag, data in page.texts if tag == "title") == "data, version 1"
    assert len(page.all("script")) == 2
    assert "Content Security Policy" in "".join(line for line in logged.splitlines() if "CONSOLE" in line)
