"""Baselines of `prepare`, each a program of its own: decode, resample, encode with the same codec.

    python benchmarks/prepare_baselines.py {bare,datasets,datasets-tuned,ray,ray-tuned} FOLDER CODEC WORKERS OUTPUT

Every worker notes when it has finished a recording. The last line of standard output is a JSON object: `steady`, audio
seconds per second from when every worker had finished one to the end of the job (writing included), and `total`, from
the first line on.

- bare: a multiprocessing pool over the files, which keeps nothing.
- datasets: `datasets.Dataset.map(num_proc=WORKERS)`, which writes its Arrow cache. As a first script has it, with
  torch's own number of threads in every process.
- datasets-tuned: the same with one thread a process.
- ray: a straightforward Ray Data script: read_audio, map_batches, write_parquet. A batch is padded to its longest
  recording and encoded in one call. Actors have a CPU each, up to WORKERS of them as far as Ray finds room: a fixed
  number, equal to that of the CPUs, would leave none for reading, and the script would wait for ever.
- ray-tuned: half a CPU an actor, so that all of them run, and one recording a call.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
NOTES = "BENCH_NOTES"


class Encoder:
    """The codec of one worker process, and its notes."""

    def __init__(self, codec: str) -> None:
        from models.codec_sources import load_codec

        self.codec = load_codec(codec)
        self.notes = Path(os.environ[NOTES]) / f"{os.getpid()}.txt"

    def __call__(self, samples: Any) -> Any:
        """Codes (n_codebooks, T) int16 of a mono wave (T,) float32 at the codec's rate."""
        return self.batch([samples])[0]

    def batch(self, waves: list[Any]) -> list[Any]:
        """The same of several waves, in one call of the codec."""
        import torch

        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
        with torch.inference_mode():
            codes = self.codec.encode(padded, lengths)
        with self.notes.open("a") as file:
            file.write(f"{time.time()} {int(lengths.sum()) / self.codec.sample_rate}\n")
        return [
            one[:, :frames].numpy().astype("int16")
            for one, frames in zip(codes.codes_BQT, codes.lengths_B.tolist(), strict=True)
        ]


_ENCODER: Encoder | None = None


def encoder(codec: str) -> Encoder:
    global _ENCODER
    if _ENCODER is None:
        _ENCODER = Encoder(codec)
    return _ENCODER


def encode_file(job: tuple[str, str]) -> int:
    from pipelines.audio.decode import decode

    path, codec = job
    one = encoder(codec)
    return int(one(decode(Path(path), one.codec.sample_rate).samples).shape[1])


def bare(folder: Path, codec: str, workers: int, _output: Path) -> None:
    jobs = [(str(path), codec) for path in sorted(folder.glob("*.wav"))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(encode_file, jobs, chunksize=1):
            pass


def read(path: str, sample_rate: int) -> Any:
    """soundfile and soxr, as a user would."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, sample_rate)


def map_row(row: dict[str, Any], codec: str) -> dict[str, Any]:
    one = encoder(codec)
    codes = one(read(row["path"], one.codec.sample_rate))
    return {"codes": codes, "target_length": codes.shape[1]}


def with_datasets(folder: Path, codec: str, workers: int, output: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    paths = sorted(map(str, folder.glob("*.wav")))
    texts = [Path(path).with_suffix(".txt").read_text() for path in paths]
    rows = datasets.Dataset.from_dict({"path": paths, "text": texts})
    rows.map(
        map_row,
        fn_kwargs={"codec": codec},
        num_proc=workers,
        cache_file_name=str(output / "cache.arrow"),
    )


class RayEncoder:
    def __init__(self, codec: str, padded: bool) -> None:
        self.one, self.padded = Encoder(codec), padded

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import soxr

        waves = [
            soxr.resample(wave.mean(axis=0), rate, self.one.codec.sample_rate)
            for wave, rate in zip(batch["amplitude"], batch["sample_rate"], strict=True)
        ]
        codes = self.one.batch(waves) if self.padded else [self.one(wave) for wave in waves]
        return {
            "codes": [one.tolist() for one in codes],
            "target_length": [one.shape[1] for one in codes],
        }


def with_ray(folder: Path, codec: str, workers: int, output: Path, tuned: bool = False) -> None:
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    rows = ray.data.read_audio(str(folder), file_extensions=["wav"])
    pool = ray.data.ActorPoolStrategy(min_size=workers if tuned else 1, max_size=workers)
    encoded = rows.map_batches(
        RayEncoder,
        fn_constructor_args=(codec, not tuned),
        batch_size=8,
        compute=pool,
        num_cpus=0.5 if tuned else 1,
    )
    encoded.write_parquet(str(output / "parquet"))


KINDS: dict[str, Callable[[Path, str, int, Path], None]] = {
    "bare": bare,
    "datasets": with_datasets,
    "datasets-tuned": with_datasets,
    "ray": with_ray,
    "ray-tuned": partial(with_ray, tuned=True),
}


def rates(notes: Path, started: float, done: float) -> dict[str, float]:
    """Audio seconds per second, from the notes of all workers that did anything."""
    lines = [
        [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
        for path in notes.iterdir()
    ]
    ready = max(first[0][0] for first in lines)
    seconds = sum(seconds for worker in lines for _, seconds in worker)
    steady = sum(seconds for worker in lines for when, seconds in worker if when > ready)
    return {
        "steady": steady / (done - ready),
        "total": seconds / (done - started),
        "audio_s": seconds,
        "busy": len(lines),
    }


def main() -> None:
    kind, folder, codec, workers, output = sys.argv[1:]
    started = time.time()
    notes = Path(output) / "notes"
    notes.mkdir(parents=True)
    os.environ[NOTES] = str(notes)
    KINDS[kind](Path(folder), codec, int(workers), Path(output))
    print(json.dumps(rates(notes, started, time.time())))


if __name__ == "__main__":
    main()
