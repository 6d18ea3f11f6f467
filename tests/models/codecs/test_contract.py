"""The contract of every codec (models/codecs/interface.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.interface import Codec, Codes, Latents
from models.codecs.latents import has_latents
from models.codecs.rows import RowCodec
from models.identity import TokenIdentity, aligned_frames

Sweep = Callable[[int, int], Tensor]
Frames = Callable[[int], int]
LENGTHS = [1, 319, 320, 321, 5000, 0, 7777]


def encode_one(codec: Codec, wave_T: Tensor) -> Tensor:
    return codec.encode(wave_T[None], torch.tensor([len(wave_T)])).codes_BQT[0]


def decode_one(codec: Codec, codes_QT: Tensor) -> Tensor:
    return codec.decode(Codes(codes_QT[None], torch.tensor([codes_QT.shape[1]]))).wave_BT[0]


def padded(rows: list[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    lengths_B = torch.tensor([len(row) for row in rows])
    # What lies beyond a row's length must not matter, so it is not zero here.
    wave_BT = torch.full((len(rows), int(lengths_B.max()) + extra), 0.7)
    for row, wave_T in zip(wave_BT, rows, strict=True):
        row[: len(wave_T)] = wave_T
    return wave_BT, lengths_B


def test_frames_are_as_many_as_said_and_codes_in_range(codec: Codec, frames_of: Frames, sweep: Sweep) -> None:
    rows = [sweep(length, seed) for seed, length in enumerate(LENGTHS)]
    codes = codec.encode(*padded(rows))
    assert codes.lengths_B.tolist() == [frames_of(length) for length in LENGTHS]
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
    if isinstance(codec, RowCodec):
        pytest.skip("rounds in float32, and a near tie may fall the other way")
    wave_T, before = sweep(30_000, 1), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = encode_one(codec, wave_T)
        torch.set_num_threads(2)
        two = encode_one(codec, wave_T)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_rows_cut_with_context_have_the_codes_of_the_whole(codec: Codec, sweep: Sweep) -> None:
    context, hop = codec.context.encode, codec.hop_length
    if context is None:
        pytest.skip("a frame depends on its whole row")
    first, last = context + 3, context + 12
    wave_T = sweep((2 * context + 15) * hop, 2)
    whole_QT = encode_one(codec, wave_T)
    part_QT = encode_one(codec, wave_T[3 * hop : (last + context) * hop])
    assert torch.equal(part_QT[:, context : context + 9], whole_QT[:, first:last])
    assert len(whole_QT.unique()) > 1


def test_codes_cut_with_context_sound_like_the_whole(codec: Codec, sweep: Sweep) -> None:
    context, hop = codec.context.decode, codec.hop_length
    if context is None:
        pytest.skip("a sample depends on the whole row")
    codes_QT = encode_one(codec, sweep((2 * context + 15) * hop, 2))
    whole_T = decode_one(codec, codes_QT)
    part_T = decode_one(codec, codes_QT[:, 3 : 12 + 2 * context])
    first = context * hop
    part_T = part_T[first : first + 9 * hop]
    torch.testing.assert_close(part_T, whole_T[3 * hop :][first : first + 9 * hop], rtol=0, atol=1e-4)


def test_long_rows_in_pieces_are_as_at_once(codec: Codec, sweep: Sweep) -> None:
    if not isinstance(codec, RowCodec):
        pytest.skip("has pieces of a fixed length")
    wave_T = sweep(20 * codec.hop_length + 7, 3)
    codec.piece_frames = 1000
    codes_QT = encode_one(codec, wave_T)
    sound_T = decode_one(codec, codes_QT)
    codec.piece_frames = 3
    assert torch.equal(encode_one(codec, wave_T), codes_QT)
    torch.testing.assert_close(decode_one(codec, codes_QT), sound_T, rtol=0, atol=1e-4)


def test_rows_longer_than_the_maximum_are_refused_first(codec: Codec) -> None:
    if codec.max_samples is None:
        pytest.skip("takes rows of any length")
    longest = codec.max_samples
    with pytest.raises(ValueError, match=f"a row has {longest + 1} samples; .* takes at most {longest}"):
        codec.encode(torch.zeros(1, 1).expand(1, longest + 1), torch.tensor([longest + 1]))


def test_latents_are_what_is_quantized(codec: Codec, sweep: Sweep) -> None:
    if not has_latents(codec):
        pytest.skip("has no latents")
    waves = padded([sweep(5000, 0), sweep(3000, 1)], extra=500)
    codes, latents = codec.encode(*waves), codec.encode_latents(*waves)
    assert latents.latents_BTD.dtype == torch.float32
    assert latents.latents_BTD.shape == (2, codes.codes_BQT.shape[2], codec.latents.channels)
    assert torch.equal(latents.lengths_B, codes.lengths_B)
    alone_TD = codec.encode_latents(sweep(3000, 1)[None], torch.tensor([3000])).latents_BTD[0]
    assert torch.equal(latents.latents_BTD[1, : len(alone_TD)], alone_TD)
    assert not latents.latents_BTD[1, len(alone_TD) :].any()
    vectors_BTD = codec.embed(codes.codes_BQT).transpose(1, 2)
    by_vectors = codec.decode_latents(Latents(vectors_BTD, codes.lengths_B))
    torch.testing.assert_close(by_vectors.wave_BT, codec.decode(codes).wave_BT, rtol=0, atol=1e-4)
    assert codec.decode_latents(latents).wave_BT.shape == by_vectors.wave_BT.shape
    with pytest.raises(
        ValueError, match=rf"expected floating point \(batch, frames, {codec.latents.channels}\)"
    ):
        codec.decode_latents(Latents(vectors_BTD[:, :0, :0], codes.lengths_B))
    with pytest.raises(ValueError, match=r"lengths are \[9999, 1\]"):
        codec.decode_latents(Latents(vectors_BTD, torch.tensor([9999, 1])))


def test_bfloat16_is_an_edition_of_its_own(codec: Codec, sweep: Sweep) -> None:
    if not isinstance(codec, RowCodec):
        pytest.skip("codes in one precision only")
    wave_T = sweep(5000, 0)
    exact_QT = encode_one(codec, wave_T)
    half = codec.at_precision(torch.bfloat16)
    assert half.edition == f"{codec.edition}+bfloat16"
    assert encode_one(half, wave_T).shape == exact_QT.shape
    sound_T = decode_one(half, exact_QT)
    assert sound_T.dtype == torch.float32
    assert float((sound_T - decode_one(codec, exact_QT)).square().mean().sqrt()) < 0.05
    assert torch.equal(encode_one(codec, wave_T), exact_QT)


def test_decode_of_a_batch_is_decode_of_each_row(codec: Codec, samples_of: Frames, sweep: Sweep) -> None:
    rows = [sweep(length, seed) for seed, length in enumerate([5000, 320, 3000])]
    codes = codec.encode(*padded(rows))
    wave = codec.decode(codes)
    assert wave.sample_rate == codec.sample_rate
    assert wave.lengths_B.tolist() == [samples_of(frames) for frames in codes.lengths_B.tolist()]
    for index, length in enumerate(codes.lengths_B.tolist()):
        alone = codec.decode(Codes(codes.codes_BQT[index : index + 1, :, :length], torch.tensor([length])))
        samples = samples_of(length)
        torch.testing.assert_close(wave.wave_BT[index, :samples], alone.wave_BT[0])
        assert not wave.wave_BT[index, samples:].any()
    assert wave.wave_BT.dtype == torch.float32
    assert float(wave.wave_BT.abs().max()) <= 1.0


def test_the_first_levels_decode_and_embed(codec: Codec, samples_of: Frames, sweep: Sweep) -> None:
    codes = codec.encode(*padded([sweep(3200, 0)]))
    frames = int(codes.lengths_B[0])
    for levels in range(1, codec.n_codebooks + 1):
        part = Codes(codes.codes_BQT[:, :levels], codes.lengths_B)
        assert codec.decode(part).wave_BT.shape == (1, samples_of(frames))
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


def test_the_identity_says_how_many_frames(codec: Codec, frames_of: Frames, samples_of: Frames) -> None:
    """Where a codec counts otherwise, it is by one at most, which alignment tolerates."""
    for samples in (1, 319, 320, 4800, 5001, 47_520, 100_003):
        assert abs(codec.identity.frames(samples) - frames_of(samples)) <= 1
        frames = frames_of(samples)
        assert samples_of(frames) == codec.identity.samples(frames)
    clock = TokenIdentity("clock", "1", "", codec.sample_rate, 480, 1, 16)
    wave_s = 3
    frames, ticks = frames_of(wave_s * codec.sample_rate), -(-wave_s * codec.sample_rate // 480)
    read = aligned_frames(ticks, clock, frames, codec.identity)
    assert read == sorted(read)
    assert read[-1] == pytest.approx(frames - 1, abs=1 + 480 / codec.hop_length)
    assert len(aligned_frames(frames, codec.identity, ticks, clock)) == frames


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_shapes(codec_source: str, sweep: Sweep) -> None:
    codec, moved = load_codec(codec_source), load_codec(codec_source, "cuda")
    wave_BT, lengths_B = padded([sweep(5000, 0), sweep(3000, 1)])
    codes, found = codec.encode(wave_BT, lengths_B), moved.encode(wave_BT.cuda(), lengths_B.cuda())
    assert found.codes_BQT.is_cuda
    assert found.codes_BQT.shape == codes.codes_BQT.shape
    wave = moved.decode(Codes(codes.codes_BQT.cuda(), codes.lengths_B.cuda()))
    torch.testing.assert_close(wave.wave_BT.cpu(), codec.decode(codes).wave_BT, rtol=0, atol=1e-3)


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
