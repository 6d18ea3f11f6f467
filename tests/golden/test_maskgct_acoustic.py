"""The MaskGCT acoustic codec's own numbers: latents, codes of all and of fewer levels, waves; odd lengths too."""

import pytest
import torch

from models.codecs.maskgct_acoustic.codec import MaskGCTAcousticCodec
from models.codecs.strided_encoder import encoder_frames


def roundtrip(section):
    module, wave_BT = section.module, section["wav"][:, 0]
    projected = [section.record(level.project) for level in module.quantizer.levels]
    backbone = section.record(module.backbone)
    latents_BTD = module.encode(wave_BT)
    codes_BQT = module.quantizer.encode(latents_BTD)
    few_BQT = module.quantizer.encode(latents_BTD, 4)
    vectors_BTD = module.quantizer.decode(codes_BQT)
    few_BTD = module.quantizer.decode(few_BQT)
    wave_out = module.decode(vectors_BTD)
    check_codec(module, wave_BT, codes_BQT, wave_out)
    return {
        "latent": latents_BTD.transpose(1, 2),
        "z": torch.stack([seen[0].transpose(1, 2) for seen in projected]),
        "codes": codes_BQT.transpose(0, 1),
        "codes4": few_BQT.transpose(0, 1),
        "quantized": vectors_BTD.transpose(1, 2),
        "quantized4": few_BTD.transpose(1, 2),
        "emb": vectors_BTD.transpose(1, 2),
        "backbone": backbone[0],
        "wav_out": wave_out[:, None],
    }


def check_codec(module, wave_BT, codes_BQT, wave_out):
    """The codec in pieces gives the same codes and, within [-1, 1], the same waves."""
    codec = MaskGCTAcousticCodec(module, "published", "", "")
    codec.piece_frames = 2
    codes = codec.encode(wave_BT, torch.full((len(wave_BT),), wave_BT.shape[1]))
    assert codes.lengths_B.tolist() == [encoder_frames(wave_BT.shape[1], module.config.ratios)] * len(wave_BT)
    assert torch.equal(codes.codes_BQT, codes_BQT)
    found_BT = codec.decode(codes).wave_BT
    torch.testing.assert_close(found_BT, wave_out.clamp(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.golden(
    "raoabinav/versaface_autoencoder",
    "models.codec.amphion_codec.codec.CodecEncoder + CodecDecoder",
    "amphion-codec",
)
def test_maskgct_acoustic(section):
    section.run({"roundtrip": roundtrip})
