"""Codebook patterns: codes of several codebooks as one or more streams of tokens, and back.

A pattern knows shapes and ids only. Ids of a stream: codes, then `start` (before the first step, and where a stream has
not begun), then `stop`.
Shapes: B rows, Q codebooks, T frames, S steps, K streams, V ids of a stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NEVER = 1 << 40
"""A step that no sequence reaches."""


@dataclass(frozen=True)
class Pattern(ABC):
    """A way to write codes as tokens."""

    n_codebooks: int
    codebook_size: int

    @property
    @abstractmethod
    def n_streams(self) -> int:
        """K."""

    @property
    @abstractmethod
    def start(self) -> int:
        """The start token; the ids below it are codes."""

    @property
    def stop(self) -> int:
        """The stop token."""
        return self.start + 1

    @property
    def n_ids(self) -> int:
        """V."""
        return self.start + 2

    @abstractmethod
    def steps(self, n_frames: int) -> int:
        """Number of steps of so many frames, without the stop token of the first stream and what follows it."""

    @abstractmethod
    def frames(self, n_steps: int) -> int:
        """The most frames whose tokens, stop tokens included, take so many steps."""

    @abstractmethod
    def levels(self, n_steps: int) -> Tensor:
        """The codebook (S, K), int64, that the tokens of each step belong to."""

    @abstractmethod
    def write(self, codes_QT: Tensor) -> Tensor:
        """Tokens (S, K), int64, the stop token of every stream at its end."""

    @abstractmethod
    def read(self, tokens_SK: Tensor) -> Tensor:
        """Codes (Q, T) of the frames that are complete, up to the first token that is no code of its codebook."""

    @abstractmethod
    def allowed(self, step: int, stopped_B: Tensor) -> Tensor:
        """Ids that can stand at a step, bool (B, K, V). `stopped_B`: the step at which stream 0 stopped, or NEVER.

        A row has at least one frame.
        """


@dataclass(frozen=True)
class Interleaved(Pattern):
    """All codebooks of a frame one after another, in one stream. A frame takes Q steps.

    `ids`: each codebook has ids of its own, or `shared`: all have the same ones and only the place tells which
    codebook a token belongs to, as published.
    """

    ids: Literal["separate", "shared"] = "separate"

    @property
    def n_streams(self) -> int:
        """See Pattern."""
        return 1

    @property
    def start(self) -> int:
        """See Pattern."""
        return self.codebook_size * (1 if self.ids == "shared" else self.n_codebooks)

    def steps(self, n_frames: int) -> int:
        """See Pattern."""
        return n_frames * self.n_codebooks

    def frames(self, n_steps: int) -> int:
        """See Pattern."""
        return max(0, n_steps - 1) // self.n_codebooks

    def levels(self, n_steps: int) -> Tensor:
        """See Pattern. A stop token counts to the first codebook."""
        return torch.arange(n_steps)[:, None] % self.n_codebooks

    def write(self, codes_QT: Tensor) -> Tensor:
        """See Pattern."""
        flat_S = (codes_QT.T + self._first_ids(codes_QT.device)).flatten()
        return torch.cat([flat_S, flat_S.new_tensor([self.stop])])[:, None]

    def read(self, tokens_SK: Tensor) -> Tensor:
        """See Pattern."""
        n_frames = len(tokens_SK) // self.n_codebooks
        codes_TQ = tokens_SK[: n_frames * self.n_codebooks, 0].view(n_frames, self.n_codebooks)
        codes_TQ = codes_TQ - self._first_ids(tokens_SK.device)
        return codes_TQ[: _leading((codes_TQ >= 0) & (codes_TQ < self.codebook_size))].T

    def allowed(self, step: int, stopped_B: Tensor) -> Tensor:
        """See Pattern. A row can stop between frames only."""
        ids_V = torch.arange(self.n_ids, device=stopped_B.device)
        first = int(self._first_ids(torch.device("cpu"))[step % self.n_codebooks])
        allowed_V = (ids_V >= first) & (ids_V < first + self.codebook_size)
        if step > 0 and step % self.n_codebooks == 0:
            allowed_V = allowed_V | (ids_V == self.stop)
        return allowed_V.expand(len(stopped_B), 1, -1)

    def _first_ids(self, device: torch.device) -> Tensor:
        """The first id (Q,) of each codebook."""
        between = 0 if self.ids == "shared" else self.codebook_size
        return torch.arange(self.n_codebooks, device=device) * between


@dataclass(frozen=True)
class Delayed(Pattern):
    """A stream for each codebook, the k-th one k steps late (MusicGen, arXiv 2306.05284). A frame takes one step."""

    @property
    def n_streams(self) -> int:
        """See Pattern."""
        return self.n_codebooks

    @property
    def start(self) -> int:
        """See Pattern."""
        return self.codebook_size

    def steps(self, n_frames: int) -> int:
        """See Pattern."""
        return n_frames

    def frames(self, n_steps: int) -> int:
        """See Pattern."""
        return max(0, n_steps - self.n_codebooks)

    def levels(self, n_steps: int) -> Tensor:
        """See Pattern."""
        return torch.arange(self.n_codebooks).expand(n_steps, -1)

    def write(self, codes_QT: Tensor) -> Tensor:
        """See Pattern."""
        n_frames = codes_QT.shape[1]
        tokens_SK = codes_QT.new_full((n_frames + self.n_codebooks, self.n_codebooks), self.stop)
        for stream, codes_T in enumerate(codes_QT):
            tokens_SK[:stream, stream] = self.start
            tokens_SK[stream : stream + n_frames, stream] = codes_T
        return tokens_SK

    def read(self, tokens_SK: Tensor) -> Tensor:
        """See Pattern."""
        n_frames = max(0, len(tokens_SK) - self.n_codebooks + 1)
        codes_QT = torch.stack([tokens_SK[k : k + n_frames, k] for k in range(self.n_codebooks)])
        return codes_QT[:, : _leading((codes_QT < self.codebook_size).T)]

    def allowed(self, step: int, stopped_B: Tensor) -> Tensor:
        """See Pattern. The k-th stream stops k steps after the first."""
        ids_V = torch.arange(self.n_ids, device=stopped_B.device)
        streams_K1 = torch.arange(self.n_codebooks, device=stopped_B.device)[:, None]
        ended_BK1 = stopped_B[:, None, None] + streams_K1 <= step
        stops_KV = (ids_V == self.stop) & (streams_K1 == 0) & (step > 0)
        codes_KV = (ids_V < self.codebook_size) | stops_KV
        begun_KV = torch.where(streams_K1 <= step, codes_KV, ids_V == self.start)
        return torch.where(ended_BK1, ids_V == self.stop, begun_KV)


def _leading(valid_TQ: Tensor) -> int:
    """Number of frames before the first that is not valid in every codebook."""
    return int(valid_TQ.all(1).long().cumprod(0).sum())
