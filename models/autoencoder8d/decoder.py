"""The networks of the 8-D decoder without its encoder: from published weights, to decode latents that are stored.

Shapes: T frames, c channels of the latents, P prompt frames, Q levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.autoencoder8d.decode import SPEECH_PRESETS, Autoencoder8dOptions, DecodeTask
from models.checkpoints import Json
from models.codecs.interface import Codes, Context, Identified
from models.codecs.maskgct_acoustic.codec import NAME, MaskGCTAcousticCodec
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticDecoder
from models.content import Content
from models.identity import TokenIdentity
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A
from models.maskgct.semantic_stages import SpeechStage
from models.semantic.repcodec import RepCodec
from models.settings import replaced, with_preset


class Decoder8d(nn.Module):
    """RepCodec's codebook, both S2A networks and the acoustic decoder."""

    def __init__(
        self,
        repcodec: RepCodec,
        first: MaskGCTSemanticS2A,
        full: MaskGCTSemanticS2A,
        acoustic: MaskGCTAcousticDecoder,
    ) -> None:
        super().__init__()
        self.repcodec, self.s2a_first, self.s2a, self.acoustic = repcodec, first, full, acoustic

    def task(self, options: Mapping[str, Json]) -> DecodeTask:
        """Decoding with `Autoencoder8dOptions`. ValueError for an option that there is not."""
        what = "the options of the 8-D decoder"
        given = replaced(Autoencoder8dOptions(), with_preset(SPEECH_PRESETS, options, what), what)
        stage = self.stage(given)
        return DecodeTask(stage, self.repcodec.codebook, given.metric)

    def stage(self, options: Autoencoder8dOptions) -> SpeechStage:
        """Semantic tokens and a voice, as codes, to speech."""
        codec = MaskGCTAcousticCodec(self.acoustic, NAME, "published", "")
        rates = (codec.sample_rate, codec.hop_length)
        tokens = _Tokens(
            TokenIdentity("repcodec", "latents", "", *rates, 1, self.repcodec.config.codebook_size)
        )
        return SpeechStage(self.s2a_first, self.s2a, Content(codec, tokens), options)


class _Tokens(Identified):
    """RepCodec's tokens, one for each frame of the codec, without the features that recordings need."""

    context = Context(0, 0)
    max_samples: int | None = None

    def __init__(self, identity: TokenIdentity) -> None:
        self.identity = identity

    def encode(self, wave_BT: Tensor, lengths_B: torch.Tensor) -> Codes:  # noqa: ARG002
        """ValueError."""
        raise ValueError(
            "the 8-D decoder has no w2v-BERT; it reads latents and prompts as codes, no recordings"
        )
