"""Initial weights."""

import torch
from torch import Tensor, nn


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw weights of linear layers and embeddings from N(0, std), biases 0; adaptive norms stay identity."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | nn.Embedding) and not name.endswith(".gain"):
            nn.init.normal_(child.weight, std=std)
            if isinstance(child, nn.Linear) and child.bias is not None:
                nn.init.zeros_(child.bias)


def projected(codebooks_QVD: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Vectors of a codec's codes (Q levels, V codes, D channels) as embeddings (Q, V, dim).

    As they are where D is `dim`; else by one random projection for all, scaled so that those of level 0 have a mean
    square of 1, as new embeddings have.
    """
    channels = codebooks_QVD.shape[-1]
    if channels == dim:
        return codebooks_QVD
    weight_DE = torch.randn(channels, dim, generator=generator).to(codebooks_QVD.device)
    embeddings_QVE = codebooks_QVD @ weight_DE
    return embeddings_QVE / embeddings_QVE[0].square().mean().sqrt()
