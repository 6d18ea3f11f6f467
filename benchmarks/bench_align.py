"""Quality and speed of cutting long recordings by their transcripts with `espeak-dtw`.

    python -m benchmarks.bench_align FOLDER [FOLDER ...] [--minutes 2 20] [--seed 0]

Each FOLDER holds short recordings and a `metadata.csv` (`file,text,...,language`). They are strung together with
pauses of 0.2 to 0.8 s, so that the true boundaries are known; recordings are used once until all are used. A sentence
boundary is measured where the speech of a recording begins and ends (35 dB below its loud parts), as the silence of
the recording itself belongs to the pause. A cut is off by its distance from the pause that it should be in.
Rates are seconds of audio per second of processor time.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.text.normalize import normalize_transcript
from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.rows import SCHEMA, samples_array
from pipelines.speech.alignment.espeak_dtw import EspeakDtw
from pipelines.speech.alignment.text_units import split_words
from pipelines.stages.align import AlignSettings, AlignStage

RATE = 16_000
RESULTS = Path(__file__).parent / "results" / "align.json"


@dataclass(frozen=True)
class Reading:
    samples: Samples
    texts: list[str]
    speech_s: list[tuple[float, float]]
    language: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def string_together(folder: Path, minutes: float, seed: int) -> Reading:
    """Recordings in random order, until they last as long as asked for."""
    draw = np.random.default_rng(seed)
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        clips = list(csv.DictReader(file))
    parts: list[Samples] = [np.zeros(RATE // 2, np.float32)]
    texts, speech = [], []
    length = len(parts[0])
    order: list[int] = []
    while length < minutes * 60 * RATE:
        order = order or draw.permutation(len(clips)).tolist()
        clip = clips[order.pop()]
        wave = decode(folder / clip["file"], RATE).samples
        first, last = _speech(wave)
        speech.append(((length + first) / RATE, (length + last) / RATE))
        texts.append(normalize_transcript(clip["text"]))
        pause = draw.normal(scale=1e-4, size=int(draw.uniform(0.2, 0.8) * RATE)).astype(np.float32)
        parts += [wave, pause]
        length += len(wave) + len(pause)
    return Reading(np.concatenate(parts), texts, speech, clips[0]["language"])


def _speech(wave: Samples) -> tuple[int, int]:
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > np.percentile(power, 95) * 10**-3.5)
    return int(loud[0]) * 160, int(loud[-1] + 1) * 160


def measure_sentences(reading: Reading) -> dict[str, Any]:
    """Starts and ends of sentences as the engine places them, before cuts move to pauses."""
    words = [word for text in reading.texts for word in split_words(text)]
    counts = [len(split_words(text)) for text in reading.texts]
    begun = time.process_time()
    aligned = EspeakDtw().align(reading.samples, words, reading.language)
    cpu_s = time.process_time() - begun
    errors, at = [], 0
    for count, (start, end) in zip(counts, reading.speech_s, strict=True):
        errors += [abs(aligned[at].start_s - start), abs(aligned[at + count - 1].end_s - end)]
        at += count
    return {
        "engine_rate": round(reading.seconds / cpu_s, 1),
        "sentence_error_s": _percentiles(errors),
        "sentences_off_by_1s": round(float(np.mean(np.max(np.reshape(errors, (-1, 2)), axis=1) > 1.0)), 4),
    }


def measure_cuts(reading: Reading) -> dict[str, Any]:
    """Run the stage on the recording: its cuts at sentence ends, and the audio it keeps."""
    row = dict.fromkeys(SCHEMA.names[:-1]) | {"id": "r", "recording_id": "r", "text": " ".join(reading.texts)}
    row |= {"language": reading.language, "start_s": 0.0, "duration_s": reading.seconds}
    arrays = [pa.array([row[field.name]], field.type) for field in list(SCHEMA)[:-1]]
    stage = AlignStage(AlignSettings(), RATE)
    begun = time.process_time()
    table = stage(pa.Table.from_arrays([*arrays, samples_array([reading.samples])], schema=SCHEMA))
    cpu_s = time.process_time() - begun
    rows = table.drop_columns("samples").to_pylist()
    errors = _cut_errors(reading, rows)
    accepted = [row for row in rows if row["reason"] is None]
    return {
        "rate": round(reading.seconds / cpu_s, 1),
        "utterances": len(accepted),
        "rejected": len(rows) - len(accepted),
        "words_kept": round(
            sum(len(row["text"].split()) for row in accepted) / sum(len(row["text"].split()) for row in rows),
            4,
        ),
        "cuts_at_sentence_ends": len(errors),
        "cut_error_s": _percentiles(errors),
        "cuts_off_by_50ms": round(float(np.mean(np.asarray(errors) > 0.05)), 4),
    }


def _cut_errors(reading: Reading, rows: Sequence[dict[str, Any]]) -> list[float]:
    """Distances of starts and ends of accepted utterances to the pause they belong in, at ends of sentences."""
    ends = np.cumsum([len(split_words(text)) for text in reading.texts]).tolist()
    speech = reading.speech_s
    pauses = {0: (0.0, speech[0][0]), ends[-1]: (speech[-1][1], reading.seconds)}
    pauses |= {
        end: (left[1], right[0]) for end, left, right in zip(ends[:-1], speech[:-1], speech[1:], strict=True)
    }
    errors, at = [], 0
    for row in rows:
        places = [(at, row["start_s"])]
        at += len(split_words(row["text"]))
        places.append((at, row["start_s"] + row["duration_s"]))
        for word, seconds in places:
            if row["reason"] is None and word in pauses:
                errors.append(max(0.0, pauses[word][0] - seconds, seconds - pauses[word][1]))
    return errors


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {
        name: round(float(np.percentile(values, q)), 3)
        for name, q in (("median", 50), ("p95", 95), ("max", 100))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 20.0])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = []
    EspeakDtw().align(np.zeros(RATE, np.float32) + 0.01, split_words("warm up"), "en")
    for folder in arguments.folders:
        for minutes in arguments.minutes:
            reading = string_together(folder, minutes, arguments.seed)
            found = {
                "folder": folder.name,
                "minutes": round(reading.seconds / 60, 1),
                "sentences": len(reading.texts),
            }
            found |= measure_cuts(reading) | measure_sentences(reading)
            found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            cut, sentence = found["cut_error_s"], found["sentence_error_s"]
            print(
                f"{folder.name:14} {found['minutes']:6.1f} min  {found['rate']:6.1f} x  kept {found['words_kept']:.3f}"
            )
            for what, error in (("cuts", cut), ("sentences", sentence)):
                print(f"    {what:10} {error['median']:.3f} / {error['p95']:.3f} / {error['max']:.3f} s")
            results.append(found)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"align": results}))


if __name__ == "__main__":
    main()
