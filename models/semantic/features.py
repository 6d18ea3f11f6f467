"""Features that semantic tokenizers read: w2v-BERT's, HuBERT's or Whisper's, by what their directory holds."""

from __future__ import annotations

from pathlib import Path

import torch

from models.codecs import files
from models.codecs.hub import local_or_hub
from models.codecs.interface import Embedder
from models.identity import TokenIdentity
from models.semantic import hubert, w2vbert, whisper


def load_features(
    source: str, layer: int, statistics: Path | None = None, device: str | torch.device = "cpu"
) -> Embedder:
    """Features of a directory or an id of the hub: CTranslate2's Whisper, a `HubertModel`, or a `Wav2Vec2BertModel`.

    `layer` means nothing to Whisper. ValueError or FileNotFoundError names what is missing, damaged or does not fit.
    """
    place = local_or_hub(source)
    heard = whisper.is_model(place)
    if not heard and files.read_config(place).get("model_type") != hubert.NAME:
        return w2vbert.load(place, statistics, layer, device)
    if statistics is not None:
        raise ValueError(f"statistics {statistics} are of w2v-BERT; {place} holds another network")
    return whisper.load(place, device) if heard else hubert.load(place, layer, device)


def features_of(
    made: TokenIdentity, source: str, statistics: Path | None = None, device: str | torch.device = "cpu"
) -> Embedder:
    """Features of the kind and layer of an identity; without a `source` the published ones.

    ValueError as `published`.
    """
    source = source or published(made)
    layer = made.edition.removeprefix("layer-").partition("-")[0]
    return load_features(source, int(layer) if layer.isdigit() else 1, statistics, device)


def published(made: TokenIdentity) -> str:
    """Id on the hub of the published features of an identity's kind.

    ValueError for an unknown kind, and for Whisper's, which have none.
    """
    if made.name == whisper.NAME:
        raise ValueError("features is empty; must be the CTranslate2 directory of the Whisper that made them")
    known = {hubert.NAME: hubert.PUBLISHED, w2vbert.NAME: w2vbert.PUBLISHED}
    if made.name not in known:
        raise ValueError(f"features are {made.name!r}, must be {' or '.join((*known, whisper.NAME))}")
    return known[made.name]
