"""Scenarios: datasets on a full disk, damaged afterwards, or asked to mix what does not belong together."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chaos_bench import SMALL_BATCHES, Bench, Outcome, said
from chaos_jobs import Ended, Job, Rows, compare, is_sound, rows_of


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
    # A shard that is larger than the disk, and shards that fit until the log does not.
    large = ("--set", "resources.max_batch_bytes=4000000")
    found, ok = [], True
    for what, inside, sizes, batches in (
        ("shard", "", (40, 120), large),
        ("commit", "_delta_log", (12, 24), SMALL_BATCHES),
    ):
        words = ("--workers", "2", *batches, *bench.codec)
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


def damage(bench: Bench) -> Outcome:
    """Flipped bytes and truncation of committed files: found by `verify`, repaired by `repair`."""
    from catalog.datasets import Dataset
    from catalog.upkeep import verify

    corpus, output = bench.corpus(bench.arguments.small), bench.output()
    expected, _ = bench.reference(corpus)
    words = ("--workers", "2", "--set", "resources.max_batch_bytes=400000", *bench.codec)
    bench.job(str(corpus), str(output), *words).finish()
    shards = sorted(Dataset.open(output).shards(), key=lambda shard: shard.path)
    flips = unseen = 0
    for shard in shards:  # every file once, mended again: whatever bit it is, it is found
        file = output / shard.path
        sound = file.read_bytes()
        for _ in range(5):
            broken = bytearray(sound)
            broken[bench.draw.randrange(len(broken))] ^= 1 << bench.draw.randrange(8)
            file.write_bytes(broken)
            flips += 1
            unseen += {problem.path for problem in verify(Dataset.open(output))} != {shard.path}
        file.write_bytes(sound)
    hurt = bench.draw.sample(shards, k=2)
    flipped, cut = (output / shard.path for shard in hurt)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 16
    flipped.write_bytes(data)
    os.truncate(cut, cut.stat().st_size // 2)
    named = {problem.path for problem in verify(Dataset.open(output))}
    ended = Job(bench.scratch, ("repair", str(output)), address=bench.address).finish()
    left = compare(output, expected)
    kept = {shard.path for shard in shards} - named <= {shard.path for shard in Dataset.open(output).shards()}
    lost = sum(shard.recordings for shard in hurt)
    done = ended.result.get("recordings")
    failed = f"; {said(ended)}" if ended.code else ""
    return Outcome(
        f"{flips} of {flips} flips found; 2 files of {lost} recordings repaired, the others untouched, rows exact",
        f"{flips - unseen} of {flips} found; exit {ended.code}, {done} recordings again, other files "
        f"{'untouched' if kept else 'changed'}, {left}{failed}",
        not unseen
        and named == {shard.path for shard in hurt}
        and ended.code == 0
        and done == lost
        and kept
        and left.is_exact
        and not verify(Dataset.open(output)),
        {"files": len(shards), "flips": flips},
    )


def changed(bench: Bench) -> Outcome:
    """A changed recording, setting or codec, and rejected recordings: refused, or done again when asked."""
    from catalog.datasets import Dataset
    from catalog.upkeep import verify

    folder, output = bench.scratch / "changing", bench.output()
    shutil.copytree(bench.corpus(bench.arguments.small), folder)
    pcm, peak = ("--set", "codec.name=pcm-16khz"), ("--set", "audio.loudness=peak")
    steps: dict[str, tuple[bool, str]] = {}

    def run(*words: str) -> Ended:
        return bench.job(str(folder), str(output), "--workers", "2", *words).finish()

    def fresh(*words: str) -> Rows:
        place = bench.output()
        bench.job(str(folder), str(place), "--workers", "2", *words).finish()
        return rows_of(place)[0]

    def refused(name: str, expected: Rows, words: Sequence[str], message: str) -> None:
        ended, left = run(*words), compare(output, expected)
        ok = ended.code == 1 and message in said(ended) and left.is_exact
        steps[f"{name} refused"] = ok, f"exit {ended.code}, {said(ended)}, {left}"

    def redone(name: str, expected: Rows, words: Sequence[str], new: int) -> None:
        ended, left = run(*words), compare(output, expected)
        made, problems = ended.result.get("new_recordings"), verify(Dataset.open(output))
        # The files of older versions stay until `vacuum`.
        ok = ended.code == 0 and made == new and left.is_exact and not problems
        what = said(ended) if ended.code else f"{made} of {new} made, {left}, {len(problems)} problems"
        steps[f"{name} redone"] = ok, f"exit {ended.code}, {what}"

    texts = [(folder / f"{index:05d}.txt", (folder / f"{index:05d}.txt").read_text()) for index in (1, 2, 3)]
    for path, _ in texts:
        path.unlink()
    run(*pcm)
    for path, text in texts[:2]:
        path.write_text(text)
    rows = fresh(*pcm)
    redone("missing text", rows, (*pcm, "--retry-rejected", "missing_text"), 3)
    data = bytearray((folder / "00005.wav").read_bytes())
    data[len(data) // 2] ^= 0x40
    (folder / "00005.wav").write_bytes(data)
    refused("recording", rows, pcm, "00005.wav")
    rows = fresh(*pcm)
    redone("recording", rows, (*pcm, "--changed", "redo"), 1)
    refused("setting", rows, (*pcm, *peak), "audio.loudness")
    offered = len(rows)
    redone("setting", fresh(*pcm, *peak), (*pcm, *peak, "--restart"), offered)
    rows = rows_of(output)[0]
    refused("codec", rows, (*peak, *bench.codec), "codec")
    redone("codec", fresh(*peak, *bench.codec), (*peak, *bench.codec, "--restart"), offered)
    bad = [f"{name}: {found}" for name, (ok, found) in steps.items() if not ok]
    return Outcome(
        f"{', '.join(steps)}: exactly those rows",
        "as expected" if not bad else "; ".join(bad),
        not bad,
        {name: found for name, (_, found) in steps.items()},
    )
