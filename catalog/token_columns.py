"""Columns of tokens or latents besides `codes`: how they are stored, and the rules that their values keep.

`semantic_codes` is a list of ids per row. `latents` is `binary`: float16, little-endian, (T, D), because Delta Lake has
no half floats.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.identity import Columns
from catalog.schema import TOKEN_COLUMNS
from models.identity import TokenIdentity, check_frames

_HALF = np.dtype("<f2")


def pack_latents(latents_TD: npt.NDArray[np.floating]) -> bytes:
    """Latents (T, D) as a value of the column. ValueError for another shape and for values that float16 cannot hold."""
    if latents_TD.ndim != 2:
        raise ValueError(f"latents have shape {latents_TD.shape}, must be (frames, channels)")
    with np.errstate(over="ignore"):
        halves = latents_TD.astype(_HALF)
    if not np.isfinite(halves).all():
        raise ValueError("latents hold NaN, infinity or values beyond 65504, which float16 cannot hold")
    return halves.tobytes()


def unpack_latents(data: bytes | memoryview, channels: int) -> npt.NDArray[np.float16]:
    """A value of the column as (T, D), without a copy. ValueError where its size does not fit the channels."""
    if channels < 1 or len(data) % (_HALF.itemsize * channels):
        raise ValueError(f"{len(data)} bytes of latents are no whole frames of {channels} channels")
    return np.frombuffer(data, _HALF).reshape(-1, channels)


def check_column(name: str, identity: TokenIdentity) -> None:
    """ValueError where the column cannot hold what the identity describes."""
    if name not in TOKEN_COLUMNS:
        raise ValueError(f"column is {name!r}, must be one of {', '.join(TOKEN_COLUMNS)}")
    is_latent = identity.channels > 0
    if is_latent != (name == "latents"):
        holds = f"latents of {identity.channels} channels" if is_latent else "tokens"
        raise ValueError(f"{name} cannot hold the {holds} of {identity.source}")
    if not is_latent and identity.n_codebooks != 1:
        raise ValueError(
            f"{name} holds one codebook, {identity.source} has {identity.n_codebooks}; store it as codes"
        )


def check_values(rows: pa.Table, codec: TokenIdentity, columns: Columns) -> Iterator[str]:
    """Rules that values of token columns break: their range, and their length beside `target_length`."""
    for name, identity in columns.items():
        values = rows[name].combine_chunks()
        frames = pc.list_value_length(values) if identity.channels == 0 else pc.binary_length(values)
        if identity.channels:
            size = _HALF.itemsize * identity.channels
            if pc.any(
                pc.not_equal(pc.subtract(frames, pc.multiply(pc.divide(frames, size), size)), 0)
            ).as_py():
                yield f"{name} holds values that are no whole frames of {identity.channels} channels"
                continue
            frames = pc.divide(frames, size)
        elif len(ids := values.flatten()):
            least, most = pc.min_max(ids).as_py().values()
            if least < 0 or most >= identity.codebook_size:
                yield f"{name} holds {least if least < 0 else most}, the codebook has {identity.codebook_size} entries"
        yield from _off_length(name, frames, rows["target_length"], codec, identity)


def _off_length(
    name: str, frames: pa.Array, target_frames: pa.ChunkedArray, codec: TokenIdentity, identity: TokenIdentity
) -> Iterator[str]:
    """The first row whose length does not fit that of its codes."""
    for row, (found, target) in enumerate(zip(frames.to_pylist(), target_frames.to_pylist(), strict=True)):
        if found is None or target is None:
            continue
        if identity.hop_length == 0:
            if found != 1:
                yield f"row {row} has {found} vectors of {name}, must be one"
                return
            continue
        try:
            check_frames(target, codec, found, identity)
        except ValueError as error:
            yield f"row {row}: {name}: {error}"
            return
