"""Speed of MaskGCT with semantic tokens, and of the 8-D decoder: this implementation against the published way.

    python -m benchmarks.bench_maskgct [--threads 1] [--seconds 10] [--width 256] [--layers 4] [--keep]

Seconds are CPU time of this process. Weights are random and the networks are smaller than the published ones: the work
is of the same kind, its amount is not, and nothing is said of how either sounds. A voice prompt of 3 s, 12 phones per
second of speech.

The published way runs in the same process with the same weights and random numbers: a call of the network for each
branch of guidance, rows padded, and the text's and the prompt's embeddings made again in every step. It stops if their
codes differ. `calls` are calls of a network; a guided step of ours has two branches in one.

`--keep` writes benchmarks/results/maskgct.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoder8d.decode import PUBLISHED, Autoencoder8dOptions
from models.maskgct.code_levels import CodeLevels
from models.maskgct.options import SemanticS2AOptions, SemanticTextOptions
from models.maskgct.sampling import Conditions, SemanticConditions, generate_semantic_s2a, generate_t2s
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S
from models.sampling.draws import RowDraws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import LogitsFn, sample_masked

RESULTS = Path(__file__).parent / "results" / "maskgct.json"
FRAME_RATE, PROMPT_S, PHONES_PER_S = 50, 3, 12
SEMANTIC, CODES, LEVELS, TEXTS = 8192, 1024, 12, 1024


def randomised(module: nn.Module) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05)
    return module.eval()


def measured(run: Callable[[], Tensor], networks: list[nn.Module]) -> tuple[Tensor, float, int]:
    """Its result, the CPU seconds of the cheaper of two runs, and the calls of the networks in one."""
    calls: list[int] = []
    hooks = [network.norm.register_forward_hook(lambda *_: calls.append(1)) for network in networks]
    spent = []
    for _ in range(2):
        calls.clear()
        started = time.process_time()
        with torch.no_grad():
            codes = run()
        spent.append(time.process_time() - started)
    for hook in hooks:
        hook.remove()
    return codes, min(spent), len(calls)


class Task:
    """One sentence with a prompt, and the networks that speak it."""

    def __init__(self, seconds: float, width: int, layers: int) -> None:
        sizes = (width, layers, 4, 4 * width)
        self.t2s = randomised(MaskGCTT2S(MaskGCTSemanticT2SConfig(TEXTS, SEMANTIC, *sizes)))
        self.first = randomised(MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(SEMANTIC, 1, CODES, *sizes)))
        self.full = randomised(
            MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(SEMANTIC, LEVELS, CODES, *sizes, first_level=1))
        )
        draws = torch.Generator().manual_seed(1)
        self.frames, prompt = round(seconds * FRAME_RATE), PROMPT_S * FRAME_RATE
        phones = round((seconds + PROMPT_S) * PHONES_PER_S)
        self.text_BL = torch.randint(0, TEXTS, (1, phones), generator=draws)
        self.prompt_semantic_BP = torch.randint(0, SEMANTIC, (1, prompt), generator=draws)
        self.prompt_BPQ = torch.randint(0, CODES, (1, prompt, LEVELS), generator=draws)
        self.semantic_BT = torch.randint(0, SEMANTIC, (1, self.frames), generator=draws)

    def t2s_ours(self, options: SemanticTextOptions) -> Tensor:
        masks = (torch.ones_like(self.text_BL).bool(), torch.ones_like(self.prompt_semantic_BP).bool())
        prompt_BP1 = self.prompt_semantic_BP[..., None]
        given = Conditions(self.text_BL, masks[0], prompt_BP1, masks[1], [self.frames])
        steps, guidance = options.t2s_steps, options.guide()
        made = generate_t2s(self.t2s, given, steps, options.choice(), guidance, RowDraws([1], "cpu"))
        return made.codes_BTQ[..., 0]

    def t2s_published(self, options: SemanticTextOptions) -> Tensor:
        """A call for each branch; text and prompt anew in every step."""
        model, nothing = self.t2s, torch.zeros_like(self.prompt_semantic_BP).bool()

        def states(codes_BT: Tensor, masked_BT: Tensor, time: float, conditional: bool) -> Tensor:
            target_BTD = model.embed_codes(codes_BT, masked_BT)
            prompt_BPD = model.embed_codes(self.prompt_semantic_BP, nothing)
            text_BL = self.text_BL if conditional else self.text_BL[:, :0]
            speech = torch.cat([prompt_BPD, target_BTD], dim=1) if conditional else target_BTD
            masks = (torch.ones_like(text_BL).bool(), torch.ones(speech.shape[:2]).bool())
            text_BLD = model.trunk.embed_text(text_BL)
            found: Tensor = model.trunk(text_BLD, masks[0], speech, masks[1], torch.tensor([time]))
            return found[:, -self.frames :]

        logits = guided(states, model.head, options.guide(), self.frames)
        return sample_masked(
            logits, [self.frames], options.t2s_steps, options.choice(), RowDraws([1], "cpu"), "cpu"
        )

    def s2a_ours(self, options: SemanticS2AOptions) -> Tensor:
        given = SemanticConditions(
            self.semantic_BT,
            self.prompt_semantic_BP,
            self.prompt_BPQ,
            torch.ones_like(self.prompt_semantic_BP).bool(),
            [self.frames],
        )
        draws, choice = RowDraws([1], "cpu"), options.choice()
        known_BTg = self.semantic_BT.new_zeros(1, self.frames, 0)
        for model, steps, guidance in self.stages(options):
            known_BTg = generate_semantic_s2a(
                model, given, known_BTg, steps, choice, guidance, draws
            ).codes_BTQ
        return known_BTg

    def stages(self, options: SemanticS2AOptions) -> list[tuple[Any, list[int], Guidance]]:
        first = (self.first, [options.first_steps], options.guide_first())
        return [first, (self.full, options.steps_of(LEVELS), options.guide())]

    def s2a_published(self, options: SemanticS2AOptions) -> Tensor:
        """A call for each branch; conditions and prompt anew in every step."""
        draws, choice = RowDraws([1], "cpu"), options.choice()
        codes_BTQ = self.semantic_BT.new_zeros(1, self.frames, LEVELS)
        for model, steps, guidance in self.stages(options):
            for level in range(model.first_level, model.n_levels):
                head = partial(head_of, model, level)
                logits = guided(partial(self.level, model, codes_BTQ, level), head, guidance, self.frames)
                codes_BTQ[..., level] = sample_masked(
                    logits, [self.frames], steps[level], choice, draws, "cpu"
                )
        return codes_BTQ

    def level(
        self,
        model: MaskGCTSemanticS2A,
        codes_BTQ: Tensor,
        level: int,
        codes_BT: Tensor,
        masked_BT: Tensor,
        time: float,
        conditional: bool,
    ) -> Tensor:
        known = codes_BTQ[..., : model.n_levels]
        x_BND = model.embed_other_levels(known, level) + model.embed_level(codes_BT, masked_BT, level)
        semantic_BN = self.semantic_BT
        if conditional:
            prompt = self.prompt_BPQ[..., : model.n_levels]
            prompt_BPD = model.embed_codes(prompt, torch.zeros_like(prompt).bool())
            x_BND = torch.cat([prompt_BPD, x_BND], dim=1)
            semantic_BN = torch.cat([self.prompt_semantic_BP, semantic_BN], dim=1)
        x_BND = x_BND + model.condition(semantic_BN, torch.tensor([level]))
        mask_BN = torch.ones_like(semantic_BN).bool()
        found: Tensor = model.transformer(x_BND, torch.tensor([time]), mask_BN, None)
        return found[:, -self.frames :]


def head_of(model: CodeLevels, level: int, hidden_BTD: Tensor) -> Tensor:
    return model.logits(hidden_BTD, level)


def guided(
    states: Callable[[Tensor, Tensor, float, bool], Tensor],
    head: Callable[[Tensor], Tensor],
    guidance: Guidance,
    frames: int,
) -> LogitsFn:
    """Logits of both branches, one call after the other."""
    mask_BT = torch.ones(1, frames).bool()

    def logits(codes_BT: Tensor, masked_BT: Tensor, time: float, _rows: Sequence[int]) -> Tensor:
        hidden_BTD = states(codes_BT, masked_BT, time, True)
        if guidance.scale:
            hidden_BTD = guide(hidden_BTD, states(codes_BT, masked_BT, time, False), mask_BT, guidance)
        return head(hidden_BTD)

    return logits


def compared(ours: Callable[[], Tensor], published: Callable[[], Tensor], networks: list[nn.Module]) -> Any:
    """Figures of both ways."""
    codes, spent, calls = measured(ours, networks)
    theirs, published_spent, published_calls = measured(published, networks)
    if not torch.equal(codes, theirs):
        raise ValueError(
            f"{int((codes != theirs).sum())} of {codes.numel()} codes differ from the published way"
        )
    return {
        "cpu_s": round(spent, 2),
        "calls": calls,
        "published_cpu_s": round(published_spent, 2),
        "published_calls": published_calls,
        "times_as_fast": round(published_spent / spent, 2),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = Task(arguments.seconds, arguments.width, arguments.layers)
    text, speech = SemanticTextOptions(), SemanticS2AOptions()
    s2a = [task.first.transformer, task.full.transformer]
    ours_8d = Autoencoder8dOptions()
    published_8d = Autoencoder8dOptions(**{key: value for key, value in PUBLISHED.items() if key != "metric"})  # type: ignore[arg-type]
    found: dict[str, Any] = {
        "t2s": compared(
            lambda: task.t2s_ours(text), lambda: task.t2s_published(text), [task.t2s.trunk.transformer]
        ),
        "s2a": compared(lambda: task.s2a_ours(speech), lambda: task.s2a_published(speech), s2a),
        "decode_8d_published_steps": compared(
            lambda: task.s2a_ours(published_8d), lambda: task.s2a_published(published_8d), s2a
        ),
    }
    _, spent, calls = measured(lambda: task.s2a_ours(ours_8d), s2a)
    theirs = found["decode_8d_published_steps"]
    found["decode_8d_default_steps"] = {
        "cpu_s": round(spent, 2),
        "calls": calls,
        "published_calls": theirs["published_calls"],
        "times_as_fast_as_published": round(theirs["published_cpu_s"] / spent, 2),
    }
    for name, figures in found.items():
        print(f"{name:28s}", "  ".join(f"{key} {value}" for key, value in figures.items()))
    result = {
        "threads": arguments.threads,
        "seconds": arguments.seconds,
        "width": arguments.width,
        "layers": arguments.layers,
        "weights": "random",
        "torch": torch.__version__,
        **found,
    }
    if arguments.keep:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
