"""Recordings -> vectors, in batches on Ray Data: a tree of `.npy` beside that of the recordings, or a dataset's column.

A file of vectors is there whole or not at all, so a rerun does what is left, however the last run ended. The flags and
the tree are those of raoabinav/versaface_autoencoder's extractor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from catalog.columns import declare
from catalog.command import JobError, UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import Settings, load_config, to_yaml
from catalog.datasets import Dataset
from catalog.outward import say
from catalog.runs import marked_run
from models.semantic.source import EmbedderSource
from pipelines.execution import cluster
from pipelines.execution.cluster import Claim
from pipelines.execution.columns import files_to_fill, fill_columns
from pipelines.execution.embedding_tree import Tree
from pipelines.execution.ray_stream import Stage, Step, stream
from pipelines.prepare.settings import AudioSettings
from pipelines.sources.uris import located
from pipelines.stages.embed import EmbedStage
from pipelines.stages.stored_tokens import StoredTokensStage
from pipelines.stages.vectors import Vectors

name = "embed"
help = "recordings -> vectors: a tree of .npy, or a column of a dataset"


class EmbedSettings(Settings):
    """Settings of the job."""

    embedder: EmbedderSource = EmbedderSource()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(default=0, ge=0, description="0: one a CPU or GPU")
    threads: int = Field(default=1, ge=1, description="threads, and CPUs, of a worker on the CPU")
    batch_s: float = Field(
        default=0.0,
        ge=0,
        description="padded seconds in one call of the network; 0: 30 on a CPU, 240 on a GPU",
    )
    batch_size: int = Field(default=100, ge=1, description="files that travel together at most")
    max_batch_bytes: int = Field(default=16 << 20, ge=1, description="source bytes that travel together")
    max_files: int | None = Field(
        default=None, ge=1, description="only the first so many, in the order of names"
    )
    part: str = Field(default="", description="only this folder of the recordings")
    max_duration_s: float = Field(
        default=4 * 3600.0, gt=0, description="longer recordings are refused undecoded"
    )
    decode_timeout_s: float = Field(default=600.0, gt=0)
    decode_memory_bytes: int = Field(default=3 << 30, gt=0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument(
        "--audio-dir", metavar="DIR", type=Path, help="recordings, searched through all sub-folders"
    )
    parser.add_argument(
        "--embedding-dir", metavar="DIR", type=local, help="gets the same tree, of .npy files"
    )
    parser.add_argument("--json-dir", metavar="DIR", type=local, help="gets success_total_audio.json")
    parser.add_argument("--dataset", metavar="DATASET", help="fill its column `latents` instead")
    parser.add_argument(
        "--kind",
        choices=("latents", "w2v-bert", "hubert", "whisper", "codec", "speaker"),
        help="embedder.kind",
    )
    parser.add_argument("--model", help="embedder.model")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--batch-size", type=int, help="files that travel together at most")
    parser.add_argument("--max-files", type=int, help="only the first so many, in the order of names")
    parser.add_argument("--part", help="only this folder of the recordings")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Embed; returns the JSON line."""
    folders = {key: getattr(arguments, key) for key in ("audio_dir", "embedding_dir", "json_dir")}
    missing = [key for key, folder in folders.items() if folder is None]
    if arguments.dataset is not None and len(missing) < len(folders):
        raise UsageError("--dataset fills a column; give it, or --audio-dir, --embedding-dir and --json-dir")
    if arguments.dataset is None and missing:
        raise UsageError(f"--{missing[0].replace('_', '-')} is missing; give it, or --dataset")
    settings = _settings(arguments)
    require_absolute_under_ray_job(dataset=arguments.dataset, **folders)
    if arguments.dry_run:
        sys.stdout.write(to_yaml(settings))
        return None
    if arguments.dataset is not None:
        return embed_dataset(arguments.dataset, settings)
    return embed_tree(arguments.audio_dir, arguments.embedding_dir, arguments.json_dir, settings)


def _settings(arguments: argparse.Namespace) -> EmbedSettings:
    device = arguments.device
    given = {
        "embedder.kind": arguments.kind,
        "embedder.model": arguments.model,
        "device": "cuda" if device is not None and device.startswith("cuda:") else device,
        "batch_size": arguments.batch_size,
        "max_files": arguments.max_files,
        "part": arguments.part,
    }
    shortcuts = [f"{key}={value}" for key, value in given.items() if value is not None]
    return load_config(EmbedSettings, arguments.config, [*arguments.overrides, *shortcuts])


def embed_tree(audio: Path, embeddings: Path, records: Path, settings: EmbedSettings) -> dict[str, object]:
    """Embed every file below `audio` that has no vectors yet; returns the JSON line. Raises UsageError, JobError."""
    started = time.monotonic()
    tree = Tree.read(audio, embeddings, records, settings.part, settings.max_files)
    maker = Vectors(settings.embedder).identity
    tree.claim(maker)
    if tree.changed:
        say(f"{tree.changed} recordings have changed since they were embedded; embedded again")
    if tree.todo:
        with cluster.session():
            claim, on_gpu = _claim(settings)
            batch_s = settings.batch_s or (240.0 if on_gpu else 30.0)
            embedding = {
                **_place(settings, on_gpu),
                "batch_s": batch_s,
                "max_duration_s": settings.max_duration_s,
            }
            step = Step(claim, (Stage(EmbedStage, {**embedding, **_bounds(settings)}),))
            batches = partial(tree.batches, settings.batch_size, settings.max_batch_bytes)
            with closing(stream(batches, [step])) as results, tree.recording() as record:
                seen = set()
                for index, _, table in results:
                    if index not in seen:  # what Ray made again, as after the loss of a node
                        record(table)
                    seen.add(index)
    else:
        tree.save()
    wall_s = time.monotonic() - started
    return {
        "output": str(embeddings),
        "embedder": maker.source,
        "files": tree.files,
        "new_files": tree.new,
        "rejected": tree.rejected,
        "audio_s": round(tree.seconds, 3),
        "wall_s": round(wall_s, 3),
        "real_time_factor": round(wall_s / tree.seconds, 4) if tree.seconds else None,
    }


def embed_dataset(uri: str, settings: EmbedSettings) -> dict[str, object]:
    """Fill `latents` of a dataset that `prepare` made, file by file; returns the JSON line. Raises JobError."""
    started = time.monotonic()
    dataset, columns = Dataset.open(uri), Vectors(settings.embedder).columns
    recorded = dataset.settings.get("audio")
    if not isinstance(recorded, dict):
        raise JobError(
            f"{uri}: does not say how its recordings were decoded, so it was not prepared from recordings"
        )
    dataset = declare(dataset, "latents", columns["latents"])
    filled = 0
    if files_to_fill(dataset, columns):
        with cluster.session(), marked_run(dataset) as run_id:
            claim, on_gpu = _claim(settings)
            augment = dataset.settings.get("augment")
            arguments = {
                **_bounds(settings),
                "dataset_uri": dataset.uri,
                "make": Vectors,
                "arguments": _place(settings, on_gpu),
                "decoding": AudioSettings.model_validate(recorded).decoding(dataset.codec.sample_rate),
                "noise_std": augment["noise_std"] if isinstance(augment, dict) else 0.0,
            }
            step = Step(claim, (Stage(StoredTokensStage, arguments),))
            filled = fill_columns(dataset.uri, columns, step, run_id, _say)
    return {
        "dataset": dataset.uri,
        "version": Dataset.open(uri).version,
        "embedder": columns["latents"].source,
        "rewritten_files": filled,
        "wall_s": round(time.monotonic() - started, 3),
    }


def _place(settings: EmbedSettings, on_gpu: bool) -> dict[str, object]:
    device = "cuda" if on_gpu else "cpu"
    return {"source": settings.embedder.mapped(located), "device": device, "threads": settings.threads}


def _bounds(settings: EmbedSettings) -> dict[str, object]:
    return {"timeout_s": settings.decode_timeout_s, "memory_limit_bytes": settings.decode_memory_bytes}


def _claim(settings: EmbedSettings) -> tuple[Claim, bool]:
    """The workers, and whether each has a GPU. UsageError or JobError where there is no room for them."""
    nodes: Sequence[Mapping[str, float]] = cluster.nodes()
    gpus = sum(int(node["GPU"]) for node in nodes)
    if settings.device == "cuda" and not gpus:
        raise UsageError("device = 'cuda': no node of the cluster has a GPU; use cpu or auto")
    on_gpu = settings.device != "cpu" and gpus > 0
    most = gpus if on_gpu else sum(int(node["CPU"]) // settings.threads for node in nodes)
    claim = Claim("embed", settings.workers or max(1, most), float(settings.threads), float(on_gpu))
    cluster.check_claims([claim], nodes)
    return claim, on_gpu


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
