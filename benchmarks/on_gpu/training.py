"""Training steps of MaskGCT at published size: our objective's step against the straightforward one.

Shapes: B rows, T frames, M hidden frames, V codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.layers.masks import length_mask, pad_rows
from models.maskgct.s2a import MaskGCTS2AConfig
from models.maskgct.t2s import MaskGCTT2SConfig
from trainers.objectives import DataInfo, Loss
from trainers.objectives.generator import TextBatch
from trainers.objectives.maskgct_prefix import (
    MaskGCTS2AObjective,
    MaskGCTT2SObjective,
    S2ASettings,
    T2SSettings,
)
from trainers.objectives.network import cross_entropy
from trainers.optim import OptimConfig, PhaseOptimizer, scale_gradients
from trainers.plan import Position

DATA = DataInfo("mill-16khz@2", 16_000, 320, 8, 1024, 4.0)
POSITIONS = 24_576
"""Of a batch, padding left out: 24 rows of 20 s at most."""
Network: TypeAlias = MaskGCTT2SObjective | MaskGCTS2AObjective
Step: TypeAlias = Callable[[TextBatch, int], None]
WAYS = ("straightforward", "packed", "packed, compiled")


def run(machine: Machine) -> Mapping[str, Json]:
    """Positions a second and share of the device's peak, for both networks and each way."""
    return {"t2s": _network(machine, "t2s"), "s2a": _network(machine, "s2a")}


def _network(machine: Machine, name: str) -> dict[str, Json]:
    batches = [_batch(machine, seed) for seed in range(2 if machine.small else 6)]
    found: dict[str, Json] = {"batch": _described(batches[0])}
    for way in WAYS:
        if machine.left_s() < 30:
            found[way] = "left out: the time was up"
            continue
        objective = _objective(name, machine)
        step = _step(machine, objective, straightforward=way == "straightforward")
        if way == "packed, compiled":
            for network in objective.networks():
                network.compile(dynamic=True)
        turns = itertools.count()

        def update(step: Step = step, turns: Iterator[int] = turns) -> None:
            turn = next(turns)
            step(batches[turn % len(batches)], turn)

        warm = len(batches) if way == "packed, compiled" else 2
        seconds = machine.seconds(update, warm=warm, least_s=6)
        positions = sum(int(_positions(batch).sum()) for batch in batches) / len(batches)
        flops = sum(_flops(objective, batch) for batch in batches) / len(batches)
        row: dict[str, Json] = {
            "seconds": round(seconds, 4),
            "positions_per_s": round(positions / seconds),
            "model_flop_utilisation": None
            if machine.peak is None
            else round(flops / seconds / machine.peak, 4),
        }
        if machine.device.type == "cuda":
            row["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            torch.cuda.reset_peak_memory_stats()
        found[way] = row
        del objective, step
        torch._dynamo.reset()
    return found


def _objective(name: str, machine: Machine) -> Network:
    torch.manual_seed(0)
    sizes: dict[str, Any] = (
        {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "feed_forward_size": 128} if machine.small else {}
    )
    with machine.device:
        if name == "t2s":
            return MaskGCTT2SObjective(MaskGCTT2SConfig(260, **sizes), T2SSettings(), DATA)
        config = MaskGCTS2AConfig(260, DATA.n_codebooks, **sizes)
        return MaskGCTS2AObjective(config, S2ASettings(first_level=1), DATA)


def _step(machine: Machine, objective: Network, *, straightforward: bool) -> Step:
    """One update: loss, gradients, clipping, AdamW."""
    objective.train()
    config = OptimConfig(lr=1e-4)
    optimizer = PhaseOptimizer(objective.parameter_groups("generator"), config, ())
    parameters = list(objective.parameters())

    def step(batch: TextBatch, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        with machine.autocast():
            if straightforward:
                loss = _plain_loss(objective, batch, generator)
            else:
                loss = objective(batch, "generator", generator)
        loss.sum.backward()
        scale_gradients(parameters, 1 / loss.count.clamp(min=1), config.clip_norm)
        optimizer.step(config.lr)

    return step


def _plain_loss(objective: Network, batch: TextBatch, generator: torch.Generator) -> Loss:
    """The same loss of padded rows, with logits at every frame."""
    codes_BTQ = batch.codes_BQT.transpose(1, 2)
    weights_Q = objective.weights_Q if isinstance(objective, MaskGCTS2AObjective) else None
    drawn = objective.corrupted(batch, generator, weights_Q)
    mask_BT = length_mask(batch.lengths_B, codes_BTQ.shape[1])
    text_mask_BL = batch.text_mask_BL & drawn.keep_text_B[:, None]
    if isinstance(objective, MaskGCTT2SObjective):
        logits_BTV = objective.network(
            batch.text_BL, text_mask_BL, codes_BTQ[..., 0], drawn.masked_BT, mask_BT, drawn.times_B
        )
    else:
        prompts_BT = length_mask(drawn.prompt_lengths_B, codes_BTQ.shape[1])
        logits_BTV = objective.network(
            batch.text_BL,
            text_mask_BL,
            codes_BTQ,
            drawn.masked_BT,
            prompts_BT,
            mask_BT,
            drawn.levels_B,
            drawn.times_B,
        )
    rows_B = torch.arange(len(codes_BTQ), device=codes_BTQ.device)
    codes_BT = batch.codes_BQT[rows_B, drawn.levels_B]
    return cross_entropy(logits_BTV[drawn.masked_BT], codes_BT[drawn.masked_BT])


def _batch(machine: Machine, seed: int) -> TextBatch:
    """Rows of 2 to 20 s with 14 bytes of text a second, as batches of a wide length bucket have them."""
    generator = torch.Generator().manual_seed(seed)
    most, rate = (60 if machine.small else POSITIONS), DATA.sample_rate / DATA.hop_length
    texts, codes, total = [], [], 0
    while total < most:
        seconds = 2 + 18 * float(torch.rand((), generator=generator))
        n_text, n_frames = round(14 * seconds), round(rate * seconds)
        texts.append(torch.randint(0, 256, (n_text,), generator=generator))
        codes.append(torch.randint(0, DATA.codebook_size, (n_frames, DATA.n_codebooks), generator=generator))
        total += n_text + n_frames
    codes_BTQ, mask_BT = pad_rows(codes)
    lengths_B = torch.tensor([len(one) for one in codes])
    text_BL, text_mask_BL = pad_rows(texts)
    ids = tuple(str(row) for row in range(len(texts)))
    n_tokens = int(mask_BT.sum()) * DATA.n_codebooks
    made = TextBatch(
        Position(0, 0),
        ids,
        n_tokens,
        codes_BTQ.transpose(1, 2).contiguous(),
        lengths_B,
        text_BL,
        text_mask_BL,
    )
    return made.to(machine.device)


def _positions(batch: TextBatch) -> torch.Tensor:
    return batch.lengths_B + batch.text_mask_BL.sum(1)


def _described(batch: TextBatch) -> dict[str, Json]:
    positions = int(_positions(batch).sum())
    padded = len(batch.ids) * (batch.codes_BQT.shape[2] + batch.text_BL.shape[1])
    return {"rows": len(batch.ids), "positions": positions, "padding": round(1 - positions / padded, 3)}


def _flops(objective: Network, batch: TextBatch) -> float:
    """Floating-point operations that the model needs for a step: 6 a weight and position, and attention's.

    Padding, logits at frames that no loss looks at and recomputation do not count. Half of the frames are hidden.
    """
    config = objective.network.config
    trunk = config.n_layers * (4 * config.hidden_size**2 + 3 * config.hidden_size * config.feed_forward_size)
    positions_B = _positions(batch).double()
    attention = 12 * config.n_layers * config.hidden_size * float(positions_B.square().sum())
    head = 6 * 0.5 * float(batch.lengths_B.sum()) * config.hidden_size * config.codebook_size
    return 6 * trunk * float(positions_B.sum()) + attention + head
