"""One recording of three hours through decode, segmentation and codec: memory of worker and decoder, speed of each.

    python -m benchmarks.bench_long_recording [SPEECH] [--hours 3] [--format mp3|flac] [--mode vad|none]

The recording is 44.1 kHz stereo: the recordings in SPEECH (a folder; espeak-ng's voice without it), noise and pauses
of 0.2 to 3 s between them, repeated. A worker process of its own runs the stages of `prepare` on it, with one thread,
while this one reads /proc every 0.1 s. `peak_mib` is the most that both processes held together at one time: their
proportional set sizes, and what shared memory neither has mapped. `sum_of_peaks_mib` adds the highest resident set of
each, which counts shared pages twice. Rates are seconds of audio per second of processor time of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

RATE, CODEC = 44_100, "mill-16khz"
RESULTS = Path(__file__).parent / "results" / "long_recording.json"
LIMIT_MIB = 3 * 1024
BLOCK_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", nargs="?", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--format", choices=("mp3", "flac"), default="mp3")
    parser.add_argument(
        "--mode", choices=("vad", "none"), default="vad", help="none: the codec gets it whole"
    )
    parser.add_argument("--work", metavar="FILE", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.mode)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"long.{arguments.format}"
        write(path, block(arguments.speech), round(arguments.hours * 3600 / BLOCK_S))
        result: dict[str, Any] = {"format": arguments.format, "mode": arguments.mode, "codec": CODEC}
        result |= {"file_mib": round(path.stat().st_size / 2**20, 1)} | measured(path, arguments.mode)
    result["within_3_gib"] = result["sum_of_peaks_mib"] <= LIMIT_MIB
    for stage, values in result["stages"].items():
        print(f"{stage:10} {values['wall_s']:8.1f} s  {values['audio_per_cpu_s']:8.1f} audio s per CPU s")
    print(
        f"peak {result['peak_mib']} MiB, sum of peaks {result['sum_of_peaks_mib']} MiB ({result['peaks_mib']})"
    )
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[f"{arguments.format}, {arguments.mode}"] = result
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def block(speech: Path | None) -> np.ndarray:
    """Ten minutes of stereo (2, n), int16."""
    random = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    left = BLOCK_S * RATE
    clips = spoken(speech)
    while left > 0:
        pause = np.zeros(round(random.uniform(0.2, 3.0) * RATE), np.float32)
        parts += [next(clips), pause]
        left -= len(parts[-2]) + len(parts[-1])
    mono = np.concatenate(parts)[: BLOCK_S * RATE]
    stereo = np.stack([mono, 0.8 * mono]) + random.normal(0, 3e-4, (2, len(mono)))
    return (stereo.clip(-1, 1) * 32767).astype(np.int16)


def spoken(speech: Path | None) -> Iterator[np.ndarray]:
    """Recordings at 44.1 kHz, again and again."""
    from pipelines.audio.containers import AudioError
    from pipelines.audio.decode import decode, resample
    from pipelines.demo.corpus import DIGITS, Voice, synthesize_espeak

    while True:
        for path in sorted(speech.rglob("*")) if speech else []:
            with suppress(AudioError, IsADirectoryError):
                yield decode(path, RATE).samples
        for number in range(0 if speech else 50):
            text = " ".join(DIGITS[(number * step) % 10] for step in (1, 3, 7, 9, 2, 4))
            pcm, rate = synthesize_espeak(text, Voice("en-us"))
            yield resample(np.frombuffer(pcm, np.int16).astype(np.float32) / 32768, rate, RATE)


def write(path: Path, samples: np.ndarray, times: int) -> None:
    """The block again and again; MP3 is encoded once, as its frames can be repeated."""
    import av
    import soundfile

    if path.suffix == ".flac":
        with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as sound:
            for _ in range(times):
                sound.write(samples.T)
        return
    encoder = av.CodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = RATE, "stereo", "s16p", 128_000
    size = 1152
    frames = []
    for start in range(0, samples.shape[1] // size * size, size):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[:, start : start + size]), format="s16p", layout="stereo"
        )
        frame.sample_rate, frame.pts = RATE, start
        frames += [bytes(packet) for packet in encoder.encode(frame)]
    frames += [bytes(packet) for packet in encoder.encode(None)]
    with path.open("wb") as file:
        for _ in range(times):
            file.writelines(frames)


def work(path: Path, mode: str) -> dict[str, Any]:
    """The work of one `prepare` worker on one recording; runs in a process of its own."""
    import time

    from models.codec_sources import load_codec
    from pipelines.audio.decode import Limits
    from pipelines.audio.isolated_decoder import DecodeSettings
    from pipelines.sources.interface import Recording, to_table
    from pipelines.stages.codec import CodecStage
    from pipelines.stages.decode import DecodeStage
    from pipelines.stages.segment import SegmentSettings, SegmentStage

    rate = load_codec(CODEC).sample_rate
    decoding = DecodeStage(DecodeSettings(rate, Limits()))
    segment = SegmentStage(SegmentSettings(mode=mode), rate, transcribing=False)  # type: ignore[arg-type]
    stages: dict[str, Callable[[Any], Any]] = {
        "decode": decoding,
        "segment": segment,
        "codec": CodecStage(CODEC),
    }
    child = decoding._decoder._child
    assert child is not None
    print(child.pid, flush=True)
    table = to_table([Recording("long", path.as_uri(), path.stat().st_size)])
    found: dict[str, Any] = {}
    seconds = 0.0
    for name, stage in stages.items():
        wall, cpu = time.monotonic(), time.process_time() + processor_s(child.pid)
        table = stage(table)
        seconds = seconds or table["duration_s"][0].as_py()
        used = time.process_time() + processor_s(child.pid) - cpu
        found[name] = {
            "wall_s": round(time.monotonic() - wall, 1),
            "audio_per_cpu_s": round(seconds / max(used, 1e-3), 1),
        }
    accepted = [row for row in table.select(["reason", "duration_s"]).to_pylist() if row["reason"] is None]
    return {
        "audio_s": round(seconds, 1),
        "utterances": len(accepted),
        "rejected": len(table) - len(accepted),
        "accepted_s": round(sum(row["duration_s"] for row in accepted), 1),
        "stages": found,
    }


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(path: Path, mode: str) -> dict[str, Any]:
    """Run `work` and watch it."""
    command = [sys.executable, "-m", "benchmarks.bench_long_recording", "--work", str(path), "--mode", mode]
    worker = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    peaks = {"together": 0.0, "worker": 0.0, "decoder": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            with suppress(OSError, ValueError):
                pids = {"worker": worker.pid, "decoder": child}
                sizes = {name: memory(pid) for name, pid in pids.items()}
                unmapped = max(0, shared(child) - sum(one["Pss_Shmem"] for one in sizes.values()))
                now = {name: one["Rss"] for name, one in sizes.items()}
                now["together"] = sum(one["Pss"] for one in sizes.values()) + unmapped
                peaks.update({name: max(peaks[name], value) for name, value in now.items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    result: dict[str, Any] = json.loads(worker.stdout.read().splitlines()[-1])
    done.set()
    watcher.join()
    if worker.wait():
        raise SystemExit(f"the worker ended with code {worker.returncode}")
    both = {name: round(peaks[name] / 2**20) for name in ("worker", "decoder")}
    total = {"peak_mib": round(peaks["together"] / 2**20), "sum_of_peaks_mib": sum(both.values())}
    return result | total | {"peaks_mib": both}


def memory(pid: int) -> dict[str, int]:
    """Bytes by the names of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    return {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}


def shared(pid: int) -> int:
    """Bytes of the memory files that a process has open."""
    total = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).startswith("/memfd:samples"):
                total += descriptor.stat().st_blocks * 512
    return total


if __name__ == "__main__":
    main()
