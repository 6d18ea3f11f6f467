"""The 8-D decoder's own numbers: latents to tokens, to codes of both networks, to a waveform."""

import pytest

from models.autoencoder8d.checkpoint_amphion_8d import convert
from models.autoencoder8d.decode import PUBLISHED, Autoencoder8dOptions
from models.codecs.interface import Codes
from models.content import Voice


def decoded(section):
    module, published = section.module, dict(PUBLISHED)
    config = module.acoustic.config
    # The published prompt is 100 frames, which are shorter than 20 ms in the case.
    voice_s = 100 * config.hop_length / config.sample_rate
    stage = module.stage(Autoencoder8dOptions(**published, voice_s=voice_s))
    ids = module.task(published).tokens(section["z"][0])
    prompt, semantic = section.get("prompt"), section.get("prompt_sem")
    voice = None
    if prompt is not None:
        semantic = prompt.new_zeros(1, prompt.shape[1]) if semantic is None else semantic
        voice = Voice(semantic[0], prompt[0])
    made, lengths = stage.generate([ids], [voice], section.draws)
    wave = stage.codec.decode(Codes(made.codes_BTQ.transpose(1, 2), lengths)).wave_BT[0]
    return {"ids": ids[None], "codes": made.codes_BTQ, "wav": wave}


@pytest.mark.golden(
    "raoabinav/versaface_autoencoder",
    "models.tts.metis.semantic_8d_wrappers.Metis8dDecoder (with RepCodec, two MaskGCT_S2A, CodecDecoder)",
    convert,
)
def test_z_decoder(section):
    section.run({"prompt": decoded, "noprompt": decoded})
