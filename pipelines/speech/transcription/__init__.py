"""Speech -> text, by an engine that a setting names."""

from __future__ import annotations

from pathlib import Path

from catalog.command import JobError, UsageError
from pipelines.speech.transcription.interface import Transcriber, TranscribeSettings

NEEDED: dict[str, list[tuple[str, ...]]] = {
    "whisperx": [
        ("model.bin",),
        ("config.json",),
        ("tokenizer.json",),
        ("vocabulary.json", "vocabulary.txt"),
    ],
    "transformers": [
        ("config.json",),
        (
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        ),
        ("preprocessor_config.json", "processor_config.json"),
        ("tokenizer.json", "vocab.json", "tokenizer_config.json"),
    ],
}
"""Files of a model's directory: one of each group, or the library would look for it on a hub."""

FORMATS = {"whisperx": "a CTranslate2 Whisper model", "transformers": "a transformers model"}


def check_model(settings: TranscribeSettings) -> None:
    """Refuse a model directory that lacks a file (UsageError). A hub name passes; nothing heavy is imported."""
    folder = Path(settings.model).expanduser()
    if not folder.is_dir():
        if folder.exists() or folder.is_absolute() or settings.model.startswith(("./", "../", "~")):
            raise UsageError(f"transcription model {settings.model!r} is not a directory")
        return
    for group in NEEDED[settings.engine]:
        if not any((folder / name).is_file() for name in group):
            needed = " or ".join(group)
            kind = FORMATS[settings.engine]
            raise UsageError(f"transcription model {settings.model!r} has no {needed}; {kind} needs it")


def load_transcriber(settings: TranscribeSettings, device: str = "cpu", threads: int = 1) -> Transcriber:
    """Load the model. UsageError for a wrong directory or setting, JobError for a model that cannot be loaded."""
    check_model(settings)
    try:
        if settings.engine == "whisperx":
            from pipelines.speech.transcription.whisperx import WhisperXTranscriber

            return WhisperXTranscriber(settings, device, threads)
        from pipelines.speech.transcription.transformers import TransformersTranscriber

        return TransformersTranscriber(settings, device, threads)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        cause = " ".join(f"{error}".split()) or type(error).__name__
        local = Path(settings.model).expanduser().is_dir()
        hint = "" if local else " (taken for a hub name, since no such directory exists)"
        raise JobError(
            f"transcription model {settings.model!r}{hint} cannot be loaded: {cause[:400]}"
        ) from error
