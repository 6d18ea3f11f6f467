"""A recording, or every recording of a folder, through a codec and back: what the codec keeps of it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from catalog.command import JobError, UsageError, local, require_absolute_under_ray_job
from catalog.files import alone
from catalog.outward import say
from pipelines.audio.containers import AudioError
from pipelines.audio.decode import decode
from pipelines.audio.lengths import samples_to_seconds
from pipelines.audio.wav import write_wav
from pipelines.prepare import file_stats
from pipelines.sources import uris
from pipelines.sources.folder import FolderSource

if TYPE_CHECKING:
    from models.codecs.interface import Codec

name = "reconstruct"
help = "a recording, or a folder of them, through a codec and back"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="IN", type=Path, help="recording, or folder of recordings")
    parser.add_argument("output", metavar="OUT", type=local, help="WAV file, or folder for WAV files")
    parser.add_argument(
        "--codec",
        default="mill-16khz",
        help="NAME[@EDITION][:LEVELS], directory, or OWNER/NAME of the Hub; `speechmill codecs` lists names",
    )
    parser.add_argument("--levels", type=int, help="decode the first levels only; default: all")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of the codec; default: cpu")


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Reconstruct; returns the JSON line: files, rejected, seconds of audio, wall time, bit rate."""
    source, output = arguments.source, arguments.output
    require_absolute_under_ray_job(source=source, output=output)
    if not source.exists():
        raise UsageError(f"IN {str(source)!r} does not exist; give a recording or a folder")
    if output.exists() and output.samefile(source):
        raise UsageError(
            f"OUT {str(output)!r} is IN: the recordings would be overwritten; give another place"
        )
    _refuse_output(source, output)
    from models.codec_sources import load_codec

    codec = load_codec(arguments.codec, arguments.device)
    levels = codec.n_codebooks if arguments.levels is None else arguments.levels
    if not 1 <= levels <= codec.n_codebooks:
        raise UsageError(f"--levels {levels}: {codec.name} has 1 to {codec.n_codebooks}")
    started = time.perf_counter()
    with alone(output) if source.is_dir() else nullcontext():
        done, rejected, seconds = _all(codec, source, output, levels, arguments.device)
    return {
        "output": str(output),
        "files": done,
        "rejected": rejected,
        "audio_s": round(seconds, 3),
        "wall_s": round(time.perf_counter() - started, 3),
        "kbit_per_s": codec.identity.kbit_s(levels),
    }


def _all(codec: Codec, source: Path, output: Path, levels: int, device: str) -> tuple[int, int, float]:
    """Reconstruct what `source` holds; returns files, rejected ones and seconds. JobError for a single one."""
    seconds, rejected, done = 0.0, 0, 0
    for recording, target, problem in _pairs(source, output):
        try:
            if problem is not None:
                raise ValueError(problem)
            if target.exists() and target.samefile(recording):
                raise ValueError("its WAV file would overwrite it")
            seconds += reconstruct(codec, recording, target, levels, device)
            done += 1
        except (AudioError, OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if not source.is_dir():
                raise JobError(f"{recording}: {said}") from error
            rejected += 1
            say(f"rejected {recording}: {said}")
    if rejected and not done:
        raise JobError(f"{source}: none of its {rejected} recordings could be reconstructed")
    return done, rejected, seconds


def _refuse_output(source: Path, output: Path) -> None:
    """UsageError for an OUT that cannot take what IN gives, or whose other files may not be ours."""
    if not source.is_dir():
        if not output.is_dir() and output.suffix.lower() != ".wav":
            raise UsageError(f"OUT {output}: must end in .wav, or be a folder that exists")
    elif output.exists() and not output.is_dir():
        raise UsageError(f"OUT {output} is no folder, and IN {source} is one")
    elif source.resolve().is_relative_to(output.resolve()):
        raise UsageError(
            f"OUT {output} holds IN {source}: other recordings there would be overwritten; give another place"
        )


def reconstruct(codec: Codec, recording: Path, target: Path, levels: int, device: str = "cpu") -> float:
    """Write what the first `levels` of the codec keep of `recording`; returns its seconds. Raises AudioError."""
    import torch

    from models.codecs.interface import Codes

    audio = decode(recording, codec.sample_rate)
    wave_BT = torch.from_numpy(audio.samples)[None].to(device)
    with torch.inference_mode():
        codes = codec.encode(wave_BT, torch.tensor([wave_BT.shape[1]], device=device))
        decoded = codec.decode(Codes(codes.codes_BQT[:, :levels], codes.lengths_B))
    # A partial last frame decodes to a whole one; the recording's own length is kept.
    write_wav(target, decoded.wave_BT[0, : len(audio.samples)].cpu().numpy(), codec.sample_rate)
    return samples_to_seconds(len(audio.samples), codec.sample_rate)


def _pairs(source: Path, output: Path) -> Iterator[tuple[Path, Path, str | None]]:
    """Recordings, their WAV files and what their source has against them.

    Names that differ in their ending only keep it, so that none is overwritten.
    """
    if not source.is_dir():
        yield source, output / f"{source.stem}.wav" if output.is_dir() else output, None
        return
    taken: set[PurePosixPath] = set()
    named = FolderSource(uris.to_uri(str(source)), uris.to_uri(str(output))).recordings()
    with ThreadPoolExecutor(file_stats.THREADS) as pool:
        found = file_stats.sized(list(named), pool)
    for recording in found:
        path = uris.local_path(recording.uri)
        if path is None:
            yield Path(recording.recording_id), output, recording.detail or "no file of its own"
            continue
        root = source.absolute()
        # A table may name files beside the folder; they go under their own name.
        relative = PurePosixPath(path.relative_to(root) if path.is_relative_to(root) else path.name)
        target = relative.with_suffix(".wav")
        if target in taken:
            target = PurePosixPath(f"{relative}.wav")
        taken.add(target)
        yield path, output / target, recording.detail if recording.problem is not None else None
