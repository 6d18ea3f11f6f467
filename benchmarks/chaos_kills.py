"""Scenarios: jobs and their processes killed, two jobs at once, and work spread in different ways."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

import chaos_jobs
from chaos_bench import SMALL_BATCHES, Bench, Outcome, said
from chaos_jobs import Job, compare, is_sound


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
            ended = job.finish()
            if ended.code and "Ray did not start" in ended.said:  # the machine is busy with other work
                continue
            finished += 1
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
        words = ("prepare", str(corpus), str(output), "--workers", "2", *SMALL_BATCHES, *bench.codec)
        job = Job(bench.scratch, words, address=two.address)
        job.wait_for_commit(output)
        time.sleep(bench.draw.uniform(2, 2 + wall_s / 6))
        running = job.process.poll() is None
        os.kill(two.raylets[1], 9)
        ended = job.finish()
    left = compare(output, expected)
    return Outcome(
        f"exit 0, {len(expected)} rows, exact, after one of two nodes was lost",
        f"exit {ended.code}, {left}" + (f"; {said(ended)}" if ended.code else ""),
        running and ended.code == 0 and left.is_exact and is_sound(output),
        {"wall_s": round(ended.wall_s, 1), "undisturbed_s": round(wall_s, 1)},
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
