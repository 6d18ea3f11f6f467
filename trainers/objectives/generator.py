"""Objectives of generators that read text: its tokens in batches, its front end beside the weights.

Shapes: B rows, L text tokens, T frames, Q levels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trainers.data import CodesBatch, collate_codes
from trainers.objectives import DataInfo
from trainers.objectives.network import NetworkObjective
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


class GeneratorObjective(NetworkObjective[B]):
    """Base of objectives with one network, whose settings have a section `text`."""

    legacy = LEGACY

    def __init__(self, network: nn.Module, settings: Any, data: DataInfo) -> None:
        super().__init__(network, data)
        self.tokens_of = TextTokens(settings.text, data.text)

    @classmethod
    def resolve(cls, settings: Any, data: DataInfo) -> Any:
        """With all settings of the text front end."""
        return replace(settings, text=completed(settings.text, data.text))

    @classmethod
    def needs(cls, settings: Any, data: DataInfo) -> Needs:
        """The column that the text front end reads."""
        return TextTokens(settings.text, data.text).needs

    def export(self, directory: Path) -> None:
        """A generator directory, and the text front end in `text.json`, its files in `text/`."""
        super().export(directory)
        text = json.dumps(self.tokens_of.front_end.save(directory))
        (directory / "text.json").write_text(text + "\n", encoding="utf-8")


def collate_text(
    tokens_of: TextTokens,
    rows: Store,
    items: Sequence[Item],
    position: Position,
    said: Sequence[bool] | None = None,
) -> TextBatch:
    """Codes of the items and tokens of their texts; of the empty text where `said` is false."""
    codes = collate_codes(rows, items, position)
    kept = [True] * len(items) if said is None else said
    tokens = [
        tokens_of(rows, item.row) if one else tokens_of.of_nothing()
        for item, one in zip(items, kept, strict=True)
    ]
    text_BL, mask_BL = pad_tokens(tokens)
    return TextBatch(**vars(codes), text_BL=text_BL, text_mask_BL=mask_BL)


def pad_tokens(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids int64 (B, L), L at least 1, and a bool mask (B, L)."""
    longest = max(1, max(map(len, rows)))
    ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return ids_BL, torch.arange(longest) < lengths_B[:, None]
