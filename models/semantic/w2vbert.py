"""Hidden states of w2v-BERT 2.0 (arXiv 2312.05187): B rows, T frames, D channels."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from models.checkpoints import read_tensors
from models.codecs import files
from models.codecs.interface import Identified, Latents, check_longest, check_wave
from models.codecs.pretrained import read_pretrained
from models.identity import TokenIdentity
from models.layers.masks import length_mask
from models.semantic.filter_bank import HOP, SAMPLE_RATE, frame_counts, log_mel_frames
from models.semantic.relative_attention import share_distances

PUBLISHED = "facebook/w2v-bert-2.0"
"""On the Hugging Face Hub; its weights are under the MIT licence."""
NAME = "w2v-bert-2.0"
MASKGCT_LAYER = 17
"""Hidden state that MaskGCT's semantic codec reads."""
_LONGEST_S = 60


class W2vBert(Identified):
    """Features of one layer; the layers above it do not exist. Its attention needs memory for each pair of frames.

    A row has a frame for every 20 ms that is begun by a filter bank's window (`filter_bank.frame_counts`), as in
    transformers: 49 of 1 s. The last one may be half filled; no other frame sees it then.
    """

    max_samples: int | None = _LONGEST_S * SAMPLE_RATE

    def __init__(self, model: Any, identity: TokenIdentity, statistics: Mapping[str, Tensor] | None) -> None:
        """`model`: a `Wav2Vec2BertModel` cut above the layer. `statistics`: `mean` and `var` (D,) to normalise by."""
        self.identity, self.model = identity, model
        self.device = next(model.parameters()).device
        self.precision = torch.float32
        given = statistics or {"mean": torch.zeros(1), "var": torch.ones(1)}
        self.mean_D, self.deviation_D = given["mean"].to(self.device), given["var"].to(self.device).sqrt()

    def at_precision(self, precision: torch.dtype) -> Self:
        """The same with a copy of the network in another precision; another edition."""
        other = copy.copy(self)
        other.model, other.precision = copy.deepcopy(self.model).to(precision), precision
        edition = f"{self.edition}+{str(precision).removeprefix('torch.')}"
        other.identity = replace(self.identity, edition=edition)
        return other

    @torch.no_grad()
    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> features (B, T, D) float32, normalised; equal in any batch up to rounding."""
        check_wave(wave_BT, lengths_B)
        check_longest(self.name, lengths_B.tolist(), self.max_samples, "samples")
        lengths_B = lengths_B.to(self.device)
        frames_BTN, mask_BT = log_mel_frames(wave_BT.to(self.device), lengths_B)
        counts_B = frame_counts(lengths_B)
        if not frames_BTN.shape[1]:
            return Latents(frames_BTN.new_zeros(len(wave_BT), 0, self.identity.channels), counts_B)
        hidden_BTD = self.model(frames_BTN.to(self.precision), attention_mask=mask_BT).last_hidden_state
        normal_BTD = (hidden_BTD.float() - self.mean_D) / self.deviation_D
        present_BT1 = length_mask(counts_B, normal_BTD.shape[1])[..., None]
        return Latents(torch.where(present_BT1, normal_BTD, 0.0), counts_B)


def load(
    directory: Path,
    statistics: Path | None = None,
    layer: int = MASKGCT_LAYER,
    device: str | torch.device = "cpu",
) -> W2vBert:
    """Read config.json and model.safetensors of a `Wav2Vec2BertModel`; weights above `layer` are left out.

    `statistics`: a file with `mean` and `var` of that layer, such as amphion/MaskGCT's wav2vec2bert_stats.pt; without
    it features are not normalised. FileNotFoundError or ValueError names the file that is missing or wrong.
    """
    check_layer(directory, layer)

    def above(name: str) -> bool:
        place = name.removeprefix("encoder.layers.").partition(".")[0]
        return name == "masked_spec_embed" or (place.isdigit() and int(place) >= layer)

    model, digest = read_pretrained("Wav2Vec2BertModel", directory, above, num_hidden_layers=layer)
    share_distances(model)
    edition, given = f"layer-{layer}", None
    channels = model.config.hidden_size
    if statistics is not None:
        given = _statistics(statistics, channels)
        digest = hashlib.sha256(
            f"{digest} {hashlib.sha256(statistics.read_bytes()).hexdigest()}".encode()
        ).hexdigest()
        edition += "-normalised"
    identity = TokenIdentity(NAME, edition, digest, SAMPLE_RATE, HOP, 0, 0, channels)
    return W2vBert(model.to(device), identity, given)


def check_layer(directory: Path, layer: int) -> None:
    """Raise ValueError unless the model of that directory has so many layers."""
    present = files.read_config(directory).get("num_hidden_layers")
    if not isinstance(present, int) or not 1 <= layer <= present:
        raise ValueError(f"layer is {layer}; {directory} has layers 1 to {present}")


def _statistics(path: Path, channels: int) -> dict[str, Tensor]:
    given = read_tensors(path)
    if set(given) != {"mean", "var"}:
        raise ValueError(f"{path} holds {', '.join(sorted(given))}; it must hold mean and var")
    for name, value in given.items():
        if value.shape != (channels,):
            raise ValueError(f"{path}: {name} has shape {tuple(value.shape)}, not ({channels},)")
    if not (given["var"] > 0).all():
        raise ValueError(f"{path}: every var must be above 0")
    return given
