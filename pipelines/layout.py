"""Which workers `prepare` uses: the stages in their order, grouped into steps, and what each worker claims.

Together: one kind of worker does everything, so that no audio travels between processes. Apart: decoding on CPUs,
transcription and codec on GPUs, each with workers of its own, a writer beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.command import UsageError
from catalog.schema import CodecIdentity
from pipelines.audio import Limits
from pipelines.cluster import Claim
from pipelines.prepare_settings import PrepareSettings, StepSettings
from pipelines.stages.codec import CodecStage
from pipelines.stages.decode import DecodeStage
from pipelines.stages.decoder import DecodeSettings
from pipelines.stages.text import TextStage
from pipelines.stages.write import WriteStage
from pipelines.streaming import Stage, Step


@dataclass(frozen=True)
class Layout:
    """What the workers are: decided before anything starts."""

    apart: bool
    claims: Mapping[str, Claim]
    """`prepare` together; `decode`, [`transcribe`,] `codec`, `write` apart."""
    on_gpu: bool


def layout_of(settings: PrepareSettings, nodes: Sequence[Mapping[str, float]]) -> Layout:
    """Workers for the nodes (CPU, GPU) of a cluster; raises UsageError for `cuda` where there is no GPU."""
    resources = settings.resources
    gpus = sum(int(node["GPU"]) for node in nodes)
    if resources.device == "cuda" and not gpus:
        raise UsageError("resources.device = 'cuda': no node of the cluster has a GPU; use cpu or auto")
    on_gpu = resources.device != "cpu" and gpus > 0
    cpus = sum(int(node["CPU"]) // resources.threads for node in nodes)
    if resources.layout == "together" or (resources.layout == "auto" and not on_gpu):
        claim = Claim("prepare", resources.workers or max(1, cpus), float(resources.threads), float(on_gpu))
        return Layout(False, {"prepare": claim}, on_gpu)
    return Layout(True, _apart(settings, gpus if on_gpu else 0, cpus), on_gpu)


def _apart(settings: PrepareSettings, gpus: int, cpus: int) -> dict[str, Claim]:
    resources, transcribing = settings.resources, bool(settings.transcribe.model)
    # Where both share the GPUs, each takes half of one.
    share = 0.0 if not gpus else 0.5 if transcribing else 1.0
    threads = 0.25 if gpus else float(resources.threads)
    heavy = max(1, gpus or cpus // (3 if transcribing else 2))
    claims = {"codec": _claim("codec", resources.codec, resources.workers or heavy, threads, share)}
    if transcribing:
        claims["transcribe"] = _claim("transcribe", resources.transcribe, heavy, threads, share)
    taken = sum(claim.workers * claim.num_cpus for claim in claims.values())
    decoders = max(1, min(4 * heavy, int(cpus - taken)))
    claims["decode"] = _claim("decode", resources.decode, decoders, 0.75 if gpus else 1.0, 0.0)
    claims["write"] = Claim("write", 1, 0.0)
    return claims


def _claim(name: str, given: StepSettings, workers: int, cpus: float, gpus: float) -> Claim:
    return Claim(name, given.workers or workers, given.cpus or cpus, given.gpus or gpus)


def steps_of(
    layout: Layout, settings: PrepareSettings, codec: CodecIdentity, dataset_uri: str, run_id: str
) -> list[Step]:
    """The job's steps, in order."""
    reading, understanding = _reading(settings, codec), _understanding(settings)
    encoding = [_codec(settings, layout.on_gpu)]
    writing = [
        Stage(
            WriteStage,
            {
                "dataset_uri": dataset_uri,
                "run_id": run_id,
                "codec": codec,
                "validation": settings.split.validation,
                "seed": settings.split.seed,
            },
        )
    ]
    claims = layout.claims
    if not layout.apart:
        return [Step(claims["prepare"], (*reading, *understanding, *encoding, *writing))]
    if "transcribe" in claims:
        first = [Step(claims["decode"], reading), Step(claims["transcribe"], understanding)]
    else:
        first = [Step(claims["decode"], (*reading, *understanding))]
    return [*first, Step(claims["codec"], encoding), Step(claims["write"], writing)]


def _reading(settings: PrepareSettings, codec: CodecIdentity) -> list[Stage]:
    """From a recording to waves: all that needs only the audio."""
    audio = settings.audio
    decoding = DecodeSettings(
        codec.sample_rate,
        Limits(audio.min_duration_s, audio.max_duration_s),
        audio.loudness,
        audio.target_dbfs,
    )
    return [
        Stage(DecodeStage, {"settings": decoding, "timeout_s": settings.resources.decode_timeout_s}),
    ]


def _understanding(settings: PrepareSettings) -> list[Stage]:
    """From waves to text, and what is judged by it."""
    return [Stage(TextStage, {"missing": settings.text.missing})]


def _codec(settings: PrepareSettings, on_gpu: bool) -> Stage:
    arguments: dict[str, Any] = {
        "name": located(settings.codec.name),
        "device": "cuda" if on_gpu else "cpu",
        # Larger batches leave a CPU's cache: 60 s took 1.4 times as long as 10 s.
        "batch_s": settings.resources.encode_batch_s or (120.0 if on_gpu else 10.0),
        "threads": settings.resources.threads,
    }
    return Stage(CodecStage, arguments)


def located(model: str) -> str:
    """A model directory as seen from workers, whose working directory may be another; names stay."""
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model
