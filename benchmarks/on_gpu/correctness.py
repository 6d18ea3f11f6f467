"""Every trainable network on the device against itself on the CPU, and packed rows against padded ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.families import FAMILIES
from models.layers.packing import Packing
from models.layers.transformer import NonCausalTransformer
from models.manifest import Example, Padding

FP32_TOLERANCE, BF16_TOLERANCE = 1e-3, 0.1
"""Greatest difference, as a share of the output's largest value."""


def run(machine: Machine) -> Mapping[str, Json]:
    """Errors relative to the largest output, with the names of those above the tolerance."""
    found: dict[str, Json] = {"packed": packed(machine)}
    bad: list[str] = []
    for trainable in (one for family in FAMILIES for one in family.trainables):
        if trainable.example is None:
            continue
        example = trainable.example()
        torch.manual_seed(3)
        module = trainable.module(example.config).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        expected = _outputs(module, example, torch.device("cpu"))
        module = module.to(machine.device)
        fp32 = _difference(_outputs(module, example, machine.device), expected)
        with machine.autocast():
            bf16 = _difference(_outputs(module, example, machine.device), expected)
        found[trainable.name] = {"fp32": fp32, "bf16": bf16}
        if not fp32 <= FP32_TOLERANCE or not bf16 <= BF16_TOLERANCE:
            bad.append(trainable.name)
    return {**found, "above the tolerance": bad}


@torch.no_grad()
def _outputs(module: nn.Module, example: Example, device: torch.device) -> list[Tensor]:
    inputs = {name: value.to(device) for name, value in example.batch(example.rows, Padding()).items()}
    made = module(**inputs)
    return [example.part(one, row).float().cpu() for one, row in zip(made, example.rows, strict=True)]


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    largest = max(float(one.abs().max()) for one in expected)
    errors = [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]
    return float(f"{max(errors) / largest:.2e}")


def packed(machine: Machine) -> dict[str, Json]:
    """Outputs and gradients of packed rows in bfloat16 and of padded rows in float32."""
    torch.manual_seed(0)
    network = NonCausalTransformer(128, 4, 2, 256).to(machine.device)
    lengths = torch.tensor([70, 5, 129, 64], device=machine.device)
    mask_BN = torch.arange(129, device=machine.device) < lengths[:, None]
    x_BND = torch.randn(4, 129, 128, device=machine.device)
    times_B = torch.rand(4, device=machine.device)
    packing = Packing(mask_BN)

    def gradients(made_MD: Tensor) -> tuple[Tensor, Tensor]:
        network.zero_grad()
        made_MD.float().square().mean().backward()
        weight = network.blocks[0].attention.qkv.weight
        assert weight.grad is not None
        return made_MD.detach().float(), weight.grad.clone()

    expected = gradients(network(x_BND, times_B, mask_BN, None)[mask_BN])
    with machine.autocast():
        made = gradients(network.run(packing.pack(x_BND), times_B, network.packed(packing))[0])
    output, gradient = (
        float((one - other).norm() / other.norm()) for one, other in zip(made, expected, strict=True)
    )
    return {"output error": round(output, 5), "gradient error": round(gradient, 5)}
