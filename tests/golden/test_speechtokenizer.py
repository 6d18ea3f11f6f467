"""SpeechTokenizer's own numbers: latents, codes of all and of some levels, features, waves; odd lengths too."""

import pytest
import torch

from models.codecs.speechtokenizer.codec import SpeechTokenizerCodec


def roundtrip(section):
    module, wave_BT = section.module, section["wav"][:, 0]
    latents_BDT = module.encoder(wave_BT)
    codes_BQT = module.quantize(latents_BDT)
    later_BQT = module.quantize(latents_BDT, slice(1, None))
    vectors_BDT = module.lookup(codes_BQT)
    wave_out = module.decoder(vectors_BDT)
    levels = range(module.config.n_codebooks)
    check_codec(module, wave_BT, codes_BQT, wave_out)
    return {
        "latent": latents_BDT,
        "codes": codes_BQT.transpose(0, 1),
        "codes3": module.quantize(latents_BDT, slice(3)).transpose(0, 1),
        "codes_st1": later_BQT.transpose(0, 1),
        "quantized": vectors_BDT,
        "wav_out": wave_out[:, None],
        "wav_st1": module.decoder(module.lookup(codes_BQT[:, 1:], 1))[:, None],
        "forward_wav": wave_out[:, None],
        "feature": module.semantic_features(codes_BQT[:, 0]),
        "layer_feats": torch.stack([module.lookup(codes_BQT[:, q : q + 1], q) for q in levels]),
    }


def check_codec(module, wave_BT, codes_BQT, wave_out):
    """The codec in pieces gives the same codes and, within [-1, 1], the same waves."""
    codec = SpeechTokenizerCodec(module, "published", "", "")
    codec.piece_frames = 2
    codes = codec.encode(wave_BT, torch.full((len(wave_BT),), wave_BT.shape[1]))
    assert torch.equal(codes.codes_BQT, codes_BQT)
    found_BT = codec.decode(codes).wave_BT
    torch.testing.assert_close(found_BT, wave_out.clamp(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.golden("ZhangXInFD/SpeechTokenizer", "speechtokenizer.model.SpeechTokenizer", "speechtokenizer")
def test_speechtokenizer(section):
    section.run({"roundtrip": roundtrip})
