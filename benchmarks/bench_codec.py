"""Codecs side by side on the same recordings: bit rate, STOI, PESQ-WB, mel distance, speed with one thread.

    python -m benchmarks.bench_codec SPEECH [--codec mill-16khz@1 ...] [--limit FILES]

SPEECH holds the folders `ljspeech`, `mixed_fixtures` and `librispeech_one_per_speaker` (of which only the speakers
that no edition was trained on are used). Without --codec all embedded editions are measured, the newest first. Needs
the `bench` extra (PESQ); with the package resemblyzer (its weights are in its wheel; `make bench` installs it) the
likeness of the voices is measured, too. The columns 50 and 100 Hz tell a buzz at these rates (`buzz_db`). Speeds are
seconds of audio per second of processor time, so that other work on the machine does not decide them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from pesq import NoUtterancesError, pesq
from pystoi import stoi
from torch import Tensor

from benchmarks.codec_corpus import AUDIO, held_out_speakers
from benchmarks.codec_measures import Likeness, buzz_db, mel_distance, voice_likeness
from models.codec_sources import load_codec
from models.codecs.interface import Codec, Codes
from models.codecs.mill.codec import MillCodec
from models.codecs.mill.editions import EMBEDDED, editions
from models.codecs.mill.spectrum import griffin_lim
from models.codecs.quantizer import perplexity
from pipelines.audio.decode import decode, resample

RATE = 16_000
MEL_ITERATIONS = 48
BUZZ_HZ = (50, 100)
"""Frame and spectrum rate of the embedded codec."""
RESULTS = Path(__file__).parent / "results" / "codec.json"


@dataclass(frozen=True)
class Clip:
    folder: str
    wave_T: Tensor

    @property
    def seconds(self) -> float:
        return len(self.wave_T) / RATE


@dataclass(frozen=True)
class Trip:
    """One recording there and back."""

    wave_T: Tensor
    bits: float
    encode_s: float
    decode_s: float


def read_clips(speech: Path, limit: int | None) -> list[Clip]:
    """All recordings at 16 kHz; those under half a second have too little speech for PESQ."""
    clips = []
    held_out = set(held_out_speakers(speech / "librispeech_one_per_speaker"))
    for name in ("ljspeech", "mixed_fixtures", "librispeech_one_per_speaker"):
        paths = sorted(path for path in (speech / name).iterdir() if path.suffix in {*AUDIO, ".opus"})
        if name == "librispeech_one_per_speaker":
            paths = [path for path in paths if path.name.partition("-")[0] in held_out]
        for path in paths[:limit]:
            samples = decode(path, RATE).samples
            if len(samples) >= RATE // 2:
                clips.append(Clip(name, torch.from_numpy(np.ascontiguousarray(samples))))
    return clips


def through_codec(codec: Codec, levels: int, counts_QV: Tensor) -> Callable[[Clip], Trip]:
    """Encode and decode with the first `levels` codebooks; adds the codes used to `counts_QV`."""

    def trip(clip: Clip) -> Trip:
        begin = time.process_time()
        codes = codec.encode(clip.wave_T[None], torch.tensor([len(clip.wave_T)]))
        middle = time.process_time()
        wave_T = codec.decode(Codes(codes.codes_BQT[:, :levels], codes.lengths_B)).wave_BT[0]
        end = time.process_time()
        for level, codes_T in enumerate(codes.codes_BQT[0]):
            counts_QV[level] += torch.bincount(codes_T, minlength=codec.codebook_size)
        bits = codes.codes_BQT.shape[2] * levels * np.log2(codec.codebook_size)
        return Trip(wave_T[: len(clip.wave_T)], float(bits), middle - begin, end - middle)

    return trip


def through_mel(codec: MillCodec) -> Callable[[Clip], Trip]:
    """The codec's own mel frames without quantization, inverted linearly, phases by Griffin-Lim."""
    network, config = codec.network, codec.config

    def trip(clip: Clip) -> Trip:
        spare = -len(clip.wave_T) % config.hop_length
        wave_BN = torch.nn.functional.pad(clip.wave_T, (0, spare))[None]
        begin = time.process_time()
        mel_SM = (network.magnitudes(wave_BN) @ network.filters_FM)[0].flatten(0, 1)
        middle = time.process_time()
        linear_SF = (mel_SM @ network.inverse_MF).clamp(min=0.0)
        wave_T = griffin_lim(linear_SF, config.spectrum_hop, MEL_ITERATIONS)
        end = time.process_time()
        return Trip(wave_T[: len(clip.wave_T)], float("nan"), middle - begin, end - middle)

    return trip


def through_opus(kilobits: int) -> Callable[[Clip], Trip]:
    """libopus for speech at a constant-quality bit rate, 20 ms frames; the container's bytes are not counted."""

    def trip(clip: Clip) -> Trip:
        begin = time.process_time()
        packets, file = _opus_encode(clip.wave_T.numpy(), kilobits)
        middle = time.process_time()
        decoded = _opus_decode(file)
        end = time.process_time()
        wave_T = torch.from_numpy(_aligned(clip.wave_T.numpy(), decoded))
        return Trip(wave_T, 8.0 * sum(packets), middle - begin, end - middle)

    return trip


def _opus_encode(samples: np.ndarray, kilobits: int) -> tuple[list[int], io.BytesIO]:
    file, sizes = io.BytesIO(), []
    options = {"application": "voip", "frame_duration": "20", "vbr": "on"}
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", options=options)
        stream.bit_rate = 1000 * kilobits
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            sizes.append(packet.size)
            container.mux(packet)
    file.seek(0)
    return sizes, file


def _opus_decode(file: io.BytesIO) -> np.ndarray:
    with av.open(file) as container:
        stream = container.streams.audio[0]
        blocks = [frame.to_ndarray()[0] for frame in container.decode(stream)]
        return resample(np.concatenate(blocks).astype(np.float32), stream.rate, RATE)


def _aligned(original: np.ndarray, decoded: np.ndarray, reach: int = 800) -> np.ndarray:
    """`decoded` shifted by at most 50 ms to where it correlates best with the original, in its length."""
    size = len(original)
    padded = np.pad(decoded, (reach, reach + max(0, size - len(decoded))))
    length = 1 << (len(padded) + size).bit_length()
    spectrum = np.fft.rfft(padded, length) * np.conj(np.fft.rfft(original, length))
    shift = int(np.argmax(np.fft.irfft(spectrum, length)[: 2 * reach + 1]))
    return padded[shift : shift + size].astype(np.float32)


def measure(clips: Sequence[Clip], trip: Callable[[Clip], Trip], likeness: Likeness | None) -> dict[str, Any]:
    """Means over clips, per folder and over all, and speeds over the whole."""
    rows: list[tuple[str, dict[str, float]]] = []
    bits = encode_s = decode_s = 0.0
    trip(clips[0])
    for clip in clips:
        done = trip(clip)
        bits, encode_s, decode_s = bits + done.bits, encode_s + done.encode_s, decode_s + done.decode_s
        original, decoded = clip.wave_T.numpy(), done.wave_T.numpy()
        scores = {"stoi": float(stoi(original, decoded, RATE)), "mel": mel_distance(clip.wave_T, done.wave_T)}
        scores |= {f"buzz_{rate}": buzz_db(done.wave_T, rate) for rate in BUZZ_HZ}
        with contextlib.suppress(NoUtterancesError):
            scores["pesq_wb"] = float(pesq(RATE, original, decoded, "wb"))
        if likeness is not None:
            scores["voice"] = likeness(clip.wave_T, done.wave_T)
        rows.append((clip.folder, scores))
    seconds = sum(clip.seconds for clip in clips)
    folders = sorted({folder for folder, _ in rows})
    return {
        "kbit_s": round(bits / seconds / 1000, 2) if bits == bits else None,
        **_means([scores for _, scores in rows]),
        "encode_x": round(seconds / encode_s, 1) if encode_s else None,
        "decode_x": round(seconds / decode_s, 1) if decode_s else None,
        "folders": {name: _means([scores for folder, scores in rows if folder == name]) for name in folders},
    }


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    measures = ("stoi", "pesq_wb", "mel", "voice", *(f"buzz_{rate}" for rate in BUZZ_HZ))
    found = {name: [row[name] for row in rows if name in row] for name in measures}
    return {name: round(statistics.fmean(values), 4) for name, values in found.items() if values}


def show(name: str, found: dict[str, Any]) -> None:
    rate = "-" if found["kbit_s"] is None else f"{found['kbit_s']:.2f}"
    line = f"{name:34} {rate:>6} {found['stoi']:6.3f} {found['pesq_wb']:6.2f} {found['mel']:6.3f}"
    line += f" {found['voice']:6.3f}" if "voice" in found else f" {'-':>6}"
    line += "".join(f" {found[f'buzz_{rate}']:6.1f}" for rate in BUZZ_HZ)
    parts = " ".join(f"{part['stoi']:6.3f} {part['pesq_wb']:5.2f}" for part in found["folders"].values())
    speeds = " ".join(
        f"{found[way]:7.0f}x" if found[way] else f"{'-':>8}" for way in ("encode_x", "decode_x")
    )
    print(f"{line} {speeds}  {parts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    embedded = [f"{EMBEDDED}@{edition}" for edition in reversed(editions())]
    parser.add_argument("--codec", nargs="+", default=embedded, help="names, name@edition, or directories")
    parser.add_argument("--limit", type=int, help="files of each folder at most; results are then not kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips, likeness = read_clips(arguments.speech, arguments.limit), voice_likeness()
    folders = sorted({clip.folder for clip in clips})
    print(f"{len(clips)} recordings, {sum(clip.seconds for clip in clips) / 60:.1f} minutes, one thread")
    heading = (
        f"{'':34} {'kbit/s':>6} {'STOI':>6} {'PESQ':>6} {'mel':>6} {'voice':>6} {'50 Hz':>6} {'100 Hz':>6} "
        f"{'encode':>8} {'decode':>8}"
    )
    print(heading, " STOI and PESQ of", ", ".join(folders))
    results: dict[str, Any] = {"recordings": len(clips), "codecs": {}}
    codecs = [load_codec(source) for source in arguments.codec]
    for codec in codecs:
        results["codecs"] |= measure_codec(codec, clips, likeness)
    others = {"the recordings themselves": lambda clip: Trip(clip.wave_T, float("nan"), 0.0, 0.0)}
    others |= {f"opus, {kilobits} kbit/s asked for": through_opus(kilobits) for kilobits in (6, 9, 12)}
    mill = next((codec for codec in codecs if isinstance(codec, MillCodec)), None)
    if mill is not None:
        others["mel + Griffin-Lim, not quantized"] = through_mel(mill)
    for name, trip in others.items():
        results["codecs"][name] = measure(clips, trip, likeness)
        show(name, results["codecs"][name])
    if arguments.limit is None:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


def measure_codec(codec: Codec, clips: Sequence[Clip], likeness: Likeness | None) -> dict[str, Any]:
    """All levels, and half of them."""
    name = f"{codec.name}@{codec.edition}"
    counts_QV = torch.zeros(codec.n_codebooks, codec.codebook_size)
    found = {name: measure(clips, through_codec(codec, codec.n_codebooks, counts_QV), likeness)}
    found[name]["perplexity"] = [round(value, 1) for value in perplexity(counts_QV).tolist()]
    found[name]["weights_sha256"] = codec.weights_sha256
    half = codec.n_codebooks // 2
    if half:
        found[f"{name}, {half} levels"] = measure(clips, through_codec(codec, half, counts_QV), likeness)
    for title, values in found.items():
        show(title, values)
    print("perplexity per level:", *found[name]["perplexity"])
    return found


if __name__ == "__main__":
    main()
