"""WAV files: the bytes of libsndfile, and a disk without room."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from catalog.command import JobError
from pipelines.__main__ import main
from pipelines.audio.wav import write_wav, write_wav_parts


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file may grow beyond 8 KiB. Python would leave cut bytecode of what it imports meanwhile."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_rounded_as_libsndfile_does(tmp_path: Path, dtype: type[np.floating]) -> None:
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, 10_001).astype(dtype)
    assert write_wav_parts(tmp_path / "a.wav", [samples[:5000], samples[5000:]], 16_000) == 10_001
    soundfile.write(tmp_path / "b.wav", np.clip(samples, -1, 1), 16_000, subtype="PCM_16")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_a_file_without_room_is_named_and_leaves_nothing(tmp_path: Path, small_files: None) -> None:
    with pytest.raises(JobError, match=r"a\.wav: cannot be written: File too large"):
        write_wav(tmp_path / "a.wav", np.zeros(10_000, np.float32), 16_000)
    assert not list(tmp_path.iterdir())


def test_a_job_without_room_fails_and_rejects_no_recording(
    tmp_path: Path, small_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, samples in (("a", 4000), ("b", 3000)):
        write_wav(tmp_path / "in" / f"{name}.wav", np.full(samples, 0.1, np.float32), 16_000)
    # At 24 kHz they are longer than what is allowed.
    assert main(["reconstruct", str(tmp_path / "in"), str(tmp_path / "out"), "--codec", "pcm-24khz"]) == 1
    error = capsys.readouterr().err
    assert "cannot be written: File too large" in error
    assert "rejected" not in error
