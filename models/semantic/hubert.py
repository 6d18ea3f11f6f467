"""HuBERT (arXiv 2106.07447): hidden states, and the cells of k-means over them as tokens.

B rows, T samples or frames, D channels, V cells.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.codecs import files
from models.codecs.interface import Codes, Context, Embedder, Identified, Latents, check_longest, check_wave
from models.codecs.pretrained import read_pretrained
from models.codecs.quantizer import nearest
from models.identity import TokenIdentity
from models.layers.masks import pad_rows
from models.semantic.w2vbert import check_layer

PUBLISHED = "facebook/hubert-base-ls960"
"""On the Hugging Face Hub; its weights are under the Apache licence 2.0."""
NAME = "hubert"
UNITS = "k_means"
"""Kind of a directory that holds cells."""
_LONGEST_S = 120


class Hubert(Identified):
    """Features of one layer, each row by itself: norms over time in its first layer allow no padding.

    A row has floor((samples - 400) / 320) + 1 frames.
    """

    def __init__(self, model: Any, layer: int, normalises: bool, identity: TokenIdentity) -> None:
        """`model`: a `HubertModel` with at least `layer` layers. `normalises`: waves get mean 0 and variance 1."""
        self.identity, self.model, self.layer, self.normalises = identity, model, layer, normalises
        self.max_samples: int | None = _LONGEST_S * identity.sample_rate
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> features (B, T, D) float32."""
        check_wave(wave_BT, lengths_B)
        check_longest(self.name, lengths_B.tolist(), self.max_samples, "samples")
        rows = [
            self._features(wave_T[:length].to(self.device, torch.float32))
            for wave_T, length in zip(wave_BT, lengths_B.tolist(), strict=True)
        ]
        if not rows:
            return Latents(torch.zeros(0, 0, self.identity.channels, device=self.device), lengths_B)
        features_BTD, mask_BT = pad_rows(rows)
        return Latents(features_BTD, mask_BT.sum(dim=1))

    def _features(self, wave_T: Tensor) -> Tensor:
        if self.model._get_feat_extract_output_lengths(torch.tensor(len(wave_T))) < 1:
            return wave_T.new_zeros(0, self.identity.channels)
        if self.normalises:
            wave_T = (wave_T - wave_T.mean()) / (wave_T.var(correction=0) + 1e-7).sqrt()
        seen: list[Any] = []
        # The last of a model's hidden states has another norm in some, so the layer's own output is taken.
        hook = self.model.encoder.layers[self.layer - 1].register_forward_hook(
            lambda _module, _inputs, output: seen.append(output)
        )
        try:
            self.model(wave_T[None])
        finally:
            hook.remove()
        hidden_BTD: Tensor = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        return hidden_BTD[0]


class Units(Identified):
    """The nearest cell of each frame's features, as one level of codes. Each row is coded by itself."""

    context = Context(None, None)

    def __init__(self, features: Embedder, centroids_VD: Tensor, name: str = "hubert-units") -> None:
        """ValueError unless the cells have the channels of the features."""
        made = features.identity
        if centroids_VD.shape[1] != made.channels:
            raise ValueError(
                f"cells have {centroids_VD.shape[1]} channels; {made.source} has {made.channels}"
            )
        self.features, self.max_samples = features, features.max_samples
        self.centroids_VD = centroids_VD.float()
        cells = hashlib.sha256(self.centroids_VD.cpu().numpy().tobytes()).hexdigest()
        digest = hashlib.sha256(f"{made.to_json()} {cells}".encode()).hexdigest()
        rates = (made.sample_rate, made.hop_length)
        edition = f"{made.name}-{made.edition}"
        self.identity = TokenIdentity(name, edition, digest, *rates, 1, len(centroids_VD))

    @torch.no_grad()
    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 -> codes (B, 1, T)."""
        rows = []
        for wave_T, length in zip(wave_BT, lengths_B.tolist(), strict=True):
            features = self.features.embed(wave_T[None, :length], torch.tensor([length]))
            rows.append(nearest(features.latents_BTD[0], self.centroids_VD.to(features.latents_BTD.device)))
        if not rows:
            return Codes(torch.zeros(0, 1, 0, dtype=torch.int64), lengths_B)
        codes_BT, mask_BT = pad_rows(rows)
        return Codes(codes_BT[:, None], mask_BT.sum(dim=1))


def load(directory: Path, layer: int, device: str | torch.device = "cpu") -> Hubert:
    """Read config.json, model.safetensors and preprocessor_config.json of a `HubertModel`.

    FileNotFoundError or ValueError names the file that is missing or wrong.
    """
    check_layer(directory, layer)
    model, digest = read_pretrained("HubertModel", directory, "masked_spec_embed".__eq__)
    config = model.config
    del model.encoder.layers[layer:]
    given = directory / "preprocessor_config.json"
    described = json.loads(given.read_text(encoding="utf-8")) if given.is_file() else {}
    rate, normalises = described.get("sampling_rate", 16_000), bool(described.get("do_normalize", True))
    hop, channels = math.prod(config.conv_stride), config.hidden_size
    identity = TokenIdentity(NAME, f"layer-{layer}", digest, rate, hop, 0, 0, channels)
    return Hubert(model.to(device), layer, normalises, identity)


def save_units(units: Units, directory: Path) -> None:
    """`save_cells` of units."""
    save_cells(units.centroids_VD, units.features.identity, directory, units.name)


def save_cells(
    centroids_VD: Tensor, made: TokenIdentity, directory: Path, name: str = "hubert-units"
) -> None:
    """Write config.json and model.safetensors: the cells, and the identity of the features they are cells of."""
    files.write(
        directory,
        kind=UNITS,
        name=name,
        edition=f"{made.name}-{made.edition}",
        config={"features": made.as_dict()},
        weights={"centroids_VD": centroids_VD},
        dtype=torch.float32,
    )


def cells_of(directory: Path) -> TokenIdentity:
    """The identity of the features that a directory holds cells of. ValueError for another directory."""
    described = files.read_config(directory)
    made = described.get("config", {}).get("features")
    if described.get("kind") != UNITS or not isinstance(made, dict):
        raise ValueError(f"{directory} is no directory of kind {UNITS}")
    return TokenIdentity(**made)


def load_units(directory: Path, features: Embedder) -> Units:
    """Read what `save_units` wrote. ValueError if the cells are those of other features."""
    made, given = cells_of(directory), features.identity
    stored = files.read(directory)
    if set(stored.weights) != {"centroids_VD"}:
        raise ValueError(f"{directory} is no directory of kind {UNITS}")
    if made != given:
        raise ValueError(
            f"{directory} holds cells of {made.source} (weights {made.weights_sha256[:12]}), not of {given.source} "
            f"(weights {given.weights_sha256[:12]})"
        )
    return Units(features, stored.weights["centroids_VD"], stored.name)
