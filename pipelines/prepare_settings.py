"""Settings of `prepare`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from catalog.config import Settings


class SourceSettings(Settings):
    """What is read."""

    name: str = Field(
        default="", description="leads every recording id, as NAME/ID; give each source of a dataset its own"
    )
    check: Literal["content", "none"] = Field(
        default="content",
        description="content: a rerun reads committed recordings again and refuses changed ones",
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


class TextSettings(Settings):
    """What is done about transcripts."""

    missing: Literal["reject", "allow"] = Field(
        default="reject", description="allow: recordings without a transcript are kept, for training codecs"
    )


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


class ResourceSettings(Settings):
    """How the work is spread; none of this changes a row."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(default=0, ge=0, description="codec workers; 0: one a CPU, or one a GPU")
    threads: int = Field(default=1, ge=1, description="threads, and CPUs, of a codec worker on the CPU")
    decode_workers: int = Field(
        default=0, ge=0, description="decoders beside GPU workers; 0: four a GPU, if CPUs allow"
    )
    encode_batch_s: float = Field(
        default=0.0,
        ge=0,
        description="seconds of padded audio in one call of the codec; 0: 10 on a CPU, 120 on a GPU",
    )
    max_batch_bytes: int = Field(
        default=8 << 20, ge=1, description="source bytes that travel together and share a file"
    )
    decode_timeout_s: float = Field(
        default=600.0, gt=0, description="a decoder that takes longer counts as crashed"
    )


class PrepareSettings(Settings):
    """Settings of the job."""

    source: SourceSettings = SourceSettings()
    audio: AudioSettings = AudioSettings()
    text: TextSettings = TextSettings()
    split: SplitSettings = SplitSettings()
    codec: CodecSettings = CodecSettings()
    resources: ResourceSettings = ResourceSettings()

    @property
    def of_rows(self) -> dict[str, Any]:
        """The settings that change a row: a dataset keeps to one value of these."""
        return self.model_dump(mode="json", include={"audio", "text", "split"})
