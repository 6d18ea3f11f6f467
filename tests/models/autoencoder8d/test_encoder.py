"""The encoder's surface: paths and arrays agree, latents decide codes, interpolation is a line, refusals."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.autoencoder8d.encoder import Metis8dEncoder, interpolate, read_wav
from models.codec_sources import load_codec
from models.semantic.source import TokenizerSource
from models.semantic.tokenizer import SemanticTokenizer
from models.tokenizer_sources import load_tokenizer


def write(path: Path, samples: np.ndarray, rate: int, width: int = 2) -> Path:
    """Samples (S, channels) in [-1, 1] as PCM."""
    whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes())
    return path


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (0.5 * np.sin(generator.standard_normal(24_000).cumsum() / 3)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(semantic_parts: dict[str, Any]) -> Metis8dEncoder:
    tokenizer = load_tokenizer(TokenizerSource(**semantic_parts))
    assert isinstance(tokenizer, SemanticTokenizer)
    return Metis8dEncoder(tokenizer, load_codec("mill-16khz"))


def test_a_path_is_its_samples(encoder: Metis8dEncoder, sound: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sound[:, None], 16_000)
    features, z = encoder.encode_from_path(path)
    samples, rate = read_wav(path)
    assert rate == 16_000
    np.testing.assert_allclose(samples, sound, atol=1e-4)
    for found, expected in zip(encoder.encode_waveform_16k(samples), (features, z), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (features.shape, z.shape) == ((1, 74, 32), (1, 74, 4))
    tokens = encoder.tokenizer.encode(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    np.testing.assert_array_equal(encoder.encode_semantic_code_from_path(path), tokens.codes_BQT[:, 0])
    np.testing.assert_array_equal(encoder.semantic_codes(z[0]), tokens.codes_BQT[:, 0])


def test_prompts_are_both_codes(encoder: Metis8dEncoder, sound: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sound[:, None], 24_000)
    semantic, decoded, acoustic = encoder.encode_full_from_path(str(path))
    assert acoustic.shape == (1, 50, encoder.codec.n_codebooks)
    assert semantic.shape == (1, 49)
    assert decoded.shape == (1, 49, 32)
    np.testing.assert_array_equal(acoustic, encoder.encode_acoustic_from_path(path))
    for found, expected in zip(encoder.encode_prompt_from_path(path), (semantic, acoustic), strict=True):
        np.testing.assert_array_equal(found, expected)
    codes = torch.from_numpy(semantic)
    np.testing.assert_allclose(
        decoded,
        encoder.tokenizer.repcodec.decode(encoder.tokenizer.repcodec.embed(codes)).detach(),
        atol=1e-5,
    )


@pytest.mark.parametrize("width", [2, 3, 4])
def test_wav_files_of_any_width_and_channels(width: int, sound: np.ndarray, tmp_path: Path) -> None:
    stereo = np.stack([sound, np.zeros_like(sound)], axis=1).astype(np.float64)
    samples, rate = read_wav(write(tmp_path / "a.wav", stereo, 22_050, width))
    assert rate == 22_050
    np.testing.assert_allclose(samples, sound / 2, atol=2.0 ** (2 - 8 * width) + 1e-7)


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_interpolation_is_a_line(first: int, second: int, share: float) -> None:
    generator = np.random.default_rng(first)
    a, b = (generator.standard_normal((1, frames, 8)).astype(np.float32) for frames in (first, second))
    frames = min(first, second)
    found = interpolate(a, b, share)
    assert found.shape == (1, frames, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, interpolate(b, a, 1 - share), atol=1e-5)
    np.testing.assert_array_equal(interpolate(a, b, 0.0), a[:, :frames])
    np.testing.assert_array_equal(interpolate(a, b, 1.0), b[:, :frames])


def test_refusals(encoder: Metis8dEncoder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav is no file"):
        encoder.encode_from_path(tmp_path / "gone.wav")
    with pytest.raises(
        ValueError, match=r"empty\.wav has shape \(0,\); expected one channel that is not empty"
    ):
        encoder.encode_from_path(write(tmp_path / "empty.wav", np.zeros((0, 1)), 16_000))
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(ValueError, match=r"text\.wav is no PCM WAV file"):
        encoder.encode_acoustic_from_path(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="the waveform holds NaN or infinite samples"):
        encoder.encode_waveform_16k(np.full(9_000, np.nan, np.float32))
    with pytest.raises(ValueError, match="200 samples at 16000 Hz are too short for a frame"):
        encoder.encode_waveform_16k(np.zeros(200, np.float32))
    with pytest.raises(ValueError, match=r"z has shape \(2, 5, 4\); expected \(1, frames, 4\)"):
        encoder.semantic_codes(np.zeros((2, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"share is 1\.5, must be from 0 to 1"):
        interpolate(np.zeros((3, 8), np.float32), np.zeros((3, 8), np.float32), 1.5)
    with pytest.raises(ValueError, match="latents have 8 and 4 channels"):
        interpolate(np.zeros((3, 8), np.float32), np.zeros((3, 4), np.float32), 0.5)
