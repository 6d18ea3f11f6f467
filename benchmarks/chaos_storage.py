"""Scenarios: the source goes away or fails, Ray's own processes die, another machine's clock is ahead."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import chaos_jobs
from chaos_bench import SMALL_BATCHES, Bench, Outcome, said
from chaos_jobs import Ended, Job, Rows, compare, is_sound

_STARTS = 10
FAULTS = Path(__file__).parent / "chaos_faults"


def _resumed(
    bench: Bench, output: Path, words: tuple[str, ...], first: Ended, expected: Rows
) -> tuple[bool, str]:
    """True if the first run left nothing but right rows and said why in one line, and the second completes it."""
    left = compare(output, expected)
    again = bench.job(*words).finish()
    last = compare(output, expected)
    ok = left.is_partial and last.is_exact and again.code == 0 and is_sound(output)
    return ok, f"exit {first.code} with {left.rows} rows ({said(first)}); resumed: exit {again.code}, {last}"


def _attacked(
    bench: Bench, words: tuple[str, ...], attack: Callable[[Job], None], **environment: str
) -> Ended:
    """The end of a job with its own Ray under attack; begun again where Ray did not start, on a busy machine."""
    for _ in range(_STARTS):
        job = bench.job(*words, own_ray=True, **environment)
        attack(job)
        ended = job.finish()
        if "Ray did not start" not in ended.said:
            return ended
    raise RuntimeError(f"Ray did not start in {_STARTS} jobs; is the machine very busy?")


def source(bench: Bench) -> Outcome:
    """The folder of recordings is gone after the first commit, as an unmounted disk; then it is back."""
    corpus = bench.corpus(bench.arguments.size)
    expected, _ = bench.reference(corpus)
    output, aside = bench.output(), corpus.with_name(f"{corpus.name}-aside")
    words = (str(corpus), str(output), "--workers", "1", *SMALL_BATCHES, *bench.codec)
    job = bench.job(*words)
    job.wait_for_commit(output)
    corpus.rename(aside)
    try:
        ended = job.finish()
    finally:
        aside.rename(corpus)
    ok, found = _resumed(bench, output, words, ended, expected)
    told = "could not be read" in ended.said or "unavailable" in ended.said
    return Outcome(
        f"exit 1 with a line, no rejection of what was away; resumed: {len(expected)} rows, exact",
        found,
        ok and ended.code == 1 and told,
    )


def storage(bench: Bench) -> Outcome:
    """Every read of a recording fails with EIO and with ESTALE while the storage is broken; then it works."""
    corpus = bench.corpus(bench.arguments.small)
    expected, _ = bench.reference(corpus)
    found, ok = [], True
    for error in ("EIO", "ESTALE", "EACCES"):
        output, broken = bench.output(), bench.scratch / f"broken-{error}"
        words = (str(corpus), str(output), "--workers", "2", *SMALL_BATCHES, *bench.codec)
        broken.write_text(error)
        path = f"{FAULTS}{os.pathsep}{chaos_jobs.ENVIRONMENT['PYTHONPATH']}"
        faults = {"PYTHONPATH": path, "SPEECHMILL_CHAOS_STORAGE": str(broken)}
        ended = _attacked(bench, words, lambda job: None, **faults)  # noqa: ARG005
        broken.unlink()
        good, line = _resumed(bench, output, words, ended, expected)
        ok &= good and ended.code == 1 and "could not be read" in ended.said
        found.append(f"{error}: {line}")
    return Outcome(
        f"exit 1, nothing rejected; resumed: {len(expected)} rows, exact",
        "; ".join(found),
        ok,
        {"runs": found},
    )


def ray_dies(bench: Bench) -> Outcome:
    """kill -9 of the raylet, and of Ray's control service, of a job's own Ray."""
    corpus = bench.corpus(bench.arguments.size)
    expected, _ = bench.reference(corpus)
    found, ok = [], True
    for victim in ("raylet/raylet", "gcs/gcs_server"):
        output = bench.output()
        words = (str(corpus), str(output), "--workers", "1", *SMALL_BATCHES, *bench.codec)
        ended = _attacked(bench, words, partial(_kill, victim, output))
        good, line = _resumed(bench, output, words, ended, expected)
        ok &= good and ended.code == 1 and "of Ray has ended" in ended.said
        found.append(f"{victim}: {line}")
    return Outcome(
        f"exit 1 with a line that names it; resumed: {len(expected)} rows, exact",
        "; ".join(found),
        ok,
        {"runs": found},
    )


def clock(bench: Bench) -> Outcome:
    """A job of another machine, whose clock is 25 h ahead, joins a job that runs."""
    corpus = bench.corpus(bench.arguments.size)
    expected, _ = bench.reference(corpus)
    output = bench.output()
    words = ("prepare", str(corpus), str(output), "--workers", "1", *SMALL_BATCHES, *bench.codec)
    first = Job(bench.scratch, words, address=bench.address)
    first.wait_for_commit(output)
    path = f"{FAULTS}{os.pathsep}{chaos_jobs.ENVIRONMENT['PYTHONPATH']}"
    ahead = {"PYTHONPATH": path, "SPEECHMILL_CHAOS_AHEAD_S": str(25 * 3600)}
    second = Job(bench.scratch, words, address=bench.address, environment=ahead)
    ended = [first.finish(), second.finish()]
    left = compare(output, expected)
    return Outcome(
        f"both exit 0, {len(expected)} rows, exact",
        f"exit {ended[0].code} and {ended[1].code}, {left}; {said(ended[0])}; {said(ended[1])}",
        all(one.code == 0 for one in ended) and left.is_exact and is_sound(output),
    )


def _kill(victim: str, dataset: Path, job: Job) -> None:
    """SIGKILL to the victim after the first commit."""
    if job.wait_for_commit(dataset):
        for pid in chaos_jobs.processes(job.mark):
            if _runs(pid, victim):
                os.kill(pid, signal.SIGKILL)


def _runs(pid: int, program: str) -> bool:
    try:
        return program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
