"""Objectives of generators that read text: its tokens in batches, audible samples, warm starts, generator directories.

Shapes: B rows, L text tokens, T frames, Q levels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from models.codec_sources import load_codec
from models.codecs.interface import Codec, Codes
from models.generators import load_generator, save_generator
from trainers.data import CodesBatch, collate_codes
from trainers.objectives import DataInfo, Objective, Sample
from trainers.plan import Item, Needs, Position
from trainers.store import Store
from trainers.text_tokens import LEGACY, TextTokens, completed


@dataclass(frozen=True)
class TextBatch(CodesBatch):
    """Codes with their text."""

    text_BL: Tensor
    """Token ids, int64, padded on the right, L at least 1."""
    text_mask_BL: Tensor
    """Bool, true at tokens."""


B = TypeVar("B", bound=TextBatch)


class GeneratorObjective(Objective[B]):
    """Base of objectives with one network, whose settings have a section `text`."""

    family: ClassVar[str]
    """The trainable's name."""
    legacy = LEGACY
    network: nn.Module

    def __init__(self, network: nn.Module, settings: Any, data: DataInfo) -> None:
        super().__init__(data)
        self.network = network
        self.tokens_of = TextTokens(settings.text, data.text)
        self._codec: Codec | None = None

    @classmethod
    def resolve(cls, settings: Any, data: DataInfo) -> Any:
        """With all settings of the text front end."""
        return replace(settings, text=completed(settings.text, data.text))

    @classmethod
    def needs(cls, settings: Any, data: DataInfo) -> Needs:
        """The column that the text front end reads."""
        return TextTokens(settings.text, data.text).needs

    def prepare_samples(self) -> None:
        """Load the codec. ValueError or FileNotFoundError if it is not there, or is another one by now."""
        self._codec = load_codec(self.data.codec, next(self.network.parameters()).device)
        if self._codec.weights_sha256 != self.data.codec_sha256:
            raise ValueError(
                f"the data was made by {self.data.codec} with the weights {self.data.codec_sha256[:12]}, "
                f"which are now {self._codec.weights_sha256[:12]}: prepare the data again"
            )

    def heard(self, ids: Sequence[str], what: str, codes: Codes) -> list[Sample]:
        """Samples `ID-what` of codes, after `prepare_samples`."""
        assert self._codec is not None
        wave = self._codec.decode(codes)
        rows = zip(ids, wave.wave_BT, wave.lengths_B.tolist(), strict=True)
        return [Sample(f"{row}-{what}", wave_T[:n], wave.sample_rate) for row, wave_T, n in rows]

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a generator directory of the same family and sizes."""
        family, module = load_generator(directory)
        if family != self.family or module.config != self.network.config:
            raise ValueError(
                f"{directory} holds a {family} of {module.config}, not a {self.family} of {self.network.config}"
            )
        self.network.load_state_dict(module.state_dict())

    def export(self, directory: Path) -> None:
        """A generator directory, and the text front end in `text.json`, its files in `text/`."""
        save_generator(self.network, self.family, directory)
        text = json.dumps(self.tokens_of.front_end.save(directory))
        (directory / "text.json").write_text(text + "\n", encoding="utf-8")


def collate_text(tokens_of: TextTokens, rows: Store, items: Sequence[Item], position: Position) -> TextBatch:
    """Codes of the items and tokens of their texts."""
    codes = collate_codes(rows, items, position)
    text_BL, mask_BL = pad_tokens([tokens_of(rows, item.row) for item in items])
    return TextBatch(**vars(codes), text_BL=text_BL, text_mask_BL=mask_BL)


def pad_tokens(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids int64 (B, L), L at least 1, and a bool mask (B, L)."""
    longest = max(1, max(map(len, rows)))
    ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return ids_BL, torch.arange(longest) < lengths_B[:, None]
