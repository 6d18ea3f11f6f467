"""The codes of a dataset as audio again, to be listened to."""

from __future__ import annotations

import io

import numpy as np

from catalog.codes import Matrix, numbers
from catalog.command import JobError, UsageError
from catalog.identity import Identity
from models.identity import TokenIdentity
from pipelines.audio.containers import Samples
from pipelines.audio.lengths import seconds_to_samples


class DatasetDecoder:
    """Decodes rows of one dataset with exactly the codec that made them."""

    def __init__(self, identity: TokenIdentity, source: str | None = None, device: str = "cpu") -> None:
        """`source` as for `load_codec`; default: the identity's own name and edition.

        Raises UsageError where that is no known codec, JobError where it is another one than the dataset's.
        """
        from models.codec_sources import load_levels
        from models.codecs.interface import identity_of

        named = source or identity.source
        try:
            self._codec = load_levels(named, identity.n_codebooks, device)
        except (ValueError, FileNotFoundError) as error:
            raise UsageError(
                f"codec {named} cannot be loaded ({error}); give its directory with --codec"
            ) from error
        differences = Identity(identity, {}).differences(Identity(identity_of(self._codec), {}))
        if differences:
            raise JobError(f"codec {named} did not make this dataset: {'; '.join(differences)}")
        self._device = device
        self.sample_rate = identity.sample_rate

    def samples(self, codes: Matrix, duration_s: float | None = None) -> Samples:
        """The wave (T,) of codes (Q, T), cut to the utterance's own length; the last frame is seldom full."""
        import torch

        from models.codecs.interface import Codes

        codes_BQT = torch.from_numpy(numbers(codes, self._codec.identity.holds_samples))[None].to(
            self._device
        )
        with torch.inference_mode():
            wave = self._codec.decode(Codes(codes_BQT, torch.tensor([codes.shape[1]], device=self._device)))
        length = int(wave.lengths_B[0])
        if duration_s is not None:
            length = min(length, max(1, seconds_to_samples(duration_s, self.sample_rate)))
        samples: Samples = wave.wave_BT[0, :length].cpu().numpy()
        return samples

    def flac(self, codes: Matrix, duration_s: float | None = None) -> bytes:
        """The same as a 16-bit FLAC file."""
        return to_flac(self.samples(codes, duration_s), self.sample_rate)


def to_flac(samples: Samples, sample_rate: int) -> bytes:
    """Mono 16-bit FLAC: half the bytes of WAV, lossless, and every browser plays it."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), sample_rate, subtype="PCM_16", format="FLAC")
    return file.getvalue()
