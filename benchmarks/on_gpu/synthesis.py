"""Ten seconds of speech by MaskGCT at published size: our sampler against the published way.

The published way makes one call for each branch of the guidance over padded rows, and computes everything again in each
step. Steps are the published ones: 50 for codebook 0, 20, 10 and then 1 for the others.
Shapes: B rows, L text tokens, P prompt frames, T frames, D channels, V codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.layers.levels import hidden_codes
from models.layers.masks import length_mask
from models.maskgct.options import MaskGCTOptions
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.sampling import Conditions, Generated, generate_s2a, generate_t2s
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.sampling.draws import RowDraws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import LogitsFn, TokenChoice, sample_masked

FRAME_RATE, SECONDS, PROMPT_S, LEVELS = 50, 10, 3, 8
BATCHES = (1, 8, 32)


def run(machine: Machine) -> Mapping[str, Json]:
    """Real-time factors (seconds of work a second of speech) and forward passes."""
    sizes: dict[str, Any] = (
        {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "feed_forward_size": 128} if machine.small else {}
    )
    torch.manual_seed(0)
    with machine.device:
        t2s = MaskGCTT2S(MaskGCTT2SConfig(260, **sizes)).eval()
        s2a = MaskGCTS2A(MaskGCTS2AConfig(260, LEVELS, **sizes)).eval()
    found: dict[str, Json] = {}
    for rows in BATCHES[: 1 if machine.small else None]:
        given = _conditions(machine, rows)
        ways: dict[str, Callable[[], int]] = {
            "published": lambda given=given: _published(machine, t2s, s2a, given),  # type: ignore[misc]
            "ours": lambda given=given: _ours(machine, t2s, s2a, given),  # type: ignore[misc]
        }
        for name, way in ways.items():
            found[f"{name}, {rows} rows"] = _timed(machine, way, rows)
    for stage in (t2s, s2a):
        for block in stage.trunk.transformer.blocks:
            block.compile(dynamic=False)
    for rows in BATCHES[: 1 if machine.small else None]:
        given = _conditions(machine, rows)
        found[f"ours compiled, {rows} rows"] = _timed(
            machine,
            lambda given=given: _ours(machine, t2s, s2a, given),  # type: ignore[misc]
            rows,
        )
    torch._dynamo.reset()
    return found


def _timed(machine: Machine, way: Callable[[], int], rows: int) -> Json:
    if machine.left_s() < 20:
        return "left out: the time was up"
    forwards = way()
    seconds = machine.seconds(way, warm=0, least_s=4, most=5)
    return {
        "forwards": forwards,
        "seconds": round(seconds, 3),
        "real_time_factor": round(seconds / _seconds(machine) / rows, 5),
    }


def _conditions(machine: Machine, rows: int) -> Conditions:
    generator = torch.Generator().manual_seed(rows)
    seconds = _seconds(machine)
    text_BL = torch.randint(0, 256, (rows, 14 * (seconds + PROMPT_S)), generator=generator).to(machine.device)
    prompt_BPQ = torch.randint(0, 1024, (rows, FRAME_RATE * PROMPT_S, LEVELS), generator=generator)
    prompt_BPQ = prompt_BPQ.to(machine.device)
    frames = [FRAME_RATE * seconds] * rows
    ones = torch.ones_like(prompt_BPQ[..., 0], dtype=torch.bool)
    return Conditions(text_BL, torch.ones_like(text_BL, dtype=torch.bool), prompt_BPQ, ones, frames)


def _options(machine: Machine) -> MaskGCTOptions:
    return MaskGCTOptions(t2s_steps=3, s2a_steps=(2, 2, 1)) if machine.small else MaskGCTOptions()


def _seconds(machine: Machine) -> int:
    return 1 if machine.small else SECONDS


def _draws(given: Conditions) -> RowDraws:
    return RowDraws(range(len(given.lengths)), given.text_BL.device)


@torch.no_grad()
def _ours(machine: Machine, t2s: MaskGCTT2S, s2a: MaskGCTS2A, given: Conditions) -> int:
    options, draws = _options(machine), _draws(given)
    with machine.autocast():
        first = generate_t2s(t2s, given, options.t2s_steps, options.choice(), options.guide(), draws)
        steps = options.steps_of(LEVELS)
        made: Generated = generate_s2a(
            s2a, given, first.codes_BTQ, steps, options.choice(), options.guide(), draws
        )
    return first.evaluations + made.evaluations


@torch.no_grad()
def _published(machine: Machine, t2s: MaskGCTT2S, s2a: MaskGCTS2A, given: Conditions) -> int:
    options, draws = _options(machine), _draws(given)
    calls = _Calls(given, options.guide())
    device = given.text_BL.device
    with machine.autocast():
        first_BT = sample_masked(
            calls.first(t2s), given.lengths, options.t2s_steps, TokenChoice(), draws, device
        )
        codes_BTQ = torch.zeros(*first_BT.shape, LEVELS, dtype=torch.int64, device=device)
        codes_BTQ[..., 0] = first_BT
        for level, steps in enumerate(options.steps_of(LEVELS)):
            if level:
                logits = calls.level(s2a, codes_BTQ, level)
                codes_BTQ[..., level] = sample_masked(
                    logits, given.lengths, steps, TokenChoice(), draws, device
                )
    return calls.count


class _Calls:
    """Logits of a step, from two calls of a trunk that embeds text and prompt anew."""

    def __init__(self, given: Conditions, guidance: Guidance) -> None:
        self.given, self.guidance, self.count = given, guidance, 0
        device, lengths = given.text_BL.device, given.lengths
        self.mask_BT = length_mask(torch.tensor(lengths, device=device), max(lengths))

    def _guided(
        self, model: MaskGCTT2S | MaskGCTS2A, prompt_BPD: Tensor, target_BTD: Tensor, time: float
    ) -> Tensor:
        given, trunk = self.given, model.trunk
        self.count += 2
        times_B = torch.full((len(given.lengths),), time, device=target_BTD.device)
        speech_BND = torch.cat([prompt_BPD, target_BTD], dim=1)
        speech_mask_BN = torch.cat([given.prompt_mask_BP, self.mask_BT], dim=1)
        text_BLD = trunk.embed_text(given.text_BL)
        conditional = trunk(text_BLD, given.text_mask_BL, speech_BND, speech_mask_BN, times_B)
        conditional = conditional[:, prompt_BPD.shape[1] :]
        alone = trunk(text_BLD[:, :0], given.text_mask_BL[:, :0], target_BTD, self.mask_BT, times_B)
        return guide(conditional, alone, self.mask_BT, self.guidance)

    def first(self, model: MaskGCTT2S) -> LogitsFn:
        """Of codebook 0."""

        def logits(codes_BT: Tensor, masked_BT: Tensor, time: float, _rows: Sequence[int]) -> Tensor:
            prompt_BP = self.given.prompt_BPQ[..., 0]
            prompt_BPD = model.embed_codes(prompt_BP, torch.zeros_like(prompt_BP, dtype=torch.bool))
            target_BTD = model.embed_codes(codes_BT, masked_BT)
            y: Tensor = model.head(self._guided(model, prompt_BPD, target_BTD, time))
            return y

        return logits

    def level(self, model: MaskGCTS2A, known_BTQ: Tensor, level: int) -> LogitsFn:
        """Of one of the others, given those below."""
        levels_B = torch.full((len(known_BTQ),), level, device=known_BTQ.device)
        nowhere_BT = torch.zeros_like(self.mask_BT)

        def logits(codes_BT: Tensor, masked_BT: Tensor, time: float, _rows: Sequence[int]) -> Tensor:
            codes_BTQ = known_BTQ.clone()
            codes_BTQ[..., level] = codes_BT
            hidden_BTQ = hidden_codes(LEVELS, masked_BT, nowhere_BT, levels_B)
            condition_B1D = model.condition(levels_B)
            prompt_BPQ = self.given.prompt_BPQ
            prompt_BPD = model.embed_codes(prompt_BPQ, torch.zeros_like(prompt_BPQ, dtype=torch.bool))
            target_BTD = model.embed_codes(codes_BTQ, hidden_BTQ) + condition_B1D
            states_BTD = self._guided(model, prompt_BPD + condition_B1D, target_BTD, time)
            y: Tensor = model.heads(states_BTD, level)
            return y

        return logits
