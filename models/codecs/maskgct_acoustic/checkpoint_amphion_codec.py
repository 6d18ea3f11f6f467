"""Checkpoints of Amphion's `CodecEncoder` and `CodecDecoder` (open-mmlab/Amphion@d3de90f; amphion/MaskGCT)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoints import (
    Json,
    StateReader,
    filled,
    read_config,
    read_json,
    read_tensors,
    take_affine,
    under,
)
from models.codecs.checkpoint_amphion import take_backbone, take_codebook
from models.codecs.maskgct_acoustic.network import (
    MaskGCTAcousticConfig,
    MaskGCTAcousticDecoder,
    MaskGCTAcousticNetwork,
)
from models.codecs.strided_encoder import take_encoder

ENCODER = {"d_model": 96, "up_ratios": (3, 4, 5, 8), "out_channels": 256}
FIXED_ENCODER = {"use_tanh": False}
DECODER = {
    "in_channels": 256,
    "num_quantizers": 12,
    "codebook_size": 1024,
    "codebook_dim": 8,
    "vocos_dim": 512,
    "vocos_intermediate_dim": 4096,
    "vocos_num_layers": 30,
    "n_fft": 1920,
    "hop_size": 480,
}
FIXED_DECODER = {"quantizer_type": "fvq", "use_l2_normlize": True, "use_vocos": True, "padding": "same"}
"""The reference has other quantizers and decoders, which no released checkpoint uses."""
UNUSED = {
    # in_channel is a slip of the released configuration: the class reads in_channels.
    "in_channel": 256,
    "upsample_initial_channel": 1536,
    "up_ratios": (8, 5, 4, 3),
    # Of training, or of quantizers of another kind.
    **dict.fromkeys(("quantizer_dropout", "commitment", "codebook_loss_weight", "codebook_type")),
    **dict.fromkeys(
        ("kmeans_init", "kmeans_iters", "decay", "eps", "threshold_ema_dead_code", "weight_init")
    ),
}


def files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read amphion/MaskGCT's acoustic_codec: model.safetensors is the encoder, model_1.safetensors the decoder.

    There is no config.json in it; where one lies beside them, its `encoder` and `decoder` are the sizes.
    """
    weights: dict[str, Tensor] = {}
    for side, name in (("encoder", "model.safetensors"), ("decoder", "model_1.safetensors")):
        weights |= under(side, read_tensors(folder / name))
    config = folder / "config.json"
    return read_json(config) if config.is_file() else {}, weights


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our network with the weights of the reference, which are below `encoder.` and `decoder.`."""
    sizes = _sizes(config, reader.source)
    encoder = take_encoder(reader, "encoder", sizes.encoder_channels, sizes.ratios, sizes.latent_channels)
    state = under("encoder", encoder) | _decoder(reader, sizes, "decoder.")
    return filled(MaskGCTAcousticNetwork(sizes), state, reader)


def convert_decoder(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build the decoder alone, from the weights and configuration of a `CodecDecoder`."""
    decoder = read_config(reader.source, config, [], DECODER | FIXED_DECODER | UNUSED)
    # The encoder's strides are not known, and not needed: their product is the hop.
    given = {"up_ratios": (decoder["hop_size"],), "out_channels": decoder["in_channels"]}
    sizes = _sizes({"encoder": given, "decoder": config}, reader.source)
    return filled(MaskGCTAcousticDecoder(sizes), _decoder(reader, sizes, ""), reader)


def _decoder(reader: StateReader, sizes: MaskGCTAcousticConfig, prefix: str) -> dict[str, Tensor]:
    latents, codebook = sizes.latent_channels, (sizes.codebook_size, sizes.codebook_channels)
    blocks = (latents, sizes.hidden_size, sizes.feed_forward_size, sizes.n_layers)
    out = (sizes.fft_length + 2, sizes.hidden_size)
    state: dict[str, Tensor] = {}
    for level in range(sizes.n_codebooks):
        taken = take_codebook(reader, f"{prefix}quantizer.quantizers.{level}", latents, *codebook)
        state |= under(f"quantizer.levels.{level}", taken)
    state |= under("backbone", take_backbone(reader, f"{prefix}model.backbone", *blocks))
    state |= under("head.spectrum", take_affine(reader, f"{prefix}model.head.out", *out))
    reader.ignore(f"{prefix}model.head.istft.window", "a periodic Hann window, which we make")
    return state


def _sizes(config: Mapping[str, Any], source: str) -> MaskGCTAcousticConfig:
    sides = read_config(source, config, [], {"encoder": {}, "decoder": {}})
    encoder = read_config(source, sides["encoder"], [], ENCODER | FIXED_ENCODER)
    decoder = read_config(source, sides["decoder"], [], DECODER | FIXED_DECODER | UNUSED)
    sizes = MaskGCTAcousticConfig(
        ratios=tuple(encoder["up_ratios"]),
        encoder_channels=encoder["d_model"],
        latent_channels=encoder["out_channels"],
        n_codebooks=decoder["num_quantizers"],
        codebook_size=decoder["codebook_size"],
        codebook_channels=decoder["codebook_dim"],
        hidden_size=decoder["vocos_dim"],
        feed_forward_size=decoder["vocos_intermediate_dim"],
        n_layers=decoder["vocos_num_layers"],
        fft_length=decoder["n_fft"],
    )
    known = FIXED_DECODER | {"in_channels": sizes.latent_channels, "hop_size": sizes.hop_length}
    for given, wanted in ((encoder, FIXED_ENCODER), (decoder, known)):
        for name, value in wanted.items():
            if given[name] != value:
                raise ValueError(f"{source}: {name} is {given[name]!r}; it must be {value!r} here")
    return sizes
