"""Settings of `prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from catalog.config import Settings


class SourceSettings(Settings):
    """What is read."""

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
    duplicates: Literal["keep", "reject"] = Field(
        default="keep", description="reject: of recordings with the same bytes only the first is kept"
    )


class AudioSettings(Settings):
    """What is done to every recording."""

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


class SegmentSettings(Settings):
    """How recordings without a transcript are cut into utterances (voice activity detection, silero)."""

    mode: Literal["auto", "vad", "none"] = Field(
        default="auto",
        description="auto: cut what is to be transcribed; vad: all without text; none: nothing",
    )
    min_s: float = Field(default=3.0, gt=0, description="seconds; shorter stretches join a neighbour")
    max_s: float = Field(
        default=30.0, gt=0, description="seconds; longer stretches are cut at their deepest pause"
    )
    pad_s: float = Field(default=0.1, ge=0, description="kept around speech, where no neighbour is closer")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="probability from which on it is speech")
    min_silence_s: float = Field(
        default=0.3, ge=0, description="shorter pauses do not end a stretch of speech"
    )

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if 2 * self.min_s > self.max_s:
            raise ValueError(f"max_s = {self.max_s:g} must be at least twice min_s = {self.min_s:g}")
        return self


class AlignSettings(Settings):
    """How long recordings that come with a transcript are cut into utterances with their words (forced alignment)."""

    engine: Literal["none", "espeak-dtw", "ctc"] = Field(
        default="none", description="espeak-dtw needs no weights; ctc needs align.model"
    )
    model: str = Field(default="", description="of ctc: a wav2vec2 model, directory or hub name")
    longer_than_s: float = Field(default=30.0, gt=0, description="seconds; shorter recordings stay whole")
    words: bool = Field(default=False, description="fill the column `words` of every utterance")


class TranscribeSettings(Settings):
    """How utterances without text get one; off while `model` is empty."""

    model: str = Field(default="", description="a Whisper model: directory or hub name, such as large-v3")
    engine: Literal["whisperx", "transformers"] = Field(
        default="whisperx", description="transformers: any speech recognition model of that library"
    )
    which: Literal["missing", "all"] = Field(
        default="missing", description="all: given transcripts are replaced"
    )
    language: str = Field(
        default="", description="empty: detected for each recording that does not state one"
    )
    compute_type: str = Field(default="default", description="of CTranslate2: float32, int8, float16 ...")
    beam_size: int = Field(default=5, ge=1)
    initial_prompt: str = ""
    batch_size: int = Field(default=8, ge=1, description="chunks of up to 30 s in one call of the model")


class QualitySettings(Settings):
    """What is measured of every utterance, beside what the filters need."""

    measures: tuple[Literal["dnsmos", "snr_db", "clipping", "bandwidth_hz", "silence_share"], ...] = ()


class SpeakerSettings(Settings):
    """Speaker labels and the check for a single voice; off while `model` is empty."""

    model: str = Field(default="", description="an x-vector model of transformers: directory or hub name")
    same_speaker: float = Field(
        default=0.7, ge=-1, le=1, description="cosine similarity from which on two utterances share a label"
    )


class FilterSettings(Settings):
    """Which utterances are rejected; what is not given comes from the preset. null: no such filter."""

    preset: Literal["none", "emilia"] = "none"
    dnsmos: float | None = Field(default=None, ge=1, le=5, description="at least")
    snr_db: float | None = Field(default=None, description="at least")
    clipping: float | None = Field(default=None, ge=0, le=1, description="at most, share of samples")
    bandwidth_hz: float | None = Field(default=None, gt=0, description="at least")
    silence_share: float | None = Field(default=None, ge=0, le=1, description="at most")
    min_s: float | None = Field(default=None, ge=0, description="seconds an utterance lasts, at least")
    max_s: float | None = Field(default=None, gt=0, description="seconds, at most")
    min_chars: int | None = Field(default=None, ge=0, description="characters of text, at least")
    max_chars: int | None = Field(default=None, ge=1, description="characters, at most")
    chars_per_s: dict[str, tuple[float, float]] | None = Field(
        default=None, description="language -> least and most characters per second; `*` for all others"
    )
    avg_logprob: float | None = Field(default=None, le=0, description="of the transcriber, at least")
    compression_ratio: float | None = Field(default=None, gt=0, description="of the transcript, at most")
    languages: tuple[str, ...] | None = Field(default=None, description="allowed ones")
    language_probability: float | None = Field(default=None, ge=0, le=1, description="at least")
    speaker_similarity: float | None = Field(default=None, ge=-1, le=1, description="at least")


class TextSettings(Settings):
    """What is done about transcripts."""

    missing: Literal["reject", "allow"] = Field(
        default="reject", description="allow: recordings without a transcript are kept, for training codecs"
    )
    normalize: bool = Field(default=False, description="fill the column `normalized_text`")
    phonemes: bool = Field(default=False, description="fill the column `phonemes` (espeak-ng, IPA)")
    language: str = Field(default="en", description="of texts whose language nobody states")


class SplitSettings(Settings):
    """Which recordings are held out, where the source does not say so itself."""

    validation: float = Field(
        default=0.05, ge=0, le=1, description="share of the recordings, chosen by their ids"
    )
    seed: int = 0


class CodecSettings(Settings):
    """Which codec makes the codes."""

    name: str = Field(
        default="mill-16khz", description="an embedded codec, NAME@EDITION, or a codec directory"
    )


class StepSettings(Settings):
    """Workers of one step; 0: chosen from what the cluster has."""

    workers: int = Field(default=0, ge=0)
    cpus: float = Field(default=0.0, ge=0, description="of one worker")
    gpus: float = Field(default=0.0, ge=0, description="of one worker; a share of one lets steps share a GPU")


class ResourceSettings(Settings):
    """How the work is spread; none of this changes a row."""

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


class PrepareSettings(Settings):
    """Settings of the job."""

    source: SourceSettings = SourceSettings()
    audio: AudioSettings = AudioSettings()
    segment: SegmentSettings = SegmentSettings()
    align: AlignSettings = AlignSettings()
    transcribe: TranscribeSettings = TranscribeSettings()
    quality: QualitySettings = QualitySettings()
    speakers: SpeakerSettings = SpeakerSettings()
    filter: FilterSettings = FilterSettings()
    text: TextSettings = TextSettings()
    split: SplitSettings = SplitSettings()
    codec: CodecSettings = CodecSettings()
    resources: ResourceSettings = ResourceSettings()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.align.engine == "ctc" and not self.align.model:
            raise ValueError("align.engine = 'ctc' needs align.model, a wav2vec2 model")
        if self.segmenting and self.filter.max_s is not None and self.filter.max_s < self.segment.min_s:
            raise ValueError(
                f"filter.max_s = {self.filter.max_s:g} is below segment.min_s: nothing would be kept"
            )
        return self

    @property
    def segmenting(self) -> bool:
        """Whether recordings without text are cut."""
        return self.segment.mode == "vad" or (self.segment.mode == "auto" and bool(self.transcribe.model))

    @property
    def of_rows(self) -> dict[str, Any]:
        """The settings that change a row: a dataset keeps to one value of these.

        A section that is off is left out, so that datasets stay what they are when a section is added. Models are
        named, not located.
        """
        rows = self.model_dump(mode="json", include={"audio", "text", "split"})
        rows["text"] = {"missing": self.text.missing} | self.text.model_dump(
            mode="json", exclude_defaults=True
        )
        active = {
            "segment": self.segmenting,
            "align": self.align.engine != "none",
            "transcribe": bool(self.transcribe.model),
            "quality": bool(self.quality.measures),
            "speakers": bool(self.speakers.model),
            "filter": self.filter != FilterSettings(),
        }
        for section in (name for name, on in active.items() if on):
            rows[section] = getattr(self, section).model_dump(
                mode="json", exclude={"batch_size"}, exclude_none=True
            )
            if rows[section].get("model"):
                rows[section]["model"] = Path(rows[section]["model"]).name
        if self.source.duplicates != "keep":
            rows["source"] = {"duplicates": self.source.duplicates}
        return rows
