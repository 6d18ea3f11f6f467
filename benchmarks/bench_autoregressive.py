"""Speed of autoregressive decoding: VALL-E's first stage with and without a cache, in batches, and toktts.

    python -m benchmarks.bench_autoregressive [--threads 1] [--frames 750] [--keep]

Seconds are CPU time of this process, which on one thread is what the work costs however busy the machine is. Weights
are random: the work is the same. VALL-E has half size, 100 phones and a prompt of 3 s (225 frames); toktts has the size
of the published example, 80 bytes of text and 300 tokens. Baselines run in the same process with the same weights:

- without a cache a token costs the whole sequence again. That is timed at nine lengths spread evenly over the speech
  and summed between them, because all of them would take too long; twelve frames are decoded both ways, and their codes
  must be equal.
- transformers' `generate` on the directory that toktts writes; the tokens must be equal.

`--keep` writes benchmarks/results/autoregressive.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from models.layers.masks import pad_rows
from models.sampling.autoregressive import Continuation, Limits, Sampler, Search, generate
from models.sampling.beam import Beams, BeamSearch
from models.sampling.draws import RowDraws
from models.sampling.token_sampling import TokenSampling
from models.toktts import checkpoint_hugging_face
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS
from models.toktts.sampling import generate_tokens
from models.valle.ar import ValleAR
from models.valle.config import SIZES, ValleARConfig
from models.valle.sampling import Conditions, generate_first_level

RESULTS = Path(__file__).parent / "results" / "autoregressive.json"
FRAME_RATE = 75
PHONES, PROMPT_FRAMES, LEVELS, CODES = 100, 225, 8, 1024
TOKENS = 300


def best_of(times: int, run: Callable[[], object]) -> float:
    """CPU seconds of the cheapest run: other work on the machine only adds."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best


def conditions(n_rows: int) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(0, CODES, (PHONES,), generator=generator) for _ in range(n_rows)]
    prompts = [torch.randint(0, CODES, (PROMPT_FRAMES, LEVELS), generator=generator) for _ in range(n_rows)]
    return Conditions(*pad_rows(texts), *pad_rows(prompts))


def one_row(given: Conditions, row: int) -> Conditions:
    return Conditions(*(part[row : row + 1] for part in given.inputs()))


def greedy(n_rows: int, tokens: int, stop: int) -> Sampler:
    """Exactly so many tokens: the stop token waits until then."""
    limits = Limits(stop, [tokens] * n_rows, minimum=[tokens] * n_rows)
    return Sampler(TokenSampling(temperature=0), limits, RowDraws([0] * n_rows, "cpu"))


def cached(model: ValleAR, given: Conditions, frames: int) -> list[Continuation]:
    return generate_first_level(model, given, greedy(len(given.text_BL), frames, CODES), frames)


@torch.no_grad()
def recompute(model: ValleAR, given: Conditions, codes_BT: Tensor) -> Tensor:
    """Logits of the next token from the whole sequence."""
    mask_BT = torch.ones_like(codes_BT, dtype=torch.bool)
    logits_BSV: Tensor = model(*given.inputs(), codes_BT, mask_BT)
    return logits_BSV[:, -1]


class Codes:
    """All that the way without a cache keeps."""

    def __init__(self, codes_BT: Tensor) -> None:
        self.codes_BT = codes_BT

    def reorder(self, rows_B: Tensor) -> None:
        self.codes_BT = self.codes_BT[rows_B]


def recomputed(model: ValleAR, given: Conditions, frames: int) -> list[Continuation]:
    def step(tokens_B: Tensor, state: Codes) -> Tensor:
        state.codes_BT = torch.cat([state.codes_BT, tokens_B[:, None]], dim=1)
        return recompute(model, given, state.codes_BT)

    state, search = Codes(given.text_BL[:, :0]), greedy(len(given.text_BL), frames, CODES)
    return generate(recompute(model, given, state.codes_BT), step, state, search)


def recompute_s(model: ValleAR, given: Conditions, frames: int, probes: int) -> float:
    """Seconds that all tokens would take: timed at `probes` lengths, straight lines between."""
    lengths = torch.linspace(0, frames - 1, probes).long().tolist()
    codes_BT = torch.zeros(1, frames, dtype=torch.int64)
    times = [best_of(2, partial(recompute, model, given, codes_BT[:, :n])) for n in lengths]
    total = times[0]
    for (low, first), (high, second) in pairwise(zip(lengths, times, strict=True)):
        # The tokens after `low` up to `high`, whose times lie on a line.
        total += (high - low) * (first + second) / 2 + (second - first) / 2
    return total


def bench_valle(
    trunk: Literal["transformer", "retnet"], frames: int, batch_rows: int, batch_frames: int
) -> dict[str, float | str]:
    torch.manual_seed(0)
    sizes: Any = SIZES["half"]
    model = ValleAR(ValleARConfig(CODES, CODES, **sizes, trunk=trunk)).eval()
    given = conditions(batch_rows)
    alone = one_row(given, 0)
    both = (cached(model, alone, 12), recomputed(model, alone, 12))
    assert torch.equal(both[0][0].tokens_N, both[1][0].tokens_N), "the cache changes codes"
    cached_s = best_of(1, lambda: cached(model, alone, frames))
    slow_s = recompute_s(model, alone, frames, probes=9)
    together_s = best_of(1, lambda: cached(model, given, batch_frames))
    rows = [one_row(given, row) for row in range(batch_rows)]
    single_s = best_of(1, lambda: [cached(model, row, batch_frames) for row in rows])
    audio_s = frames / FRAME_RATE
    return {
        "trunk": trunk,
        "audio_s": audio_s,
        "cached_s": round(cached_s, 2),
        "cached_real_time_factor": round(cached_s / audio_s, 3),
        "recompute_s": round(slow_s, 1),
        "cache_speedup": round(slow_s / cached_s, 1),
        "batch_rows": batch_rows,
        "batch_audio_s": round(batch_frames / FRAME_RATE, 2),
        "batch_s": round(together_s, 2),
        "one_by_one_s": round(single_s, 2),
        "batch_speedup": round(single_s / together_s, 2),
    }


@torch.no_grad()
def published_pair() -> tuple[TokTTS, Any]:
    """toktts and transformers' model with the same weights, which never stop by themselves."""
    from transformers import EncoderDecoderModel

    torch.manual_seed(0)
    model = TokTTS(TokTTSConfig(code_ids="shared", encoder_attention="causal", token_positions=1024)).eval()
    for parameter in model.parameters():
        parameter.mul_(3)  # fresh weights would say one token for ever
    model.token_tables_KVD[0, model.pattern.stop] = 0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_hugging_face.save(model, Path(folder))
        return model, EncoderDecoderModel.from_pretrained(folder).eval()


def bench_toktts(model: TokTTS, theirs: Any, n_rows: int, n_beams: int) -> dict[str, float]:
    text_BL = torch.randint(3, 250, (n_rows, 80), generator=torch.Generator().manual_seed(1))
    mask_BL, stop = torch.ones_like(text_BL, dtype=torch.bool), model.pattern.stop
    args = {"max_length": TOKENS + 1, "num_beams": n_beams, "do_sample": False, "early_stopping": False}

    def ours() -> Tensor:
        search: Search = greedy(n_rows, TOKENS, stop)
        if n_beams > 1:
            search = BeamSearch(Beams(n_beams), Limits(stop, [TOKENS] * n_rows))
        found = generate_tokens(model, text_BL, mask_BL, search, TOKENS)
        return torch.stack([one.tokens_N for one in found])

    def reference() -> Tensor:
        found: Tensor = theirs.generate(input_ids=text_BL, attention_mask=mask_BL.long(), **args)
        return found[:, 1:]

    assert torch.equal(ours(), reference()), "the tokens differ from those of transformers"
    ours_s, reference_s = best_of(2, ours), best_of(2, reference)
    return {
        "rows": n_rows,
        "beams": n_beams,
        "tokens": TOKENS,
        "ours_s": round(ours_s, 2),
        "transformers_s": round(reference_s, 2),
        "speedup": round(reference_s / ours_s, 2),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "--:|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--frames", type=int, default=10 * FRAME_RATE, help="of the cached run (75 per second)"
    )
    parser.add_argument("--batch-frames", type=int, default=38, help="of the rows of the batch")
    parser.add_argument("--keep", action="store_true", help="write the results file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    valle = [
        bench_valle(trunk, arguments.frames, 16, arguments.batch_frames)
        for trunk in ("transformer", "retnet")
    ]
    print_table(valle)
    pair = published_pair()
    toktts = [bench_toktts(*pair, n_rows, n_beams) for n_rows, n_beams in ((1, 1), (8, 1), (1, 4))]
    print_table(toktts)
    result = {
        "benchmark": "autoregressive",
        "threads": arguments.threads,
        "valle_ar": valle,
        "toktts": toktts,
    }
    if arguments.keep:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
