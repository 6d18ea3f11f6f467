"""Directories of a whole semantic tokenizer: what a system keeps of the one that its networks read.

`config.json` (`kind`, `name`, `layer`, `metric`, `features`, `statistics`), `repcodec/` or `cells/`, the file of
statistics where there is one; `features` names the place of their weights.
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
from models.codecs.interface import Codes, Identified, Wave, check_codes, check_level_range
from models.semantic import hubert, w2vbert
from models.semantic.features import features_of, load_features, published
from models.semantic.hubert import Units
from models.semantic.repcodec import RepCodec, RepCodecConfig
from models.semantic.source import TokenizerSource
from models.semantic.tokenizer import SemanticTokenizer

KIND = "semantic_tokenizer"
NAME = "repcodec"
_REPCODEC, _CELLS = "repcodec", "cells"


class SemanticCodec(SemanticTokenizer):
    """A semantic tokenizer where a codec is expected: its one level has vectors, but no waveform."""

    def decode(self, codes: Codes) -> Wave:  # noqa: ARG002
        """ValueError: semantic tokens are no waveform."""
        raise _no_waveform(self)

    @torch.no_grad()
    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes (B, 1, T) -> their vectors (B, D, T)."""
        check_codes(codes_BQT, 1, 0, self.codebook_size - 1)
        check_level_range(codes_BQT.shape[1], first_level, 1)
        return self.repcodec.embed(codes_BQT[:, 0].to(self.device)).transpose(1, 2)


class CodecUnits(Units):
    """Units where a codec is expected: their vectors are those of the cells, and they have no waveform."""

    def decode(self, codes: Codes) -> Wave:  # noqa: ARG002
        """ValueError: semantic tokens are no waveform."""
        raise _no_waveform(self)

    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes (B, 1, T) -> the vectors of their cells (B, D, T)."""
        check_codes(codes_BQT, 1, 0, self.codebook_size - 1)
        check_level_range(codes_BQT.shape[1], first_level, 1)
        return self.centroids_VD[codes_BQT[:, 0].to(self.centroids_VD.device)].transpose(1, 2)


def _no_waveform(tokenizer: Identified) -> ValueError:
    return ValueError(f"{tokenizer.identity.source} makes semantic tokens; it cannot make a waveform of them")


def save_directory(network: RepCodec | Path, source: TokenizerSource, directory: Path) -> None:
    """Write a directory of a RepCodec, or of a directory of k-means cells, and of what `source` says of its features.

    The features' weights (gigabytes) stay where `source` names them. ValueError for a place that is not there.
    """
    if isinstance(network, Path):
        name, made = files.read(network).name, hubert.cells_of(network)
        features = source.features or published(made)
        shutil.copytree(network, directory / _CELLS)
    else:
        name, features = NAME, source.features or w2vbert.PUBLISHED
        files.write_network(network, directory / _REPCODEC, kind=NAME, name=NAME, edition="1")
    statistics = ""
    if source.statistics:
        # The bytes of the file are part of the identity.
        statistics = f"statistics{Path(source.statistics).suffix}"
        shutil.copy(source.statistics, directory / statistics)
    described = {
        "kind": KIND,
        "name": name,
        "metric": source.metric,
        "layer": source.layer,
        "features": str(Path(features).absolute()) if Path(features).exists() else features,
        "statistics": statistics,
    }
    (directory / files.CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_directory(directory: Path, device: str | torch.device = "cpu") -> SemanticCodec | CodecUnits:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names what is missing or wrong."""
    described = files.read_config(directory)
    layer, metric = described.get("layer"), described.get("metric", "")
    source, statistics = described.get("features"), described.get("statistics")
    texts = isinstance(source, str) and isinstance(statistics, str)
    if not isinstance(layer, int) or not texts or metric not in get_args(Metric):
        raise ValueError(
            f"{directory / files.CONFIG} must give layer, metric, features and statistics of a semantic tokenizer"
        )
    given = directory / Path(str(statistics)).name if statistics else None
    if (cells := directory / _CELLS).is_dir():
        units = hubert.load_units(cells, features_of(hubert.cells_of(cells), str(source), given, device))
        return CodecUnits(units.features, units.centroids_VD, units.name)
    features = load_features(str(source), layer, given, device)
    network, stored = files.read_network(directory / _REPCODEC, RepCodecConfig, RepCodec)
    digest = state_digest(network.state_dict())
    return SemanticCodec(features, network.to(device), digest, stored.name, metric)
