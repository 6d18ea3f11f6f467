"""Randomness by place: what is drawn depends on the seed and the place in the data, not on what came before."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable values, the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_at(*place: object) -> torch.Generator:
    """A CPU generator for this place; the global generators, which dropout draws from, are seeded alike."""
    seed = seed_of(*place)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
