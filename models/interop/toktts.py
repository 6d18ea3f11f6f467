"""toktts as its users call it: a function of text, whose parameters are those of transformers' `generate`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from models.checkpoints import Json, StateReader
from models.codec_sources import load_codec
from models.settings import check_keys
from models.system import SpeakRequest
from models.system_files import DESCRIPTION, load_system
from models.text.front_ends import text_front_end
from models.toktts import checkpoint_hugging_face
from models.toktts.network import TokTTS
from models.toktts.options import TokTTSOptions
from models.toktts.system import TokTTSSystem

PARAMETERS = ("max_length", "do_sample", "num_beams", "temperature", "top_k", "top_p", "length_penalty")
"""What `forward_params` may hold: options of the system that `generate` has, too."""


class Audio(TypedDict):
    """One sentence."""

    audio: npt.NDArray[np.float32]
    """(S,) in [-1, 1]."""
    sampling_rate: int
    """Hz."""


@dataclass(frozen=True)
class TextToSpeechPipeline:
    """Speaks one sentence, or each of several."""

    system: TokTTSSystem

    def __call__(
        self,
        text: str | Sequence[str],
        forward_params: Mapping[str, Json] | None = None,
        *,
        seed: int = 0,
    ) -> Audio | list[Audio]:
        """The audio of a sentence, or one for each of a list.

        `forward_params` stand in place of the system's options. The same `seed` and text give the same audio, in any
        list. ValueError for a parameter that is not one of PARAMETERS, a wrong value, or a text that cannot be spoken.
        """
        given = dict(forward_params or {})
        check_keys(given, list(PARAMETERS), "forward_params")
        task = self.system.speak(given)
        texts = [text] if isinstance(text, str) else list(text)
        generators = [_generator(one, seed) for one in texts]
        spoken = task.run([task.prepare(SpeakRequest(one)) for one in texts], generators) if texts else []
        found: list[Audio] = [
            {"audio": one.wave.wave_BT[0].numpy(), "sampling_rate": one.wave.sample_rate} for one in spoken
        ]
        return found[0] if isinstance(text, str) else found


def text_to_speech_pipeline(
    model_path: Path | str, codec: str | None = None, device: str | torch.device = "cpu"
) -> TextToSpeechPipeline:
    """The pipeline of a system directory, or of a published one (transformers' EncoderDecoderModel) with a codec.

    A published directory does not hold its codec: `codec` is the source of EnCodec's 24 kHz one. It reads bytes as
    ByT5, and every id can come at every step. ValueError for a directory that is neither, for a system that is no
    toktts, and for a codec that is missing, does not fit or is given where the system has its own.
    """
    folder = Path(model_path)
    if (folder / DESCRIPTION).is_file():
        if codec is not None:
            raise ValueError(f"{folder} has its own codec; codec {codec!r} cannot take its place")
        system: Any = load_system(folder, device)
        if not isinstance(system, TokTTSSystem):
            raise ValueError(f"{folder} is a {system.name} system; the pipeline speaks with toktts only")
        return TextToSpeechPipeline(system)
    if codec is None:
        raise ValueError(
            f"{folder} is no system directory, and as a published one it needs a codec: codec=SOURCE"
        )
    config, state = checkpoint_hugging_face.files(folder)
    module = checkpoint_hugging_face.convert(config, StateReader(str(folder), state))
    assert isinstance(module, TokTTS)
    front_end = text_front_end({"kind": "byt5"})
    options = TokTTSOptions(ids="any")
    return TextToSpeechPipeline(
        TokTTSSystem(load_codec(codec, device), front_end, module.to(device), options)
    )


def _generator(text: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
