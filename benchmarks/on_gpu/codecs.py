"""Hours of audio that codecs encode and decode in an hour, in float32 and bfloat16.

Weights of the embedded codec are its own; those of the others are random, which costs the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch

from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.codec_sources import load_codec
from models.codecs.dac.network import ConvolutionalCodec, ConvolutionalModel, build_network
from models.codecs.interface import Codec, Codes
from models.codecs.rows import RowCodec

ROWS, SECONDS = 64, 10


class _Made(Protocol):
    def __call__(self, device: torch.device) -> Codec: ...


def _dac(preset: str) -> _Made:
    def made(device: torch.device) -> Codec:
        torch.manual_seed(0)
        config = ConvolutionalModel(preset).resolve()
        return ConvolutionalCodec(
            build_network(config).to(device).eval(), config, f"dac-{preset}", "1", "random"
        )

    return made


CODECS: Mapping[str, _Made] = {
    "mill-16khz": lambda device: load_codec("mill-16khz", device),
    "dac-16khz": _dac("16khz"),
    "dac-44khz": _dac("44khz"),
}


def run(machine: Machine) -> Mapping[str, Json]:
    """Hours an hour of each codec and precision."""
    found: dict[str, Json] = {}
    for name, made in CODECS.items():
        codec = made(machine.device)
        found[f"{name}, fp32"] = _speeds(machine, codec)
        if isinstance(codec, RowCodec):
            found[f"{name}, bf16"] = _speeds(machine, codec.at_precision(torch.bfloat16))
    return found


def _speeds(machine: Machine, codec: Codec) -> Json:
    if machine.left_s() < 15:
        return "left out: the time was up"
    rows, seconds = (2, 1) if machine.small else (ROWS, SECONDS)
    lengths_B = torch.full((rows,), seconds * codec.sample_rate, device=machine.device)
    wave_BT = torch.rand(rows, int(lengths_B[0]), device=machine.device) - 0.5
    kept: list[Codes] = []
    encode_s = machine.seconds(lambda: kept.append(codec.encode(wave_BT, lengths_B)), least_s=2, most=5)
    decode: Callable[[], object] = lambda: codec.decode(kept[-1])  # noqa: E731
    decode_s = machine.seconds(decode, least_s=2, most=5)
    return {"encode": round(rows * seconds / encode_s), "decode": round(rows * seconds / decode_s)}
