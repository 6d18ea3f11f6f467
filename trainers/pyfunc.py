"""A system as an MLflow pyfunc: text in, WAV files out.

Registered as models-from-code: MLflow runs this file where the model is loaded, so that process needs this package and
MLflow and nothing else. Input: a table with the columns `text`, and optionally `prompt` (bytes of an audio file of the
voice to imitate) and `prompt_text` (what it says). Output: a table with `audio` (bytes of a 16-bit mono WAV file) and
`sample_rate` (Hz). The parameter `seed` makes the result repeatable.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    import pandas as pd

    from models.systems.prompt import Prompt


class Speech(PythonModel):  # type: ignore[misc]
    """One loaded system."""

    # MLflow reads type hints of `predict` as a signature and then ignores the one that was registered.
    def load_context(self, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Load the system, on the GPU if there is one."""
        from models.systems import load_system

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.system = load_system(Path(context.artifacts["system"]), device)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG002
        """Speak every row; ValueError names what is wrong with a row."""
        import pandas as pd

        from trainers.wav import wav_bytes

        generator = torch.Generator().manual_seed(int((params or {}).get("seed", 0)))
        texts = _texts(model_input)
        waves = self.system.synthesize(texts, _prompts(model_input), generator=generator)
        return pd.DataFrame(
            {
                "audio": [
                    wav_bytes(wave.wave_BT[0, : int(wave.lengths_B[0])], wave.sample_rate) for wave in waves
                ],
                "sample_rate": [wave.sample_rate for wave in waves],
            }
        )


def _texts(rows: pd.DataFrame) -> list[str]:
    """The rows' texts; ValueError names a row that has none."""
    for index, text in enumerate(rows["text"]):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"row {index} has no text: {text!r}")
    return list(rows["text"])


def _prompts(rows: pd.DataFrame) -> list[Prompt | None]:
    """The rows' voice prompts, None where a row has none."""
    missing = [None] * len(rows)
    audios, texts = rows.get("prompt", missing), rows.get("prompt_text", missing)
    return [
        _prompt(*pair) if isinstance(pair[0], bytes) else None for pair in zip(audios, texts, strict=True)
    ]


def _prompt(audio: bytes, text: Any) -> Prompt:
    import soundfile

    from models.codecs.interface import Wave
    from models.systems.prompt import Prompt

    samples, sample_rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    wave_BT = torch.from_numpy(samples.mean(axis=1))[None]
    return Prompt(
        Wave(wave_BT, torch.tensor([wave_BT.shape[1]]), sample_rate), text if isinstance(text, str) else ""
    )


set_model(Speech())
