"""`prepare` under attack: killed at random points, out of disk, fed with damaged files; every row accounted for.

Each scenario compares what should be there with what is, row by row and codes byte by byte, and prints a line; the
last line is JSON. Needs Linux; the full disk needs the right to mount a small tmpfs.

    python benchmarks/chaos_prepare.py [--only kill,workers] [--kills 20] [--mutations 5000] [--recordings FOLDER ...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent)]

import chaos_jobs  # noqa: E402 - found through the line above
import mutated_files  # noqa: E402
from chaos_jobs import Ended, Job, Rows, compare, is_sound, rows_of  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "chaos.json"
FAULTS = Path(__file__).parent / "chaos_faults"
WORDS = "the sun sets over a quiet harbour while seven small boats return with silver fish".split()  # noqa: SIM905
SMALL_BATCHES = ("--set", "resources.max_batch_bytes=1")


@dataclass(frozen=True)
class Outcome:
    """What a scenario should have left, and what it left."""

    expected: str
    found: str
    ok: bool
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """What the scenarios share: a folder to work in, a corpus and how it looks when nothing goes wrong."""

    scratch: Path
    arguments: argparse.Namespace
    open: ExitStack

    def __post_init__(self) -> None:
        self.draw = random.Random(self.arguments.seed)
        self._corpora: dict[int, Path] = {}
        self._references: dict[tuple[Path, str], tuple[Rows, float]] = {}

    @cached_property
    def address(self) -> str:
        """Of a Ray that stays up, for jobs whose Ray is not attacked."""
        address: str = self.open.enter_context(chaos_jobs.cluster(self.scratch, 4)).address
        return address

    @property
    def codec(self) -> tuple[str, str]:
        return ("--set", f"codec.name={self.arguments.codec}")

    def corpus(self, count: int) -> Path:
        """`count` sentences of 2 to 5 s in several voices with transcripts, and an empty file."""
        if count not in self._corpora:
            folder = self.scratch / f"corpus{count}"
            make_corpus(folder, count)
            self._corpora[count] = folder
        return self._corpora[count]

    def reference(self, corpus: Path, codec: str = "") -> tuple[Rows, float]:
        """The rows of an undisturbed run, and its seconds."""
        key = (corpus, codec or self.arguments.codec)
        if key not in self._references:
            output = self.output()
            words = [str(corpus), str(output), "--workers", "2", "--set", f"codec.name={key[1]}"]
            ended = self.job(*words).finish()
            if ended.code:
                raise RuntimeError(f"the undisturbed run failed: {ended.said}")
            self._references[key] = (rows_of(output)[0], ended.wall_s)
        return self._references[key]

    def output(self) -> Path:
        """A new place for a dataset."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / "data"

    def job(self, *words: str, own_ray: bool = False, **environment: str) -> Job:
        """Start `prepare`."""
        return Job(self.scratch, words, address="" if own_ray else self.address, environment=environment)


def make_corpus(folder: Path, count: int) -> None:
    from pipelines.corpus import Voice, speak

    folder.mkdir()
    draw = random.Random(0)
    voices = [Voice(name, speed) for name in ("en-us", "en-us+f2", "en-gb-scotland") for speed in (130, 160)]
    (folder / "empty.wav").write_bytes(b"")
    for index in range(count - 1):
        text = " ".join(draw.choices(WORDS, k=draw.randint(4, 11)))
        speak(text, draw.choice(voices), folder / f"{index:05d}.wav")
        (folder / f"{index:05d}.txt").write_text(text)


def said(ended: Ended) -> str:
    """The last line of a job that failed, for the table."""
    return (ended.said.splitlines() or ["nothing"])[-1][:160]


def kill(bench: Bench) -> Outcome:
    """kill -9 of the driver, its Ray, workers and decoders at random points, resumed each time."""
    kills, corpus = bench.arguments.kills, bench.corpus(bench.arguments.size)
    expected, wall_s = bench.reference(corpus)
    output, words = bench.output(), ("--workers", "2", *SMALL_BATCHES, *bench.codec)
    done, finished, bad, killed, where = 0, 0, [], 0, Counter[str]()
    while True:
        job = bench.job(str(corpus), str(output), *words, own_ray=True)
        if done == kills:
            ended = job.finish()
            last = compare(output, expected)
            sound = not ended.code and is_sound(output)
            break
        early = done % 4 == 3
        if early:  # while Ray starts, the codec loads, or the source is looked through
            time.sleep(bench.draw.uniform(0, 15.0))
        else:  # while batches are made and committed; a commit is due every five seconds
            versions = len(list((output / "_delta_log").glob("*.json"))) if output.exists() else 1
            job.wait_for_commit(output, versions)
            time.sleep(bench.draw.uniform(0, 3 * wall_s / kills))
        if job.process.poll() is not None:
            finished += 1
            ended = job.finish()
            if ended.code or not compare(output, expected).is_exact:
                bad.append(f"run {finished} ended: {compare(output, expected)}: {said(ended)}")
            output = bench.output()
            continue
        killed += job.kill()
        done += 1
        left = compare(output, expected)
        where["before work" if early else "at work"] += 1
        if not left.is_partial:
            bad.append(f"after kill {done}: {left}")
        sys.stderr.write(f"kill {done} of {kills}: {left}\n")
    return Outcome(
        f"{len(expected)} rows, none missing, extra, twice or different, after each of {kills} kills and at the end",
        f"{last}; {len(bad)} bad states; {killed} processes killed; verify {'finds nothing' if sound else 'complains'}",
        not bad and last.is_exact and sound,
        {
            "kills": done,
            "where": dict(where),
            "processes": killed,
            "runs_that_finished": finished + 1,
            "bad": bad[:5],
        },
    )


def workers(bench: Bench) -> Outcome:
    """kill -9 of single workers while the job goes on."""
    corpus = bench.corpus(bench.arguments.size)
    expected, wall_s = bench.reference(corpus)
    output = bench.output()
    job = bench.job(str(corpus), str(output), "--workers", "2", *SMALL_BATCHES, *bench.codec, own_ray=True)
    job.wait_for_commit(output)
    killed = 0
    while killed < 5 and job.process.poll() is None:
        found = chaos_jobs.workers(job.mark)
        if found:
            os.kill(bench.draw.choice(found), 9)
            killed += 1
        time.sleep(bench.draw.uniform(1, 1 + wall_s / 6))
    ended = job.finish()
    left = compare(output, expected)
    return Outcome(
        f"exit 0, {len(expected)} rows, exact, after 5 workers were killed",
        f"exit {ended.code}, {left}, {killed} killed" + (f"; {said(ended)}" if ended.code else ""),
        ended.code == 0 and left.is_exact and is_sound(output) and killed == 5,
        {"killed": killed, "wall_s": round(ended.wall_s, 1), "undisturbed_s": round(wall_s, 1)},
    )


def node(bench: Bench) -> Outcome:
    """kill -9 of the raylet of one of two nodes while the job runs on both."""
    corpus = bench.corpus(bench.arguments.size)
    expected, wall_s = bench.reference(corpus)
    output = bench.output()
    with chaos_jobs.cluster(bench.scratch, 1, 1) as two:
        words = (str(corpus), str(output), "--workers", "2", *SMALL_BATCHES, *bench.codec)
        job = Job(bench.scratch, words, address=two.address)
        job.wait_for_commit(output)
        time.sleep(bench.draw.uniform(2, 2 + wall_s / 6))
        running = job.process.poll() is None
        second = next(iter(two.worker_nodes))
        os.kill(second.all_processes["raylet"][0].process.pid, 9)
        ended = job.finish()
    left = compare(output, expected)
    return Outcome(
        f"exit 0, {len(expected)} rows, exact, after one of two nodes was lost",
        f"exit {ended.code}, {left}" + (f"; {said(ended)}" if ended.code else ""),
        running and ended.code == 0 and left.is_exact and is_sound(output),
        {"wall_s": round(ended.wall_s, 1), "undisturbed_s": round(wall_s, 1)},
    )


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
    output, timeout = bench.output(), ("--set", "resources.decode_timeout_s=10")
    words = (str(folder), str(output), "--workers", "2", *timeout, *bench.codec)
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


def plain_rows(output: Path) -> dict[str, dict[str, Any]]:
    """Rows by id, without codes."""
    import pyarrow.parquet as pq

    from catalog.datasets import Dataset

    columns = ["id", "reason", "detail", "source_digest", "recording_id"]
    tables = [pq.ParquetFile(uri).read(columns) for uri in Dataset.open(output).file_uris()]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


_STAGE: Any = None


def _start_stage() -> None:
    global _STAGE
    from pipelines.audio import Limits
    from pipelines.stages.decode import DecodeStage
    from pipelines.stages.decoder import DecodeSettings

    _STAGE = DecodeStage(DecodeSettings(16_000, Limits(0.05)), timeout_s=30.0)


def _decode(recordings: Sequence[Any]) -> list[tuple[str, str | None, str | None, str | None]]:
    """(id, reason, detail, digest of the samples) of each."""
    import hashlib

    from pipelines.sources.interface import to_table
    from pipelines.utterances import waves

    table = _STAGE(to_table(recordings))
    digests = [None if wave is None else hashlib.sha256(wave.tobytes()).hexdigest() for wave in waves(table)]
    columns = (table[name].to_pylist() for name in ("recording_id", "reason", "detail"))
    return list(zip(*columns, digests, strict=True))


def mutations(bench: Bench) -> Outcome:
    """Damaged files through the decoding stage, in two processes; every tenth file is a sound one among them."""
    from pipelines.sources import open_source

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


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Callable[[int], None]]:
    """A tmpfs at `folder`; yields what gives it another size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={size_kib}k", "tmpfs", str(folder)], check=True)
    try:
        yield lambda kib: subprocess.run([*mount, f"remount,size={kib}k", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disk(bench: Bench) -> Outcome:
    """The disk is full in mid-shard, and in mid-commit; then it has room, and the job is run again."""
    corpus = bench.corpus(bench.arguments.small)
    expected, _ = bench.reference(corpus)
    words = ("--workers", "2", *SMALL_BATCHES, *bench.codec)
    found, ok = [], True
    for what, inside, sizes in (("shard", "", (120, 300)), ("commit", "_delta_log", (24, 40))):
        for size_kib in sizes:
            output = bench.output()
            with small_disk(output / inside, size_kib) as resize:
                ended = bench.job(str(corpus), str(output), *words).finish()
                left = compare(output, expected)
                resize(1 << 20)
                again = bench.job(str(corpus), str(output), *words).finish()
                last = compare(output, expected)
                sound = again.code == 0 and is_sound(output)
            one_line = ended.code == 1 and ended.said.splitlines()[-1].count("No space left on device") == 1
            ok &= one_line and left.is_partial and last.is_exact and sound
            found.append(
                f"{what} {size_kib} KiB: exit {ended.code} with {left.rows} rows ({said(ended)}); resumed: {last}"
            )
    return Outcome(
        f"exit 1 naming the full disk, nothing but right rows; resumed: {len(expected)} rows, exact",
        f"{'as expected' if ok else found}",
        ok,
        {"runs": found},
    )


def two_jobs(bench: Bench) -> Outcome:
    """Two jobs on one dataset at once."""
    corpus = bench.corpus(bench.arguments.size)
    expected, _ = bench.reference(corpus)
    output, words = bench.output(), ("--workers", "1", *SMALL_BATCHES, *bench.codec)
    first = bench.job(str(corpus), str(output), *words)
    first.wait_for_commit(output, 0)
    second = bench.job(str(corpus), str(output), *words)
    ended = [first.finish(), second.finish()]
    left = compare(output, expected)
    offered = [one.result.get("new_recordings", 0) for one in ended]
    failed = "".join(f"; {said(one)}" for one in ended if one.code)
    return Outcome(
        f"both exit 0, {len(expected)} rows, exact",
        f"exit {ended[0].code} and {ended[1].code}, {left}; they offered {offered[0]} and {offered[1]}{failed}",
        all(one.code == 0 for one in ended) and left.is_exact and is_sound(output),
        {"offered": offered},
    )


def spread(bench: Bench) -> Outcome:
    """1, 2 and 4 workers and different batches: the same codes, byte for byte."""
    corpus = bench.corpus(bench.arguments.small)
    found, ok = [], True
    for codec in dict.fromkeys((bench.arguments.codec, "mill-16khz", "pcm-16khz")):
        expected, _ = bench.reference(corpus, codec)
        for count, batch_bytes, batch_s in ((1, 8 << 20, 1000.0), (2, 1, 0.1), (4, 300_000, 7.0)):
            output = bench.output()
            settings = (f"codec.name={codec}", f"resources.max_batch_bytes={batch_bytes}",
                        f"resources.encode_batch_s={batch_s}")  # fmt: skip
            words = [word for setting in settings for word in ("--set", setting)]
            ended = bench.job(str(corpus), str(output), "--workers", str(count), *words).finish()
            left = compare(output, expected)
            ok &= ended.code == 0 and left.is_exact
            found.append(f"{codec}, {count} workers, {batch_bytes} bytes, {batch_s:g} s: {left}")
    return Outcome(
        "every row the same", "every row the same" if ok else "; ".join(found), ok, {"runs": found}
    )


SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "kill": kill,
    "workers": workers,
    "node": node,
    "decoder": decoder,
    "mutations": mutations,
    "awkward": awkward,
    "disk": disk,
    "two_jobs": two_jobs,
    "spread": spread,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"scenarios, separated by commas: {', '.join(SCENARIOS)}")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument(
        "--size", type=int, default=300, help="recordings of a job that is attacked while it runs"
    )
    parser.add_argument(
        "--small", type=int, default=30, help="recordings of a job that only has to be complete"
    )
    parser.add_argument("--codec", default="mill-16khz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--recordings",
        type=Path,
        nargs="*",
        default=[],
        help="folders of recordings to damage and to prepare",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="results by scenario; others in it stay")
    given = parser.parse_args()
    given.names = (given.only or ",".join(SCENARIOS)).split(",")
    unknown = [name for name in given.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"--only {unknown[0]}: no such scenario; there are {', '.join(SCENARIOS)}")
    return given


def main() -> int:
    given = arguments()
    results = json.loads(given.output.read_text()) if given.output.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory(prefix="chaos") as scratch, ExitStack() as stack:
        bench = Bench(Path(scratch), given, stack)
        for name in given.names:
            started = time.monotonic()
            outcome = SCENARIOS[name](bench)
            results[name] = asdict(outcome) | {"seconds": round(time.monotonic() - started, 1)}
            failed += [] if outcome.ok else [name]
            print(f"{name:10} {'ok    ' if outcome.ok else 'FAILED'} expected: {outcome.expected}")
            print(f"{'':17} found:    {outcome.found}", flush=True)
            given.output.parent.mkdir(parents=True, exist_ok=True)
            given.output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps({"ok": len(given.names) - len(failed), "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
