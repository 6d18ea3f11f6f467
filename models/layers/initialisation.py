"""Initial weights."""

from torch import nn


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw weights of linear layers and embeddings from N(0, std), biases 0; adaptive norms stay identity."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | nn.Embedding) and not name.endswith(".gain"):
            nn.init.normal_(child.weight, std=std)
            if isinstance(child, nn.Linear) and child.bias is not None:
                nn.init.zeros_(child.bias)
