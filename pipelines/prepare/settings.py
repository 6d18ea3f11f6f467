"""Settings of `prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from catalog.config import Settings
from catalog.filters import Thresholds
from models.text.lexicon import Lexicon, read_lexicon
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.sources.reading import Reading
from pipelines.speech.transcription.interface import TranscribeSettings
from pipelines.stages.align import AlignSettings
from pipelines.stages.filter import PRESETS
from pipelines.stages.quality import MEASURES, MeasureName
from pipelines.stages.segment import SegmentSettings
from pipelines.stages.semantic import SemanticSettings
from pipelines.stages.speakers import SpeakerSettings
from pipelines.stages.tasks import TaskSettings, recordings_digest


class SourceSettings(Settings):
    """Settings of the source."""

    name: str = Field(
        default="", description="leads every recording id, as NAME/ID; give each source of a dataset its own"
    )
    check: Literal["stat", "content", "none"] = Field(
        default="stat",
        description="how a rerun sees that a committed recording changed; stat: its bytes are read only where size "
        "or modification time differ; content: always; none: never",
    )
    changed: Literal["refuse", "redo"] = Field(
        default="refuse",
        description="what a rerun does about a recording that changed since it was committed",
    )
    remote: Literal["allow", "forbid"] = Field(
        default="allow",
        description="forbid: no file of another machine is read, whatever a manifest or table names",
    )
    links: Literal["follow", "ignore"] = Field(
        default="follow",
        description="ignore: links in a folder are rejected, and transcripts that are links are not read",
    )
    remote_retry_s: float = Field(
        default=Reading.retry_s,
        gt=0,
        description="seconds for which Google's client repeats a request that fails, as without credentials",
    )
    max_text_mib: float = Field(default=1.0, gt=0, description="MiB; longer transcripts are rejected")
    max_line_mib: float = Field(
        default=16.0, gt=0, description="MiB; longer lines of manifests and descriptions in tars are rejected"
    )
    duplicates: Literal["keep", "reject"] = Field(
        default="keep", description="reject: of recordings with the same bytes only the first is kept"
    )

    @property
    def reading(self) -> Reading:
        """Permission and limits of reading files."""
        text_bytes, line_chars = round(self.max_text_mib * 2**20), round(self.max_line_mib * 2**20)
        return Reading(self.remote == "allow", self.remote_retry_s, text_bytes, line_chars)


class AudioSettings(Settings):
    """Treatment of every recording."""

    min_duration_s: float = Field(default=0.05, ge=0, description="seconds; shorter recordings are rejected")
    max_duration_s: float = Field(default=4 * 3600.0, gt=0, description="seconds; longer ones are rejected")
    loudness: Literal["keep", "peak", "rms"] = Field(
        default="keep",
        description="keep: levels as they are; peak, rms: scaled to target_dbfs, never beyond full scale",
    )
    target_dbfs: float = Field(default=-20.0, le=0, description="used by peak and rms")

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError(
                f"min_duration_s = {self.min_duration_s:g} must be below max_duration_s = {self.max_duration_s:g}"
            )
        return self

    def decoding(self, sample_rate: int, reading: Reading | None = None) -> DecodeSettings:
        """The same at a rate, Hz."""
        limits = Limits(self.min_duration_s, self.max_duration_s)
        return DecodeSettings(sample_rate, limits, self.loudness, self.target_dbfs, reading or Reading())


class QualitySettings(Settings):
    """Measures of every utterance, besides those that the filters need."""

    measures: tuple[MeasureName, ...] = ()
    dnsmos_hop_s: int = Field(default=1, ge=1, description="seconds between the windows that DNSMOS hears")


def _as_tuples(value: object) -> object:
    """Lists of YAML and JSON as the tuples that strict checking wants after a validator."""
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


class FilterSettings(Thresholds):
    """A preset of thresholds, and single ones in its place. null: not checked."""

    preset: Literal["none", "emilia"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        """Settings replace the preset's values, so that the resolved settings state every threshold."""
        preset = PRESETS.get(given.get("preset", "none")) if isinstance(given, dict) else None
        return given if preset is None else _as_tuples(preset.model_dump() | given)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that the thresholds need."""
        columns = [one.measure.column for one in self.active().values()]
        return tuple(dict.fromkeys(name for name in columns if name in MEASURES))


class TextSettings(Settings):
    """Treatment of transcripts."""

    missing: Literal["reject", "allow"] = Field(
        default="reject", description="allow: recordings without a transcript are kept, for training codecs"
    )
    normalize: bool = Field(default=False, description="fill the column `normalized_text`")
    phonemes: bool = Field(default=False, description="fill the column `phonemes` (espeak-ng, IPA)")
    language: str = Field(default="en", description="of texts whose language nobody states")
    lexicon: Path | None = Field(
        default=None, description="pronunciations for both columns: a YAML or JSON file (docs/data.md)"
    )

    def read_lexicon(self) -> Lexicon:
        """Its entries; none without a file. ValueError or OSError for a file that cannot be read."""
        return Lexicon() if self.lexicon is None else read_lexicon(self.lexicon)


class AugmentSettings(Settings):
    """Noisy copies of every utterance that is trained on, against learning recordings by heart."""

    copies: int = Field(ge=2, description="rows of every utterance, its own included")
    noise_std: float = Field(
        default=6e-4, gt=0, le=1, description="of white noise on the waveform, in units of full scale"
    )


class SplitSettings(Settings):
    """Recordings to hold out, where the source does not say so itself."""

    validation: float = Field(
        default=0.05, ge=0, le=1, description="share of the recordings, chosen by their ids"
    )
    seed: int = 0


class CodecSettings(Settings):
    """The codec that makes the codes."""

    name: str = Field(
        default="mill-16khz",
        description="NAME[@EDITION][:LEVELS] (`speechmill codecs` lists names), OWNER/NAME of the Hub, or a directory",
    )


class StepSettings(Settings):
    """Workers of one step; 0: chosen from what the cluster has."""

    workers: int = Field(default=0, ge=0)
    cpus: float = Field(default=0.0, ge=0, description="of one worker")
    gpus: float = Field(default=0.0, ge=0, description="of one worker; a share of one lets steps share a GPU")


class ResourceSettings(Settings):
    """Workers and their resources; none of this changes a row."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    layout: Literal["auto", "together", "apart"] = Field(
        default="auto",
        description="together: one kind of worker does everything; apart: decode, transcribe, codec and write are "
        "steps with workers of their own; auto: apart on GPUs",
    )
    workers: int = Field(default=0, ge=0, description="of the codec (together: of all); 0: one a CPU or GPU")
    threads: int = Field(default=1, ge=1, description="threads, and CPUs, of a codec worker on the CPU")
    decode: StepSettings = StepSettings()
    transcribe: StepSettings = StepSettings()
    codec: StepSettings = StepSettings()
    encode_batch_s: float = Field(
        default=0.0,
        ge=0,
        description="seconds of padded audio in one call of the codec; 0: 10 on a CPU, 120 on a GPU",
    )
    max_batch_bytes: int = Field(
        default=8 << 20, ge=1, description="source bytes that travel together and share a file"
    )
    decode_timeout_s: float = Field(
        default=600.0, gt=0, description="a decoder that makes no progress for longer counts as crashed"
    )
    decode_memory_bytes: int = Field(
        default=3 << 30, gt=0, description="a decoder that needs more, besides the samples, counts as crashed"
    )
    max_unavailable_in_a_row: int = Field(
        default=5,
        ge=1,
        description="so many recordings one after the other that the storage does not give, or whose decoder crashes, "
        "end the job",
    )
    max_unavailable_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="a job with a larger share of recordings that the storage did not give fails at its end",
    )


class PrepareSettings(Settings):
    """Settings of the job. A section that may be null is off while it is."""

    source: SourceSettings = SourceSettings()
    audio: AudioSettings = AudioSettings()
    segment: SegmentSettings = SegmentSettings()
    align: AlignSettings | None = Field(
        default=None, description="cuts long recordings that come with a transcript (forced alignment)"
    )
    transcribe: TranscribeSettings | None = None
    quality: QualitySettings = QualitySettings()
    speakers: SpeakerSettings | None = None
    filter: FilterSettings = FilterSettings()
    text: TextSettings = TextSettings()
    words: AlignSettings | None = Field(
        default=None, description="fills `words`, the words of utterances in time"
    )
    augment: AugmentSettings | None = Field(
        default=None,
        description="further rows `<id>#aug1`, ... with noise before the codec (split `derived`)",
    )
    tasks: TaskSettings | None = Field(
        default=None, description="further rows `<id>#ns`, ... for speech tasks (split `derived`)"
    )
    split: SplitSettings = SplitSettings()
    codec: CodecSettings = CodecSettings()
    semantic: SemanticSettings | None = Field(
        default=None, description="fills `semantic_codes`; a dataset that lacks the column gets it"
    )
    resources: ResourceSettings = ResourceSettings()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        checked = self.speakers is not None and self.speakers.check
        if self.filter.min_speaker_similarity is not None and not checked:
            raise ValueError("filter.min_speaker_similarity needs speakers.model, and speakers.check")
        return self

    @property
    def segmenting(self) -> bool:
        """True if recordings without text are cut."""
        wanted = {"vad": True, "auto": self.transcribe is not None, "none": False}
        return wanted[self.segment.mode]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures of every utterance."""
        return tuple(dict.fromkeys((*self.quality.measures, *self.filter.measures)))

    @property
    def of_rows(self) -> dict[str, object]:
        """The settings that change a row: a dataset keeps to one value of these.

        A section that is off is left out, so that datasets stay what they are when a section is added. Models are
        named, not located.
        """
        rows = self.model_dump(mode="json", include={"audio", "text", "split"})
        rows["text"] = {"missing": self.text.missing} | self.text.model_dump(
            mode="json", exclude_defaults=True
        )
        if self.text.lexicon is not None:
            rows["text"]["lexicon"] = self.text.read_lexicon().sha256
        active = {
            "segment": self.segmenting,
            "align": self.align is not None,
            "transcribe": self.transcribe is not None,
            "speakers": self.speakers is not None,
            "filter": self.filter != FilterSettings(),
            "words": self.words is not None,
            "augment": self.augment is not None,
            "tasks": self.tasks is not None,
        }
        dumped = self.model_dump(
            mode="json", include={name for name, on in active.items() if on}, exclude_none=True
        )
        for section, values in dumped.items():
            rows[section] = {
                name: _named(name, value) for name, value in values.items() if name not in _NO_ROW
            }
        for folder in ("noise", "voices"):
            if self.tasks is not None and getattr(self.tasks, folder):
                rows["tasks"][folder] = recordings_digest(Path(getattr(self.tasks, folder)))
        if self.measures:
            rows["quality"] = {"measures": sorted(self.measures)}
        if "dnsmos" in self.measures:
            rows["quality"]["dnsmos_hop_s"] = self.quality.dnsmos_hop_s
        if self.source.duplicates != "keep":
            rows["source"] = {"duplicates": self.source.duplicates}
        return rows


_NO_ROW = {"batch_size", "device", "preset"}


def _named(name: str, value: Any) -> Any:
    return Path(value).name if name == "model" and value else value
