"""Extraction of 8-D latents against the published way: same weights, same waves, same process, one thread each.

    python -m benchmarks.bench_embed [--files 64 --repeats 1 --width 64]

The published way (raoabinav/versaface_autoencoder@434db72) takes one file at a time: transformers' feature extractor,
w2v-BERT with all 24 layers and all hidden states kept, RepCodec. Ours: padded batches of similar length, 17 layers,
the filter bank in the batch. Both get the waves in memory and have their networks loaded. w2v-BERT has 24 layers as the
published one, but few channels, and random weights, so that the cost of single operations weighs more than there.
Wall and processor time of the best repeat; the second counts on a busy machine.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from models.layers.masks import pad_rows
from models.semantic.repcodec import RepCodec, RepCodecConfig
from models.semantic.tokenizer import SemanticTokenizer
from models.semantic.w2vbert import MASKGCT_LAYER, load
from pipelines.stages.codec import buckets

RATE = 16_000
LAYERS = 24
Waves = Sequence[npt.NDArray[np.float32]]
Extract = Callable[[Waves], dict[int, npt.NDArray[np.float32]]]


def main() -> None:
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-s", type=float, default=30.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    waves = recordings(arguments.files)
    with tempfile.TemporaryDirectory() as folder:
        repcodec = make_networks(Path(folder), arguments.width)
        ways = {
            "published": published(Path(folder), repcodec),
            "ours": ours(Path(folder), repcodec, arguments.batch_s),
        }
    # NumPy's threads would count as processor time of the published extractor, and make it no faster.
    with threadpool_limits(1):
        result = compared(ways, waves, arguments.repeats)
    seconds = sum(map(len, waves)) / RATE
    print(f"{arguments.files} recordings, {seconds:.0f} s, width {arguments.width}, one thread")
    for name in ways:
        one = result[name]
        print(f"{name:10} wall {one['wall_s']:7.2f} s   processor {one['cpu_s']:7.2f} s")
    given = {"files": arguments.files, "audio_s": round(seconds, 1), "width": arguments.width}
    print(json.dumps({**given, "batch_s": arguments.batch_s, "threads": 1, **result}))


def recordings(files: int) -> list[npt.NDArray[np.float32]]:
    """Changing sounds of 1 to 9 s, in random order of length."""
    generator = np.random.default_rng(0)
    lengths = generator.permutation(np.linspace(1.0, 9.0, files) * RATE).astype(int)
    return [
        (0.5 * np.sin(generator.standard_normal(length).cumsum() / 3)).astype(np.float32)
        for length in lengths
    ]


def make_networks(folder: Path, width: int) -> RepCodec:
    """w2v-BERT's directory, and a RepCodec for its features."""
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 64)}
    Wav2Vec2BertModel(Wav2Vec2BertConfig(num_hidden_layers=LAYERS, **sizes)).save_pretrained(folder)
    network = RepCodec(RepCodecConfig(feature_size=width, hidden_size=width, feed_forward_size=4 * width))
    return network.eval().requires_grad_(False)


def published(folder: Path, repcodec: RepCodec) -> Extract:
    """One file at a time."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertModel

    extractor: Any = SeamlessM4TFeatureExtractor()
    model: Any = Wav2Vec2BertModel.from_pretrained(folder).eval()

    def extract(waves: Waves) -> dict[int, npt.NDArray[np.float32]]:
        found = {}
        for number, wave in enumerate(waves):
            inputs = extractor(wave, sampling_rate=RATE, return_tensors="pt")
            hidden = model(**inputs, output_hidden_states=True).hidden_states[MASKGCT_LAYER]
            found[number] = repcodec.encode(hidden)[0][0].numpy()
        return found

    return extract


def ours(folder: Path, repcodec: RepCodec, batch_s: float) -> Extract:
    """Padded batches, as `pipelines.stages.vectors` makes them."""
    tokenizer = SemanticTokenizer(load(folder), repcodec, "")

    def extract(waves: Waves) -> dict[int, npt.NDArray[np.float32]]:
        found = {}
        for group in buckets([len(wave) for wave in waves], round(batch_s * RATE)):
            wave_BT, mask_BT = pad_rows([torch.from_numpy(waves[number]) for number in group])
            made = tokenizer.encode_latents(wave_BT, mask_BT.sum(dim=1))
            for row, number in enumerate(group):
                found[number] = made.latents_BTD[row, : int(made.lengths_B[row])].numpy()
        return found

    return extract


def compared(ways: dict[str, Extract], waves: Waves, repeats: int) -> dict[str, Any]:
    """Wall and processor time of both ways, their ratios, and the largest difference of the latents."""
    latents: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with torch.inference_mode():
        for extract in ways.values():
            extract(waves[:2])
        for _ in range(repeats):
            for name, extract in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                latents[name] = extract(waves)
                times[name].append((time.process_time() - processor, time.perf_counter() - wall))
    best = {name: min(found) for name, found in times.items()}
    pairs = [(latents["ours"][number], latents["published"][number]) for number in range(len(waves))]
    return {
        **{name: {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)} for name, (cpu, wall) in best.items()},
        "cpu_ratio": round(best["published"][0] / best["ours"][0], 2),
        "wall_ratio": round(best["published"][1] / best["ours"][1], 2),
        "largest_difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "largest_value": max(float(np.abs(other).max()) for _, other in pairs),
    }


if __name__ == "__main__":
    main()
