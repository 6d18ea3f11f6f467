"""Short recordings through the transcription stage against WhisperX as it is, one file at a time.

A Whisper of the dimensions of `tiny` with random weights writes a fixed number of tokens a window, since no weights can
be fetched here. WhisperX runs twice: as it is, and with a voice activity detection that takes the whole file, so that
only the batching differs; then its texts must be ours. It runs before and after the stage. One thread; processor time
decides the ratios, since other work shares the machine. Start-up is a fresh process that imports and loads.

    python benchmarks/bench_transcribe.py [--recordings 24] [--tokens 32] [--batch-size 8] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
RESULTS = Path(__file__).parent / "results" / "transcribe.json"
RATE = 16_000
WORDS = tuple("the sun sets over a quiet harbour while seven boats return with silver fish".split())  # noqa: SIM905
STARTS = {
    "whisperx": "import whisperx; whisperx.load_model({model!r}, {device!r}, compute_type='float32', language='en')",
    "stage": "from pipelines.stages.transcribe import TranscribeStage, TranscribeSettings\n"
    "TranscribeStage(TranscribeSettings(model={model!r}, compute_type='float32'), 16000, {device!r})\n"
    "import whisperx.audio",
}


def make_model(folder: Path) -> Path:
    """The directory of a CTranslate2 model that never writes its end token."""
    from pipelines.speech.transcription.example import Size, build

    size = Size(width=384, encoder_layers=4, decoder_layers=4, heads=6, text_tokens=50257)
    _, model = build(folder, size)
    config = json.loads((model / "config.json").read_text())
    config["suppress_ids"].append(size.text_tokens)
    (model / "config.json").write_text(json.dumps(config))
    return model


def make_corpus(folder: Path, count: int) -> list[Any]:
    """Waves (T,) at RATE of 2 to 9 s in several voices."""
    from pipelines.audio.decode import decode
    from pipelines.demo.corpus import Voice, speak

    draw = random.Random(0)
    found = []
    for index in range(count):
        voice = Voice(draw.choice(["en-us", "en-us+f2", "en-us+m3"]), draw.choice([130, 160]))
        path = folder / f"{index}.wav"
        speak(" ".join(draw.choices(WORDS, k=draw.randint(5, 22))), voice, path)
        found.append(decode(path, RATE).samples)
    return found


def load_whisperx(model: Path, tokens: int, device: str, whole: bool) -> Any:
    """WhisperX's pipeline; `whole` takes a file for one stretch of speech."""
    import whisperx
    from whisperx.vads import Vad

    class Whole(Vad):
        def __call__(self, audio: Any) -> float:
            return len(audio["waveform"]) / RATE

        @staticmethod
        def preprocess_audio(audio: Any) -> Any:
            return audio

        @staticmethod
        def merge_chunks(segments: float, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return [{"start": 0.0, "end": segments, "segments": [(0.0, segments)]}]

    vad = {"vad_model": Whole(0.5)} if whole else {}
    pipeline = whisperx.load_model(
        str(model), device, compute_type="float32", language="en", threads=1, local_files_only=True, **vad
    )
    pipeline.model.max_length = 2 * tokens
    return pipeline


def clock(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, its processor seconds and its wall seconds."""
    processor, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - processor, time.perf_counter() - wall


def one_by_one(pipeline: Any, waves: list[Any], batch_size: int) -> list[str]:
    from models.text.normalize import normalize_transcript

    texts = []
    for wave in waves:
        segments = pipeline.transcribe(wave, batch_size=batch_size)["segments"]
        # A batch of one comes back as a list of one text from a pipeline that is told to batch.
        spoken = [text if isinstance(text, str) else text[0] for text in (one["text"] for one in segments)]
        texts.append(normalize_transcript("".join(spoken)))
    return texts


def table_of(waves: list[Any]) -> Any:
    import pyarrow as pa

    from pipelines.rows import SCHEMA, samples_array

    names = [f"{index}.wav" for index in range(len(waves))]
    known = {"id": names, "recording_id": names, "language": ["en"] * len(waves)}
    columns = {
        field.name: pa.array(known.get(field.name, [None] * len(waves)), field.type)
        for field in SCHEMA
        if field.name != "samples"
    }
    return pa.table(columns | {"samples": samples_array(waves)}, schema=SCHEMA)


def start_up(model: Path, device: str) -> dict[str, float]:
    """Processor seconds of a fresh process until it could transcribe."""
    found = {}
    for name, code in STARTS.items():
        script = f"{code.format(model=str(model), device=device)}\nimport time; print(time.process_time())"
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        found[name] = round(float(child.stdout.splitlines()[-1]), 1)
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch

    from pipelines.stages.transcribe import TranscribeSettings, TranscribeStage

    torch.set_num_threads(1)
    model, waves = make_model(folder), make_corpus(folder, arguments.recordings)
    settings = TranscribeSettings(
        model=str(model), compute_type="float32", batch_size=arguments.batch_size, max_tokens=arguments.tokens
    )
    stage, table = TranscribeStage(settings, RATE, arguments.device), table_of(waves)
    theirs = {
        name: load_whisperx(model, arguments.tokens, arguments.device, whole=name == "whole")
        for name in ("as_it_is", "whole")
    }
    stage(table.slice(0, 1))
    runs: dict[str, list[tuple[float, float]]] = {"as_it_is": [], "whole": [], "stage": []}
    texts: dict[str, list[str]] = {}
    for name in ("as_it_is", "whole", "stage", "whole", "as_it_is", "stage"):
        if name == "stage":
            result, processor, wall = clock(lambda: stage(table)["text"].to_pylist())
        else:
            pipeline = theirs[name]
            result, processor, wall = clock(
                lambda pipeline=pipeline: one_by_one(pipeline, waves, arguments.batch_size)
            )
        texts[name] = result
        runs[name].append((processor, wall))
    audio_s = sum(map(len, waves)) / RATE
    speed = {
        name: [2 * audio_s / sum(run[at] for run in found) for at in (0, 1)] for name, found in runs.items()
    }
    return {
        "recordings": len(waves),
        "audio_s": round(audio_s, 1),
        "device": arguments.device,
        "batch_size": arguments.batch_size,
        "tokens": arguments.tokens,
        "audio_s_per_processor_s": {name: round(value[0], 2) for name, value in speed.items()},
        "audio_s_per_wall_s": {name: round(value[1], 2) for name, value in speed.items()},
        "ratio": round(speed["stage"][0] / speed["as_it_is"][0], 2),
        "ratio_whole": round(speed["stage"][0] / speed["whole"][0], 2),
        "same_texts": int(
            np.sum([one == other for one, other in zip(texts["stage"], texts["whole"], strict=True)])
        ),
        "distinct_texts": len(set(texts["stage"])),
        "start_up_processor_s": start_up(model, arguments.device),
        "load_average": round(os.getloadavg()[0], 1),
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['recordings']} recordings, {found['audio_s']} s, {found['tokens']} tokens a window, 1 thread"
    )
    print("| | audio seconds per processor second | start-up, processor seconds |")
    print("|---|--:|--:|")
    speed, start = found["audio_s_per_processor_s"], found["start_up_processor_s"]
    print(f"| WhisperX, file by file | {speed['as_it_is']} | {start['whisperx']} |")
    print(f"| the same without its voice activity detection | {speed['whole']} | |")
    print(f"| stage, batches of {found['batch_size']} | {speed['stage']} | {start['stage']} |")
    print(f"same texts: {found['same_texts']} of {found['recordings']}, {found['distinct_texts']} distinct")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=32, help="tokens a window")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-transcribe-") as folder:
        found = measure(arguments, Path(folder))
    show(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
