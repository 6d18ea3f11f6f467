"""A picture of what hisses and what sings: a recording, and the same through the embedded editions and Opus.

    python -m benchmarks.codec_spectrograms RECORDING [--from-s 1.0] [--length-s 1.2] [--output docs/codec.jpg]

Windows of 8 ms, so that single pulses are seen: a codec that buzzes at its frame rate has stripes where speech hisses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from benchmarks.bench_codec import RATE, Clip, through_codec, through_opus
from benchmarks.codec_measures import buzz_db
from models.codec_sources import load_codec
from models.codecs.mill.editions import EMBEDDED, editions
from pipelines.audio.decode import decode

matplotlib.use("Agg")
WINDOW, HOP, RANGE_DB = 128, 16, 70.0


def levels(wave_T: Tensor) -> np.ndarray:
    """Levels (bins, spectra) in dB."""
    spectra = torch.stft(wave_T, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    return (20 * torch.log10(spectra.abs() + 1e-6)).numpy()


def main() -> None:
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--from-s", type=float, default=1.0)
    parser.add_argument("--length-s", type=float, default=1.2)
    parser.add_argument("--output", type=Path, default=Path("docs/codec.jpg"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    samples = decode(arguments.recording, RATE).samples
    clip = Clip("", torch.from_numpy(np.ascontiguousarray(samples)))
    waves = {"recording": clip.wave_T}
    for edition in editions():
        codec = load_codec(f"{EMBEDDED}@{edition}")
        counts_QV = torch.zeros(codec.n_codebooks, codec.codebook_size)
        waves[f"{EMBEDDED}@{edition}"] = through_codec(codec, codec.n_codebooks, counts_QV)(clip).wave_T
    waves["Opus, 6 kbit/s"] = through_opus(6)(clip).wave_T
    begin = round(arguments.from_s * RATE)
    end = begin + round(arguments.length_s * RATE)
    figure, axes = pyplot.subplots(len(waves), 1, figsize=(8, 1.7 * len(waves)), sharex=True, dpi=90)
    loudest = levels(clip.wave_T[begin:end]).max()
    for axis, (name, wave_T) in zip(axes, waves.items(), strict=True):
        shown = levels(wave_T[begin:end])
        bounds = (arguments.from_s, arguments.from_s + arguments.length_s, 0, RATE / 2000)
        axis.imshow(
            shown, origin="lower", aspect="auto", extent=bounds, cmap="magma", vmin=loudest - RANGE_DB, vmax=loudest
        )  # fmt: skip
        axis.set_title(f"{name}: 100 Hz {buzz_db(wave_T, 100):+.1f} dB", fontsize=9, loc="left")
        axis.set_ylabel("kHz", fontsize=8)
    axes[-1].set_xlabel("s", fontsize=8)
    figure.tight_layout()
    figure.savefig(arguments.output)


if __name__ == "__main__":
    main()
