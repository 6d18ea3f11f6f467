"""Tiny models of transformers with random weights, for contract tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def encodec_24khz() -> Any:
    """Mono, whole rows; 4 levels of 16 codes, hop 40."""
    from transformers import EncodecConfig, EncodecModel

    return _fitted(EncodecModel(EncodecConfig(**_ENCODEC, target_bandwidths=(4.8, 9.6))))


def encodec_48khz() -> Any:
    """Stereo, scaled chunks of 50 ms that overlap by 5; 4 levels of 16 codes, hop 40."""
    from transformers import EncodecConfig, EncodecModel

    chunks = {"normalize": True, "chunk_length_s": 0.05, "overlap": 0.1, "audio_channels": 2}
    layers = {"norm_type": "time_group_norm", "use_causal_conv": False, "sampling_rate": 48_000}
    return _fitted(EncodecModel(EncodecConfig(**_ENCODEC, **chunks, **layers, target_bandwidths=(9.6, 19.2))))


def mimi() -> Any:
    """One semantic level and three acoustic ones of 16 codes, hop 80."""
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=16,
        num_filters=2,
        upsampling_ratios=[5, 4, 2],
        codebook_size=16,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=4,
        upsample_groups=16,
        num_hidden_layers=2,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=4,
        layer_scale_initial_scale=0.5,
    )
    return _fitted(MimiModel(config))


def xcodec() -> Any:
    """4 levels of 16 codes, hop 320 at 16 kHz."""
    from transformers import XcodecConfig, XcodecModel

    config = XcodecConfig(
        target_bandwidths=(0.4, 0.8),
        codebook_size=16,
        acoustic_model_config=_acoustic([8, 5, 4, 2]),
        semantic_model_config=_HUBERT,
    )
    return _fitted(XcodecModel(config))


def higgs_audio() -> Any:
    """4 levels of 16 codes below a projection, hop 960 at 24 kHz."""
    from transformers import HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=(0.2, 0.4),
        codebook_size=16,
        codebook_dim=8,
        acoustic_model_config=_acoustic([8, 5, 4, 2, 3]),
        semantic_model_config=_HUBERT,
    )
    return _fitted(HiggsAudioV2TokenizerModel(config))


def xcodec2() -> Any:
    """One level of 64 codes, hop 320 at 16 kHz."""
    from transformers import Xcodec2Config, Xcodec2FeatureExtractor, Xcodec2Model

    config = Xcodec2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        encoder_hidden_size=2,
        quantization_dim=64,
        quantization_levels=(4, 4, 4),
        semantic_model_config={
            "model_type": "wav2vec2-bert",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 48,
        },
    )
    model = Xcodec2Model(config).eval()
    inward, seen = model.quantizer.project_in, []
    hook = inward.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    generator = torch.Generator().manual_seed(0)
    wave_T = 0.3 * torch.randn(40_000, generator=generator)
    with torch.no_grad():
        model.encode(**Xcodec2FeatureExtractor()(wave_T, sampling_rate=16_000, return_tensors="pt"))
        hook.remove()
        # Else every frame is rounded to the same code.
        inward.weight.div_(seen[0].std(dim=0)[:, None])
        inward.bias.sub_(seen[0].mean(dim=0)).div_(seen[0].std(dim=0))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "encodec_24khz": encodec_24khz,
    "encodec_48khz": encodec_48khz,
    "mimi": mimi,
    "xcodec": xcodec,
    "higgs_audio": higgs_audio,
    "xcodec2": xcodec2,
}


def write(name: str, directory: Path) -> None:
    """Write one of `MODELS` as transformers does."""
    torch.manual_seed(0)
    MODELS[name]().save_pretrained(directory)


_ENCODEC = {"num_filters": 2, "hidden_size": 12, "upsampling_ratios": (5, 4, 2), "codebook_size": 16}
_HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def _acoustic(ratios: list[int]) -> dict[str, Any]:
    channels = 2 ** len(ratios)
    return {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 2 * channels,
        "downsampling_ratios": ratios,
        "upsampling_ratios": ratios,
        "hidden_size": 12,
    }


@torch.no_grad()
def _fitted(model: Any) -> Any:
    """The model with codebooks, which transformers starts at zero, of vectors that it makes of noise."""
    channels = getattr(model.config, "audio_channels", 1)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if hasattr(module, "quantize"):
            module.quantize = partial(_fit, module, generator)
    model.eval().encode(0.3 * torch.randn(1, channels, 40_000, generator=generator))
    return model


def _fit(codebook: Any, generator: torch.Generator, vectors_ND: Tensor) -> Tensor:
    """Code the first vectors that a codebook is given with some of them."""
    del codebook.quantize
    rows = torch.randperm(len(vectors_ND), generator=generator)[: codebook.codebook_size]
    buffer = codebook.embed_sum if hasattr(codebook, "embed_sum") else codebook.embed
    # No two codes are the same, as vectors may be.
    noise_VD = torch.randn(buffer.shape, generator=generator)
    buffer.copy_(vectors_ND[rows] + 0.2 * vectors_ND.std(dim=0) * noise_VD)
    codes_N: Tensor = codebook.quantize(vectors_ND)
    return codes_N
