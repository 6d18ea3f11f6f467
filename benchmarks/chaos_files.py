"""Scenarios: recordings that are damaged, strange, or end the process that decodes them."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mutated_files
from chaos_bench import Bench, Outcome, plain_rows, said
from chaos_jobs import REPOSITORY, is_sound

FAULTS = Path(__file__).parent / "chaos_faults"


def decoder(bench: Bench) -> Outcome:
    """Files that crash the decoder's process, hang it, or make it take memory without end."""
    import numpy as np
    from chaos_faults import sitecustomize

    corpus = bench.corpus(bench.arguments.small)
    expected, _ = bench.reference(corpus)
    folder, log = bench.scratch / "faulty", bench.scratch / "faults.log"
    shutil.copytree(corpus, folder)
    for fault in sitecustomize.FAULTS:
        marked = (folder / "00000.wav").read_bytes()
        head = marked.index(b"data") + 8
        spelled = np.frombuffer(fault.encode().ljust(16), np.uint8).tobytes()
        (folder / f"{fault[6:]}.wav").write_bytes(marked[:head] + spelled + marked[head + len(spelled) :])
        (folder / f"{fault[6:]}.txt").write_text("a fault")
    paths = os.pathsep.join((str(FAULTS), str(REPOSITORY)))
    bounds = ("--set", "resources.decode_timeout_s=10", "--set", "resources.decode_memory_bytes=1000000000")
    output = bench.output()
    words = (str(folder), str(output), "--workers", "2", *bounds, *bench.codec)
    ended = bench.job(*words, own_ray=True, PYTHONPATH=paths, SPEECHMILL_CHAOS_FAULTS=str(log)).finish()
    reasons = {name: f"{row['reason']}: {row['detail']}" for name, row in plain_rows(output).items()}
    faulty = {f"{fault[6:]}.wav": reasons.get(f"{fault[6:]}.wav", "lost") for fault in sitecustomize.FAULTS}
    attempts = Counter(log.read_text().split()) if log.exists() else Counter()
    neighbours = {name: reason for name, reason in reasons.items() if name not in faulty}
    kept = sum(reason == "None: None" for reason in neighbours.values())
    ok = (
        ended.code == 0
        and neighbours.keys() == expected.keys()
        and kept == len(expected) - 1  # the empty file is not one
        and all(reason.startswith("decoder_crashed") for reason in faulty.values())
        and set(attempts.values()) == {2}
        and len(attempts) == 3
    )
    return Outcome(
        f"3 files decoder_crashed after 2 attempts each, {len(expected) - 1} neighbours accepted",
        f"exit {ended.code}, {'; '.join(faulty.values())}; attempts {sorted(attempts.values())}, {kept} accepted",
        ok,
        {"rejected": faulty, "attempts": dict(attempts), "wall_s": round(ended.wall_s, 1)},
    )


_STAGE: Any = None


def _start_stage() -> None:
    global _STAGE
    from pipelines.audio.decode import Limits
    from pipelines.audio.isolated_decoder import DecodeSettings
    from pipelines.stages.decode import DecodeStage

    _STAGE = DecodeStage(DecodeSettings(16_000, Limits(0.05)), timeout_s=30.0)


def _decode(recordings: Sequence[Any]) -> list[tuple[str, str | None, str | None, str | None]]:
    """(id, reason, detail, digest of the samples) of each."""
    import hashlib

    from pipelines.rows import waves
    from pipelines.sources.interface import to_table

    table = _STAGE(to_table(recordings))
    digests = [None if wave is None else hashlib.sha256(wave.tobytes()).hexdigest() for wave in waves(table)]
    columns = (table[name].to_pylist() for name in ("recording_id", "reason", "detail"))
    return list(zip(*columns, digests, strict=True))


def mutations(bench: Bench) -> Outcome:
    """Damaged files through the decoding stage, in two processes; every tenth file is a sound one among them."""
    from pipelines.sources.open import open_source

    count, started = bench.arguments.mutations, time.monotonic()
    originals = seeds(bench)
    folder = bench.scratch / "mutated"
    mutated_files.write_mutated(originals, count, bench.arguments.seed, folder)
    for index in range(count // 10):
        source = originals[index % len(originals)]
        shutil.copy(source, folder / f"{10 * index:05d}-sound-{index % len(originals)}{source.suffix}")
    offered = list(open_source(str(folder)).recordings())
    batches = [offered[at : at + 50] for at in range(0, len(offered), 50)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_start_stage) as pool:
        rows = [row for part in pool.map(_decode, batches) for row in part]
    reasons = Counter(reason or "accepted" for _, reason, _, _ in rows)
    outcomes: dict[str, set[Any]] = {}
    for name, reason, _, digest in rows:
        if "-sound-" in name:
            outcomes.setdefault(name.split("-sound-")[1], set()).add((reason, digest))
    torn = sum(len(found) > 1 for found in outcomes.values())
    crashed = [f"{name}: {detail}" for name, reason, detail, _ in rows if reason == "decoder_crashed"]
    same = [name for name, *_ in rows] == [one.recording_id for one in offered]
    return Outcome(
        f"{len(offered)} rows in order, no worker lost, sound files always the same",
        f"{len(rows)} rows{'' if same else ' not as offered'}, {torn} sound files changed, "
        f"{len(crashed)} killed their decoder",
        same and not torn,
        {
            "seeds": len(originals),
            "reasons": dict(reasons.most_common()),
            "crashed": crashed[:10],
            "wall_s": round(time.monotonic() - started, 1),
        },
    )


def seeds(bench: Bench) -> list[Path]:
    """Recordings to damage: those given, or a sentence in the formats that libsndfile writes."""
    if bench.arguments.recordings:
        return mutated_files.seeds(bench.arguments.recordings)
    import soundfile

    folder = bench.scratch / "formats"
    folder.mkdir(exist_ok=True)
    samples, rate = soundfile.read(bench.corpus(bench.arguments.small) / "00000.wav")
    for name in ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"):
        soundfile.write(folder / f"sentence.{name}", samples, rate)
    return mutated_files.seeds([folder])


def awkward(bench: Bench) -> Outcome:
    """A few hundred damaged files and every recording given, through the whole job."""
    folder, output = bench.scratch / "awkward", bench.output()
    mutated_files.write_mutated(seeds(bench), 300, bench.arguments.seed + 1, folder)
    for given in bench.arguments.recordings:
        shutil.copytree(given, folder / given.name)
    offered = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".txt", ".md")
    }
    settings = (
        "--set",
        "text.missing=allow",
        "--set",
        "codec.name=pcm-16khz",
        "--set",
        "source.duplicates=keep",
    )
    ended = bench.job(str(folder), str(output), "--workers", "2", *settings).finish()
    rows = plain_rows(output) if output.exists() else {}
    reasons = Counter(row["reason"] or "accepted" for row in rows.values())
    return Outcome(
        f"exit 0, {len(offered)} recordings accounted for",
        f"exit {ended.code}, {len(rows)} rows, {len(offered ^ rows.keys())} amiss",
        ended.code == 0 and rows.keys() == offered and is_sound(output),
        {"reasons": dict(reasons.most_common()), "said": said(ended) if ended.code else ""},
    )
