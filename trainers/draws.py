"""Randomness by place: what is drawn depends on the seed and the place in the data, not on what came before."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
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


def mix(values: npt.ArrayLike, key: int) -> npt.NDArray[np.uint64]:
    """A well-mixed 64-bit number for each value, another one for every key: seeds of many places at once.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014), applied to the value and the key in turn.
    """
    mixed = np.asarray(values).astype(np.uint64)
    for addend in (np.uint64(0x9E3779B97F4A7C15), np.uint64(key % (1 << 64))):
        mixed = mixed + addend  # wraps around, as it should
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
