"""Directories of a whole semantic tokenizer: what a system keeps of the one that its networks read.

`config.json` (`kind`, `name`, `layer`, `metric`, `features`, `statistics`), `repcodec/`, the file of statistics
where there is one, and `features/`, w2v-BERT's weights, unless `features` names another place.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from models.checkpoints import state_digest
from models.codecs import files
from models.codecs.factorized import Metric
from models.codecs.hub import local_or_hub
from models.codecs.interface import Codes, Wave, check_codes, check_level_range
from models.semantic import w2vbert
from models.semantic.repcodec import RepCodec, RepCodecConfig
from models.semantic.source import TokenizerSource
from models.semantic.tokenizer import SemanticTokenizer

KIND = "semantic_tokenizer"
NAME = "repcodec"
_REPCODEC, _FEATURES = "repcodec", "features"


class SemanticCodec(SemanticTokenizer):
    """A semantic tokenizer where a codec is expected: its one level has vectors, but no waveform."""

    def decode(self, codes: Codes) -> Wave:  # noqa: ARG002
        """ValueError: semantic tokens are no waveform."""
        raise ValueError(f"{self.identity.source} makes semantic tokens; it cannot make a waveform of them")

    @torch.no_grad()
    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes (B, 1, T) -> their vectors (B, D, T)."""
        check_codes(codes_BQT, 1, 0, self.codebook_size - 1)
        check_level_range(codes_BQT.shape[1], first_level, 1)
        return self.repcodec.embed(codes_BQT[:, 0].to(self.device)).transpose(1, 2)


def save_directory(
    repcodec: RepCodec, source: TokenizerSource, directory: Path, *, copy_features: bool = False
) -> None:
    """Write a directory of a RepCodec and of what `source` says of its features.

    Their weights (gigabytes) are copied if `copy_features`; otherwise they are found where `source` names them again.
    ValueError for a place that is not there.
    """
    files.write_network(repcodec, directory / _REPCODEC, kind=NAME, name=NAME, edition="1")
    features, statistics = source.features or w2vbert.PUBLISHED, ""
    if source.statistics:
        # The bytes of the file are part of the identity.
        statistics = f"statistics{Path(source.statistics).suffix}"
        shutil.copy(source.statistics, directory / statistics)
    if copy_features:
        shutil.copytree(local_or_hub(features), directory / _FEATURES)
        features = _FEATURES
    elif Path(features).exists():
        features = str(Path(features).absolute())
    described = {
        "kind": KIND,
        "name": NAME,
        "metric": source.metric,
        "layer": source.layer,
        "features": features,
        "statistics": statistics,
    }
    (directory / files.CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_directory(directory: Path, device: str | torch.device = "cpu") -> SemanticCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names what is missing or wrong."""
    described = files.read_config(directory)
    layer, metric = described.get("layer"), described.get("metric", "")
    source, statistics = described.get("features"), described.get("statistics")
    texts = isinstance(source, str) and isinstance(statistics, str)
    if not isinstance(layer, int) or not texts or metric not in get_args(Metric):
        raise ValueError(
            f"{directory / files.CONFIG} must give layer, metric, features and statistics of a semantic tokenizer"
        )
    place = directory / _FEATURES if source == _FEATURES else local_or_hub(str(source))
    given = directory / Path(str(statistics)).name if statistics else None
    features = w2vbert.load(place, given, layer, device)
    network, stored = files.read_network(directory / _REPCODEC, RepCodecConfig, RepCodec)
    digest = state_digest(network.state_dict())
    return SemanticCodec(features, network.to(device), digest, stored.name, metric)
