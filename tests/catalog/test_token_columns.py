"""Values of token columns, rule by rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from catalog.schema import SCHEMA
from catalog.token_columns import check_values, pack_latents, unpack_latents
from models.identity import TokenIdentity

CODEC = TokenIdentity("toy", "1", "00ff", 16000, 320, 2, 1024)
LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=4)
TOKENS = TokenIdentity("semantic", "2", "22ee", 16000, 640, 1, 50)
SPEAKER = dataclasses.replace(LATENTS, name="speaker", hop_length=0)


def problems(column: str, maker: TokenIdentity, values: list[object], frames: list[int | None]) -> list[str]:
    """Of rows with these values and lengths."""
    rows = pa.table(
        {
            column: pa.chunked_array([pa.array(values, SCHEMA.field(column).type)]),
            "target_length": pa.array(frames, pa.int32()),
        }
    )
    return list(check_values(rows, CODEC, {column: maker}))


def vectors(count: int) -> bytes:
    return bytes(8 * count)


def test_latents_are_whole_frames_as_long_as_the_codes() -> None:
    assert problems("latents", LATENTS, [vectors(9), vectors(11), None, vectors(1)], [10, 10, 3, None]) == []
    assert problems("latents", LATENTS, [vectors(3), b"1234567"], [3, 3]) == [
        "latents holds values that are no whole frames of 4 channels"
    ]
    assert problems("latents", LATENTS, [None, vectors(10), vectors(13), vectors(99)], [1, 10, 10, 10]) == [
        "row 2: latents: encoder has 13 frames beside 10 of toy; expected 10, at most 2 more or fewer"
    ]


def test_a_voice_is_one_vector_a_row() -> None:
    assert problems("latents", SPEAKER, [vectors(1), None, vectors(1)], [10, 3, 1]) == []
    for count in (0, 2):
        assert problems("latents", SPEAKER, [vectors(1), None, vectors(count), vectors(3)], [9] * 4) == [
            f"row 2 has {count} vectors of latents, must be one"
        ]


def test_tokens_are_of_their_codebook_and_half_as_many_as_the_codes() -> None:
    assert problems("semantic_codes", TOKENS, [[0, 49], [1], None], [4, 2, 9]) == []
    assert problems("semantic_codes", TOKENS, [None, None], [4, 2]) == []
    assert problems("semantic_codes", TOKENS, [[0, 50]], [4]) == [
        "semantic_codes holds 50, the codebook has 50 entries"
    ]
    assert problems("semantic_codes", TOKENS, [[-1, 51]], [4]) == [
        "semantic_codes holds -1, the codebook has 50 entries"
    ]
    assert problems("semantic_codes", TOKENS, [[], [1] * 9], [0, 40]) == [
        "row 0: semantic_codes: semantic has 0 frames beside 0 of toy; expected 0, at most 2 more or fewer"
    ]


def test_the_columns_are_checked_one_after_the_other() -> None:
    rows = pa.table(
        {
            "semantic_codes": pa.array([[99]], pa.list_(pa.int32())),
            "latents": pa.array([b"123"], pa.binary()),
            "target_length": pa.array([2], pa.int32()),
        }
    )
    found = list(check_values(rows, CODEC, {"latents": LATENTS, "semantic_codes": TOKENS}))
    assert found == [
        "latents holds values that are no whole frames of 4 channels",
        "semantic_codes holds 99, the codebook has 50 entries",
    ]


def test_latents_are_packed_little_endian_frame_by_frame() -> None:
    packed = pack_latents(np.array([[1.0, -2.0], [0.5, 65504.0]]))
    assert packed.hex() == "003c00c00038ff7b"
    assert unpack_latents(memoryview(packed), 2).tolist() == [[1.0, -2.0], [0.5, 65504.0]]
    assert unpack_latents(b"", 3).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_values_that_halves_cannot_hold(value: float) -> None:
    with pytest.raises(ValueError, match="NaN, infinity or values beyond 65504"):
        pack_latents(np.array([[0.0, value]]))


def test_other_shapes_are_no_latents() -> None:
    with pytest.raises(ValueError, match=r"latents have shape \(3,\), must be \(frames, channels\)"):
        pack_latents(np.zeros(3))
    for size, channels in ((8, 0), (8, 3), (4, 4)):
        with pytest.raises(
            ValueError, match=f"^{size} bytes of latents are no whole frames of {channels} channels"
        ):
            unpack_latents(bytes(size), channels)
    assert unpack_latents(bytes(8), 1).shape == (4, 1)
