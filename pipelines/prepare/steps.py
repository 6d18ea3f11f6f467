"""The workers of `prepare`: the stages in their order, grouped into steps, and what each worker claims.

Together: one kind of worker does everything, so that no audio travels between processes. Apart: decoding on CPUs,
transcription and codec on GPUs, each with workers of its own, a writer beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from catalog.command import UsageError
from catalog.identity import Identity
from models.identity import TokenIdentity
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.execution.cluster import Claim
from pipelines.execution.ray_stream import Stage, Step
from pipelines.prepare.settings import FilterSettings, PrepareSettings, StepSettings
from pipelines.sources.uris import located
from pipelines.speech.transcription.interface import TranscribeSettings
from pipelines.stages.align import AlignSettings, AlignStage, WordsStage
from pipelines.stages.augment import AugmentStage
from pipelines.stages.codec import CodecStage
from pipelines.stages.decode import DecodeStage
from pipelines.stages.filter import FilterStage
from pipelines.stages.quality import QualityStage
from pipelines.stages.segment import SegmentStage
from pipelines.stages.semantic import SemanticSettings, SemanticStage, SemanticTokens
from pipelines.stages.speakers import SpeakerSettings, SpeakersStage
from pipelines.stages.stored_tokens import StoredTokensStage
from pipelines.stages.tasks import TasksStage
from pipelines.stages.text import TextStage
from pipelines.stages.transcribe import TranscribeStage
from pipelines.stages.write import WriteStage


@dataclass(frozen=True)
class Layout:
    """The workers, decided before anything starts."""

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
    resources, transcribing = settings.resources, settings.transcribe is not None
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
    layout: Layout, settings: PrepareSettings, identity: Identity, dataset_uri: str, run_id: str
) -> list[Step]:
    """The job's steps, in order; `identity` is that of the rows."""
    codec = identity.codec
    reading, understanding = _reading(settings, codec), _understanding(settings, codec, layout.on_gpu)
    splitting = {"validation": settings.split.validation, "seed": settings.split.seed}
    # With the codec: derived rows do not travel between workers.
    encoding = [
        *_deriving(settings, codec, splitting),
        *_semantic(settings, codec, layout.on_gpu),
        _codec(settings, layout.on_gpu),
    ]
    writing = [
        Stage(
            WriteStage,
            {
                "dataset_uri": dataset_uri,
                "run_id": run_id,
                "codec": codec,
                "columns": identity.columns,
                **splitting,
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


def _reading(settings: PrepareSettings, codec: TokenIdentity) -> list[Stage]:
    """From a recording to utterances: all that needs only the audio and a given text."""
    rate, threads = codec.sample_rate, settings.resources.threads
    stages = [Stage(DecodeStage, {"settings": _decoding(settings, codec), **_bounds(settings)})]
    if settings.align is not None:
        stages.append(Stage(AlignStage, {"settings": _located(settings.align), "sample_rate": rate}))
    if settings.segmenting:
        transcribing = settings.transcribe is not None
        cutting = {"settings": settings.segment, "sample_rate": rate, "transcribing": transcribing}
        stages.append(Stage(SegmentStage, cutting))
    if settings.measures:
        measuring = {"measures": settings.measures, "sample_rate": rate, "threads": threads}
        stages.append(Stage(QualityStage, {**measuring, "dnsmos_hop_s": settings.quality.dnsmos_hop_s}))
    if settings.speakers is not None:
        speakers = {"settings": _located(settings.speakers), "sample_rate": rate, "threads": threads}
        stages.append(Stage(SpeakersStage, speakers))
    return [*stages, *_filter(settings, "audio")]


def _decoding(settings: PrepareSettings, codec: TokenIdentity) -> DecodeSettings:
    return settings.audio.decoding(codec.sample_rate, settings.source.reading)


def _bounds(settings: PrepareSettings) -> dict[str, object]:
    resources = settings.resources
    return {"timeout_s": resources.decode_timeout_s, "memory_limit_bytes": resources.decode_memory_bytes}


def _understanding(settings: PrepareSettings, codec: TokenIdentity, on_gpu: bool) -> list[Stage]:
    """From waves to text, and what is judged by it."""
    rate, stages = codec.sample_rate, []
    if settings.transcribe is not None:
        transcriber = {"settings": _located(settings.transcribe), "sample_rate": rate}
        place = {"device": "cuda" if on_gpu else "cpu", "threads": settings.resources.threads}
        stages.append(Stage(TranscribeStage, {**transcriber, **place}))
    text = settings.text
    stages.append(Stage(TextStage, {**text.model_dump(), "lexicon": text.read_lexicon()}))
    if settings.words is not None:
        stages.append(Stage(WordsStage, {"settings": _located(settings.words), "sample_rate": rate}))
    return [*stages, *_filter(settings, "text")]


def _deriving(
    settings: PrepareSettings, codec: TokenIdentity, splitting: Mapping[str, object]
) -> Sequence[Stage]:
    """Further rows of utterances that are trained on: copies, speech tasks."""
    stages = []
    if settings.augment is not None:
        stages.append(Stage(AugmentStage, {**settings.augment.model_dump(), **splitting}))
    if settings.tasks is not None:
        tasks = settings.tasks
        tasks = dataclasses.replace(tasks, noise=located(tasks.noise), voices=located(tasks.voices))
        stages.append(Stage(TasksStage, {"settings": tasks, "codec": codec, **splitting}))
    return stages


def _filter(settings: PrepareSettings, when: Literal["audio", "text"]) -> list[Stage]:
    on = settings.filter != FilterSettings()
    return [Stage(FilterStage, {"thresholds": settings.filter, "when": when})] if on else []


def _semantic(settings: PrepareSettings, codec: TokenIdentity, on_gpu: bool) -> list[Stage]:
    if settings.semantic is None:
        return []
    arguments = _tokenizing(settings, settings.semantic, on_gpu)
    return [Stage(SemanticStage, {**arguments, "sample_rate": codec.sample_rate})]


def _tokenizing(settings: PrepareSettings, semantic: SemanticSettings, on_gpu: bool) -> dict[str, object]:
    place = {"device": "cuda" if on_gpu else "cpu", "threads": settings.resources.threads}
    return {"settings": semantic.mapped(located), **place}


def filling_step(
    layout: Layout,
    settings: PrepareSettings,
    semantic: SemanticSettings,
    codec: TokenIdentity,
    dataset_uri: str,
) -> Step:
    """The step that computes the token columns of committed files."""
    resources, on_gpu = settings.resources, layout.on_gpu
    heaviest = layout.claims["codec" if layout.apart else "prepare"]
    claim = Claim("columns", heaviest.workers, float(resources.threads), float(on_gpu))
    arguments = {
        **_bounds(settings),
        "dataset_uri": dataset_uri,
        "make": SemanticTokens,
        "arguments": _tokenizing(settings, semantic, on_gpu),
        "decoding": _decoding(settings, codec),
        "noise_std": settings.augment.noise_std if settings.augment is not None else 0.0,
    }
    return Step(claim, (Stage(StoredTokensStage, arguments),))


def _codec(settings: PrepareSettings, on_gpu: bool) -> Stage:
    # With torch, which the commands that load no codec do without.
    from models.codec_sources import absolute_source

    arguments: dict[str, object] = {
        "name": absolute_source(settings.codec.name),
        "device": "cuda" if on_gpu else "cpu",
        # Larger batches leave a CPU's cache (docs/log.md).
        "batch_s": settings.resources.encode_batch_s or (120.0 if on_gpu else 10.0),
        "threads": settings.resources.threads,
    }
    return Stage(CodecStage, arguments)


def _located(settings: _Modelled) -> _Modelled:
    return dataclasses.replace(settings, model=located(settings.model))


_Modelled = TypeVar("_Modelled", AlignSettings, TranscribeSettings, SpeakerSettings)
