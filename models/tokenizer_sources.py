"""Semantic tokenizers and embedders by where their parts lie."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoints import HUB_WEIGHTS, state_digest
from models.codec_sources import load_codec
from models.codecs import files
from models.codecs.hub import local_or_hub
from models.codecs.interface import Embedder, Tokenizer
from models.codecs.latents import CodecVectors
from models.codecs.source import first_levels
from models.generators import load_generator
from models.semantic import hubert, speaker, w2vbert, whisper
from models.semantic.family import FAMILY
from models.semantic.features import features_of, load_features
from models.semantic.repcodec import RepCodec
from models.semantic.source import EmbedderSource, TokenizerSource
from models.semantic.tokenizer import LatentVectors, SemanticTokenizer

MASKGCT = "amphion/MaskGCT"
"""On the Hugging Face Hub; its weights are under CC BY-NC 4.0."""
_RELEASED = "semantic_codec"
"""Folder of that release."""
_FORMAT = "amphion-repcodec"


def load_tokenizer(source: TokenizerSource, device: str | torch.device = "cpu") -> Tokenizer:
    """The tokenizer. ValueError or FileNotFoundError names the part that is missing, damaged or does not fit."""
    place = Path(source.tokenizer)
    if source.tokenizer == MASKGCT:
        if not source.statistics:
            raise ValueError(
                f"{MASKGCT} reads normalised features; statistics must name wav2vec2bert_stats.pt"
            )
        place = local_or_hub(MASKGCT, patterns=(f"{_RELEASED}/*",))
    if (repcodec := _repcodec(place)) is not None:
        return _semantic(source, repcodec, device)
    if place.is_dir() and files.read_config(place).get("kind") == hubert.UNITS:
        made = hubert.cells_of(place)
        return hubert.load_units(place, features_of(made, source.features, _file(source.statistics), device))
    codec = load_codec(source.tokenizer, device)
    if codec.identity.holds_samples:
        raise ValueError(f"tokenizer {source.tokenizer!r} codes samples; it has no semantic level")
    return first_levels(codec, 1)


def load_embedder(source: EmbedderSource, device: str | torch.device = "cpu") -> Embedder:
    """The embedder. ValueError or FileNotFoundError names the part that is missing, damaged or does not fit."""
    if source.kind == "speaker":
        return speaker.load(source.model, device)
    if source.kind == "codec":
        return CodecVectors(load_codec(source.model, device))
    if source.kind == "hubert":
        return hubert.load(local_or_hub(source.model or hubert.PUBLISHED), source.layer, device)
    if source.kind == "whisper":
        return whisper.load(Path(source.model), device)
    if source.kind == "w2v-bert":
        place = local_or_hub(source.model or w2vbert.PUBLISHED)
        return w2vbert.load(place, _file(source.statistics), source.layer, device)
    parts = (source.model or MASKGCT, source.features, source.statistics, source.layer)
    tokenizer = load_tokenizer(TokenizerSource(*parts), device)
    if not isinstance(tokenizer, SemanticTokenizer):
        raise ValueError(f"{source.model} has no latents; kind latents needs a RepCodec")
    return LatentVectors(tokenizer)


def _semantic(source: TokenizerSource, repcodec: RepCodec, device: str | torch.device) -> SemanticTokenizer:
    given = source.features or w2vbert.PUBLISHED
    features = load_features(given, source.layer, _file(source.statistics), device)
    digest = state_digest(repcodec.state_dict())
    return SemanticTokenizer(features, repcodec.to(device), digest, metric=source.metric)


def _file(path: str) -> Path | None:
    return Path(path) if path else None


def _repcodec(place: Path) -> RepCodec | None:
    """The RepCodec of a directory of ours or of a release; None where there is another thing, or nothing."""
    folder = place / _RELEASED if (place / _RELEASED).is_dir() else place
    config = folder / files.CONFIG
    described = files.read_config(folder) if config.is_file() else {}
    if "family" in described:
        if described["family"] != "repcodec":
            raise ValueError(f"{folder} holds a {described['family']}; a semantic tokenizer is a repcodec")
        _, module = load_generator(folder)
        assert isinstance(module, RepCodec)
        return module
    if "kind" in described or "model_type" in described:
        return None
    if not any((folder / name).is_file() for name in HUB_WEIGHTS):
        return None
    published = FAMILY.formats[_FORMAT]
    given, state = published.files(folder)
    module = published.converted(given, f"{_FORMAT} {folder}", state)
    assert isinstance(module, RepCodec)
    return module
