"""What every codec promises (models/codecs/interface.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.codecs.interface import Codec, Codes

Sweep = Callable[[int, int], Tensor]
LENGTHS = [1, 319, 320, 321, 5000, 0, 7777]


def encode_one(codec: Codec, wave_T: Tensor) -> Tensor:
    return codec.encode(wave_T[None], torch.tensor([len(wave_T)])).codes_BQT[0]


def padded(rows: list[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    lengths_B = torch.tensor([len(row) for row in rows])
    # What lies beyond a row's length must not matter, so it is not zero here.
    wave_BT = torch.full((len(rows), int(lengths_B.max()) + extra), 0.7)
    for row, wave_T in zip(wave_BT, rows, strict=True):
        row[: len(wave_T)] = wave_T
    return wave_BT, lengths_B


def test_frames_are_hops_rounded_up_and_codes_in_range(codec: Codec, sweep: Sweep) -> None:
    rows = [sweep(length, seed) for seed, length in enumerate(LENGTHS)]
    codes = codec.encode(*padded(rows))
    hop = codec.hop_length
    assert codes.lengths_B.tolist() == [-(-length // hop) for length in LENGTHS]
    assert codes.codes_BQT.shape == (len(LENGTHS), codec.n_codebooks, max(codes.lengths_B.tolist()))
    assert codes.codes_BQT.dtype == torch.int64
    assert int(codes.codes_BQT.max() - codes.codes_BQT.min()) < codec.codebook_size


def test_codes_of_a_row_do_not_depend_on_its_batch(codec: Codec, sweep: Sweep) -> None:
    rows = [sweep(length, seed) for seed, length in enumerate(LENGTHS)]
    codes = codec.encode(*padded(rows, extra=1000))
    for index, wave_T in enumerate(rows):
        frames = int(codes.lengths_B[index])
        assert torch.equal(codes.codes_BQT[index, :, :frames], encode_one(codec, wave_T))


def test_codes_do_not_depend_on_the_number_of_threads(codec: Codec, sweep: Sweep) -> None:
    wave_T, before = sweep(30_000, 1), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = encode_one(codec, wave_T)
        torch.set_num_threads(2)
        two = encode_one(codec, wave_T)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_a_frame_depends_on_the_past_and_future_by_a_bounded_number_of_frames(
    codec: Codec, sweep: Sweep
) -> None:
    wave_T, hop = sweep(32_000, 2), codec.hop_length
    whole = encode_one(codec, wave_T)
    context = 20 * hop
    middle = encode_one(codec, wave_T[12_800 - context : 19_200 + context])[:, 20:]
    assert torch.equal(whole[:, 12_800 // hop : 19_200 // hop], middle[:, : 6_400 // hop])


def test_decode_of_a_batch_is_decode_of_each_row(codec: Codec, sweep: Sweep) -> None:
    rows = [sweep(length, seed) for seed, length in enumerate([5000, 320, 3000])]
    codes = codec.encode(*padded(rows))
    wave = codec.decode(codes)
    assert wave.sample_rate == codec.sample_rate
    assert wave.lengths_B.tolist() == (codes.lengths_B * codec.hop_length).tolist()
    for index, length in enumerate(codes.lengths_B.tolist()):
        alone = codec.decode(Codes(codes.codes_BQT[index : index + 1, :, :length], torch.tensor([length])))
        samples = length * codec.hop_length
        torch.testing.assert_close(wave.wave_BT[index, :samples], alone.wave_BT[0])
        assert not wave.wave_BT[index, samples:].any()
    assert wave.wave_BT.dtype == torch.float32
    assert float(wave.wave_BT.abs().max()) <= 1.0


def test_the_first_levels_decode_and_embed(codec: Codec, sweep: Sweep) -> None:
    codes = codec.encode(*padded([sweep(3200, 0)]))
    frames = int(codes.lengths_B[0])
    for levels in range(1, codec.n_codebooks + 1):
        part = Codes(codes.codes_BQT[:, :levels], codes.lengths_B)
        assert codec.decode(part).wave_BT.shape == (1, frames * codec.hop_length)
        vectors_BDT = codec.embed(part.codes_BQT)
        assert vectors_BDT.shape[0] == 1
        assert vectors_BDT.shape[2] == frames
        assert vectors_BDT.dtype == torch.float32


def test_ranges_of_levels_add_up(codec: Codec, sweep: Sweep) -> None:
    codes_BQT = codec.encode(*padded([sweep(3200, 0)])).codes_BQT
    whole_BDT = codec.embed(codes_BQT)
    for cut in range(1, codec.n_codebooks):
        parts_BDT = codec.embed(codes_BQT[:, :cut]) + codec.embed(codes_BQT[:, cut:], cut)
        torch.testing.assert_close(parts_BDT, whole_BDT, rtol=1e-4, atol=1e-5)


def test_the_identity_is_spelled_out(codec: Codec) -> None:
    identity = codec.identity
    spelled = (codec.name, codec.edition, codec.weights_sha256, codec.sample_rate, codec.hop_length)
    assert spelled == dataclasses.astuple(identity)[:5]
    assert (codec.n_codebooks, codec.codebook_size) == (identity.n_codebooks, identity.codebook_size)


def test_an_empty_wave_has_no_codes_and_no_sound(codec: Codec) -> None:
    codes = codec.encode(torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64))
    assert codes.codes_BQT.shape == (2, codec.n_codebooks, 0)
    assert codec.decode(codes).wave_BT.shape == (2, 0)


@pytest.mark.parametrize(
    ("wave_BT", "lengths_B", "message"),
    [
        (torch.zeros(2, 3, 4), torch.tensor([1, 1]), r"torch.float32 \(2, 3, 4\); expected floating point"),
        (torch.zeros(2, 4, dtype=torch.int16), torch.tensor([1, 1]), "torch.int16"),
        (torch.full((1, 4), float("nan")), torch.tensor([4]), "NaN"),
        (torch.zeros(1, 4), torch.tensor([5]), r"lengths are \[5\]; expected 0 to 4 samples"),
        (torch.zeros(2, 4), torch.tensor([4]), r"one per row, \(2,\)"),
    ],
)
def test_bad_waves_are_refused(codec: Codec, wave_BT: Tensor, lengths_B: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode(wave_BT, lengths_B)


def test_bad_codes_are_refused(codec: Codec) -> None:
    one = torch.zeros(1, 1, 2, dtype=torch.int64)
    too_many = torch.zeros(1, codec.n_codebooks + 1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"this codec takes 1 to {codec.n_codebooks}"):
        codec.embed(too_many)
    with pytest.raises(ValueError, match=f"first_level is {codec.n_codebooks}; this codec has levels 0 to"):
        codec.embed(one, codec.n_codebooks)
    with pytest.raises(ValueError, match="this codec's codes are"):
        codec.embed(one + codec.codebook_size)
    with pytest.raises(ValueError, match=r"torch.float32 \(1, 1, 2\); expected integers"):
        codec.embed(one.float())
    with pytest.raises(ValueError, match=r"lengths are \[3\]; expected 0 to 2 frames"):
        codec.decode(Codes(one, torch.tensor([3])))
