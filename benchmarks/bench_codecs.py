"""Speeds of all codecs at their published sizes on the CPU, and of DAC and EnCodec against plain calls of theirs.

    python -m benchmarks.bench_codecs [--seconds 10] [--repeats 3] [--only NAME ...]

Weights are random (those of the embedded codec its own), which costs the same. Three sections. `codecs`: hours of audio
per hour of one core, encoding and decoding a row. `dac`: files coded by one worker a core with one thread each, in
pieces, against whole-file calls of `DacModel.encode` one after another with all threads. `encodec`: rows of one length
in one call of ours and of `EncodecModel`, and one by one.

Speeds are per second of processor time, so that other work on the machine does not decide them; `wall_ratio` is what
the clock said, the median of interleaved repeats. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.dac.network import PRESETS, ConvolutionalCodec, build_network
from models.codecs.interface import Codec
from models.codecs.maskgct_acoustic.codec import MaskGCTAcousticCodec
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig, MaskGCTAcousticNetwork
from models.codecs.pretrained import plain
from models.codecs.speechtokenizer.codec import SpeechTokenizerCodec
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork
from models.codecs.transformers.load import codec_of

RESULTS = Path(__file__).parent / "results" / "codecs.json"
STEREO = {
    "sampling_rate": 48_000,
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
}
"""What config.json of facebook/encodec_48khz has beside the defaults."""
HIGGS_RATIOS = [8, 5, 4, 2, 3]
HIGGS = {
    "target_bandwidths": [0.5, 1.0, 1.5, 2.0],
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 64,
        "decoder_hidden_size": 1024,
        "hidden_size": 256,
        "downsampling_ratios": HIGGS_RATIOS,
        "upsampling_ratios": HIGGS_RATIOS,
    },
}
"""What config.json of bosonai/higgs-audio-v2-tokenizer has beside the defaults, whose frames are a third as long."""
WORKERS = os.cpu_count() or 1


def dac(preset: str) -> ConvolutionalCodec:
    """DAC of a published size."""
    torch.manual_seed(0)
    config = PRESETS[preset]
    return ConvolutionalCodec(build_network(config).eval(), config, f"dac-{preset}", "1", "random")


def shipped(kind: str, name: str, **changes: Any) -> Codec:
    """A codec of transformers, of the sizes that its configuration has by default."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**changes)
    return codec_of(kind, plain(getattr(transformers, f"{name}Model")(config)), "random")


CODECS: Mapping[str, Callable[[], Codec]] = {
    "mill-16khz": lambda: load_codec("mill-16khz"),
    "dac-16khz": lambda: dac("16khz"),
    "dac-24khz": lambda: dac("24khz"),
    "dac-44khz": lambda: dac("44khz"),
    "encodec-24khz": lambda: shipped("encodec", "Encodec"),
    "encodec-48khz": lambda: shipped("encodec", "Encodec", **STEREO),
    "speechtokenizer": lambda: SpeechTokenizerCodec(
        SpeechTokenizerNetwork(SpeechTokenizerConfig()), "speechtokenizer", "1", "random"
    ),
    "maskgct-acoustic": lambda: MaskGCTAcousticCodec(
        MaskGCTAcousticNetwork(MaskGCTAcousticConfig()), "maskgct-acoustic", "1", "random"
    ),
    "mimi-24khz": lambda: shipped("mimi", "Mimi"),
    "xcodec-16khz": lambda: shipped("xcodec", "Xcodec"),
    "xcodec2-16khz": lambda: shipped("xcodec2", "Xcodec2"),
    "higgs-audio-v2-tokenizer-24khz": lambda: shipped(
        "higgs_audio_v2_tokenizer", "HiggsAudioV2Tokenizer", **HIGGS
    ),
}


def spent(run: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds of this process, and those of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def noise(rows: int, seconds: float, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Rows of one length."""
    samples = round(seconds * sample_rate)
    wave_BT = torch.rand(rows, samples, generator=torch.Generator().manual_seed(0)) - 0.5
    return wave_BT, torch.full((rows,), samples)


def speeds(codec: Codec, seconds: float, repeats: int) -> dict[str, float]:
    """Hours of audio an hour of one core, the median of `repeats`."""
    torch.set_num_threads(1)
    waves = noise(1, seconds, codec.sample_rate)
    codec.decode(codec.encode(*noise(1, min(1.0, seconds), codec.sample_rate)))
    codes = codec.encode(*waves)
    encode_s = statistics.median(spent(lambda: codec.encode(*waves))[0] for _ in range(repeats))
    decode_s = statistics.median(spent(lambda: codec.decode(codes))[0] for _ in range(repeats))
    return {"encode": round(seconds / encode_s, 2), "decode": round(seconds / decode_s, 2)}


_worker: list[ConvolutionalCodec] = []


def _start(preset: str) -> None:
    torch.set_num_threads(1)
    _worker.append(dac(preset))
    _encode(1.0)


def _encode(seconds: float) -> float:
    codec = _worker[0]
    waves = noise(1, seconds, codec.sample_rate)
    return spent(lambda: codec.encode(*waves))[0]


@torch.no_grad()
def compare_dac(preset: str, seconds: float, repeats: int) -> dict[str, float]:
    """As many files as cores, by a worker each, against whole-file calls with all threads."""
    torch.manual_seed(0)
    network: Any = build_network(PRESETS[preset]).eval()
    wave_BT, _ = noise(1, seconds, PRESETS[preset].sample_rate)
    found: dict[str, list[float]] = {name: [] for name in ("cpu", "wall", "plain_cpu", "plain_wall")}

    def whole() -> None:
        for _ in range(WORKERS):
            network.encode(wave_BT[:, None])

    with multiprocessing.get_context("spawn").Pool(WORKERS, _start, (preset,)) as pool:
        pool.map(_encode, [1.0] * WORKERS, chunksize=1)
        for _ in range(repeats):
            started = time.perf_counter()
            found["cpu"].append(sum(pool.map(_encode, [seconds] * WORKERS, chunksize=1)))
            found["wall"].append(time.perf_counter() - started)
            torch.set_num_threads(WORKERS)
            cpu, wall = spent(whole)
            found["plain_cpu"].append(cpu)
            found["plain_wall"].append(wall)
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "files": WORKERS,
        "file_s": seconds,
        **{f"{name}_s": round(value, 2) for name, value in middle.items()},
        "cpu_ratio": round(middle["plain_cpu"] / middle["cpu"], 2),
        "wall_ratio": round(middle["plain_wall"] / middle["wall"], 2),
    }


@torch.no_grad()
def compare_encodec(rows: int, seconds: float, repeats: int) -> dict[str, float]:
    """Rows in one call against one by one, in ours and in transformers', with one thread."""
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = plain(transformers.EncodecModel(transformers.EncodecConfig()))
    codec = codec_of("encodec", model, "random")
    wave_BT, lengths_B = noise(rows, seconds, codec.sample_rate)
    whole = max(model.config.target_bandwidths)

    def alone(code: Callable[[Tensor, Tensor], object]) -> Callable[[], None]:
        def run() -> None:
            for row in range(rows):
                code(wave_BT[row : row + 1], lengths_B[row : row + 1])

        return run

    def theirs(waves_BT: Tensor, _lengths_B: Tensor) -> object:
        return model.encode(waves_BT[:, None], bandwidth=whole)

    ways: dict[str, Callable[[], object]] = {
        "batched": lambda: codec.encode(wave_BT, lengths_B),
        "one_by_one": alone(codec.encode),
        "plain_batched": lambda: theirs(wave_BT, lengths_B),
        "plain_one_by_one": alone(theirs),
    }
    for run in ways.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            times[name].append(spent(run)[0])
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "rows": rows,
        "row_s": seconds,
        **{f"{name}_cpu_s": round(value, 2) for name, value in middle.items()},
        "batch_speedup": round(middle["one_by_one"] / middle["batched"], 2),
        "plain_batch_speedup": round(middle["plain_one_by_one"] / middle["plain_batched"], 2),
        "over_plain_batched": round(middle["plain_batched"] / middle["batched"], 2),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the results as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a row")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="codecs and sections (dac, encodec); default: all")
    arguments = parser.parse_args(argv)
    seconds, repeats = arguments.seconds, arguments.repeats
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results |= {
        "benchmark": "codecs",
        "cores": WORKERS,
        "row_s": seconds,
        "weights": "random",
        "torch": torch.__version__,
    }
    sections: dict[str, Callable[[], Any]] = {
        "dac": lambda: compare_dac("16khz", 3 * seconds, repeats),
        "encodec": lambda: compare_encodec(8, seconds / 5, repeats),
    }
    for name in arguments.only or (*sections, *CODECS):
        if name == "dac":
            found = sections[name]()
            results.setdefault(name, {})[f"{found['file_s']:g} s files"] = found
        elif name in sections:
            results[name] = found = sections[name]()
        else:
            found = speeds(CODECS[name](), seconds, repeats)
            results.setdefault("codecs", {})[name] = found
        print(json.dumps({name: found}), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
