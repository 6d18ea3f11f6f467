"""Batches with a semantic token for each frame: the first codebook of the codes, or a column of another tokenizer.

Shapes: B rows, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.identity import TokenIdentity, check_frames, source_frame
from trainers.data import CodesBatch, collate_codes
from trainers.objectives import DataInfo
from trainers.plan import Item, Needs, Position
from trainers.store import Store

Semantic = Literal["codebook_0", "semantic_codes"]
"""Where semantic tokens come from: the first codebook of `codes`, or the column `semantic_codes`."""


@dataclass(frozen=True)
class SemanticBatch(CodesBatch):
    """Codes with their semantic tokens."""

    semantic_BT: Tensor
    """int64; 0 beyond a row's frames."""


class SemanticTokens:
    """Reads the semantic tokens of rows, one for each frame of the codes."""

    def __init__(self, semantic: Semantic, data: DataInfo) -> None:
        """ValueError if nothing says who made the column."""
        self.semantic, self.codes = semantic, codes_identity(data)
        self.identity = self.codes if semantic == "codebook_0" else column_identity("semantic_codes", data)

    @property
    def needs(self) -> Needs:
        """The column."""
        return Needs(columns=() if self.semantic == "codebook_0" else (self.semantic,))

    def batch(self, rows: Store, items: Sequence[Item], position: Position) -> SemanticBatch:
        """Codes of the items and their semantic tokens."""
        codes = collate_codes(rows, items, position)
        semantic_BT = codes.codes_BQT[:, 0].clone()
        if self.semantic != "codebook_0":
            semantic_BT.zero_()
            for row_T, item, frames in zip(semantic_BT, items, codes.lengths_B.tolist(), strict=True):
                row_T[:frames] = torch.from_numpy(self._read(rows, item, frames))
        return SemanticBatch(**vars(codes), semantic_BT=semantic_BT)

    def _read(self, rows: Store, item: Item, frames: int) -> npt.NDArray[np.int64]:
        tokens = rows.numbers(item.row, self.semantic)
        try:
            check_frames(int(rows.lengths[item.row]), self.codes, len(tokens), self.identity)
        except ValueError as error:
            raise ValueError(f"row {rows.id(item.row)}: {error}") from error
        wanted = range(item.start, item.start + frames)
        return tokens[[source_frame(frame, self.codes, self.identity, len(tokens)) for frame in wanted]]


def codes_identity(data: DataInfo) -> TokenIdentity:
    """The maker of `codes`."""
    name, _, edition = data.codec.partition("@")
    rates = (data.sample_rate, data.hop_length)
    sizes = (*rates, data.n_codebooks, data.codebook_size)
    chunks = (data.chunk_frames, data.chunk_stride)
    return TokenIdentity(name, edition, data.codec_sha256, *sizes, 0, False, *chunks)


def column_identity(column: str, data: DataInfo) -> TokenIdentity:
    """The maker of a column of tokens or latents. ValueError if the data does not say it."""
    if column not in data.columns:
        raise ValueError(
            f"nothing says which tokenizer made the column {column} of this data; declare it in the dataset, "
            "or in the files' metadata"
        )
    return data.columns[column]
