"""The decoder as users of raoabinav/versaface_autoencoder call it: arrays in, one array out.

Shapes: T frames, P prompt frames, Q levels, S samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.autoencoder8d.decode import DecodeRequest, DecodeTask
from models.content import Voice

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]


class Metis8dDecoder:
    """Decodes latents one utterance at a time.

    `task` is `decode({})` of an `autoencoder8d` system, or `task({})` of a `Decoder8d` with published weights; the
    options in `decode.PUBLISHED` make either decode as the reference does.
    """

    def __init__(self, task: DecodeTask, seed: int = 0) -> None:
        """`seed` of everything that is drawn, for each utterance anew."""
        self.task, self.seed = task, seed

    def decode_from_z(
        self,
        z: Array,
        prompt_acoustic_code: Array | None = None,
        prompt_semantic_code: Array | None = None,
    ) -> npt.NDArray[np.float32]:
        """Latents (T, 8) or (1, T, 8) -> samples (S,) at the codec's rate.

        `prompt_acoustic_code` (P, Q) or (1, P, Q) is the voice; `prompt_semantic_code` (P,) or (1, P) are its semantic
        tokens, all 0 if they are missing. ValueError for other shapes.
        """
        voice = _voice(prompt_acoustic_code, prompt_semantic_code)
        latents_Tc = torch.from_numpy(_row(z, 2, "z").astype(np.float32))
        planned = self.task.prepare(DecodeRequest(latents_Tc, voice))
        (speech,) = self.task.run([planned], [torch.Generator().manual_seed(self.seed)])
        samples: npt.NDArray[np.float32] = speech.wave.wave_BT[0].numpy()
        return samples


def _voice(acoustic: Array | None, semantic: Array | None) -> Voice | None:
    if acoustic is None:
        if semantic is not None:
            raise ValueError("prompt_semantic_code is given without prompt_acoustic_code")
        return None
    codes_PQ = torch.from_numpy(_row(acoustic, 2, "prompt_acoustic_code").astype(np.int64))
    if not len(codes_PQ):
        return None
    if semantic is None:
        return Voice(codes_PQ.new_zeros(len(codes_PQ)), codes_PQ)
    return Voice(torch.from_numpy(_row(semantic, 1, "prompt_semantic_code").astype(np.int64)), codes_PQ)


def _row(values: Array, dimensions: int, name: str) -> Array:
    """Without an axis for a batch of one."""
    given = values[0] if values.ndim == dimensions + 1 and len(values) == 1 else values
    if given.ndim != dimensions:
        raise ValueError(f"{name} has shape {values.shape}; expected {dimensions} axes, or a batch of one")
    return given
