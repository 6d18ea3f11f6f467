"""Text -> codes with an encoder and a decoder of GPT-2 blocks (after alexeyrodriguez/toktts@8d67e39).

Differences: the encoder sees the whole text; codebooks have ids of their own, or streams of their own with the delay
pattern; decoding keeps keys and values, and the memory's are projected once.
Shapes: B rows, L text tokens, S steps, K streams, V ids, E and D channels of encoder and decoder.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.attention import Padded, SelfAttention
from models.layers.attention_cache import Cached, CrossAttention, Memory
from models.layers.feed_forward import gelu_mlp
from models.layers.initialisation import init_normal
from models.layers.masks import packed_positions
from models.layers.pre_norm import PreNormBlock, PreNormStack
from models.toktts.config import TokTTSConfig


class TokTTS(nn.Module):
    """Predicts the tokens of each stream that follow; ids and streams are those of `config.tokens()`."""

    def __init__(self, config: TokTTSConfig) -> None:
        super().__init__()
        self.config, self.pattern = config, config.tokens()
        encoder_size, size = config.encoder_size, config.decoder_size
        self.text_table = nn.Embedding(config.text_vocab_size, encoder_size)
        self.text_positions = nn.Embedding(config.text_positions, encoder_size)
        self.encoder = _gpt2(encoder_size, config.encoder_layers, config.encoder_heads, config.dropout)
        same_size = encoder_size == size
        self.to_decoder = nn.Identity() if same_size else nn.Linear(encoder_size, size)
        # The head of a stream is its embedding table.
        self.token_tables_KVD = nn.Parameter(
            torch.randn(self.pattern.n_streams, self.pattern.n_ids, size) * 0.02
        )
        self.token_positions = nn.Embedding(config.token_positions, size)
        self.decoder = _gpt2(size, config.decoder_layers, config.decoder_heads, config.dropout, memory=True)
        self.dropout = nn.Dropout(config.dropout)
        _initialise(self)

    def encode(self, text_BL: Tensor, text_mask_BL: Tensor, said_B: Tensor | None = None) -> Memory:
        """Read int64 text tokens; the mask is true at valid ones, and padding may stand on either side.

        The decoder reads nothing of a row whose `said_B`, bool, is false; None: it reads all rows. ValueError for a
        text that is longer than the table of positions.
        """
        if text_BL.shape[1] > self.config.text_positions:
            raise ValueError(
                f"the text has {text_BL.shape[1]} tokens; the most is {self.config.text_positions} (text_positions)"
            )
        positions_BLE = self.text_positions(packed_positions(text_mask_BL))
        x_BLE = self.dropout(self.text_table(text_BL) + positions_BLE)
        causal = self.config.encoder_attention == "causal"
        dropout = self.config.encoder_attention_dropout if self.training else 0.0
        encoded_BLE = self.encoder(x_BLE, Padded(text_mask_BL, None, causal=causal, dropout=dropout))
        encoded_BLD = self.to_decoder(encoded_BLE)
        if said_B is not None:
            encoded_BLD = encoded_BLD * said_B[:, None, None]
        return Memory(encoded_BLD, text_mask_BL, self._decoder_attention_dropout)

    def forward(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        tokens_BSK: Tensor,
        seen_BSK: Tensor | None = None,
        said_B: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, S, K, V) of the tokens that follow each step.

        `tokens_BSK`, int64, begin with the start token; padding stands behind them. `seen_BSK`, bool, is false at
        tokens that the decoder may not read; None: it reads all. `said_B`: see `encode`. ValueError for sequences that
        are longer than the tables of positions.
        """
        memory = self.encode(text_BL, text_mask_BL, said_B)
        steps_S = torch.arange(tokens_BSK.shape[1], device=tokens_BSK.device)
        x_BSD = self._embed(tokens_BSK, steps_S, seen_BSK)
        context = Padded(None, None, causal=True, dropout=self._decoder_attention_dropout)
        return self._logits(self.decoder(x_BSD, context, None, memory))

    def cache(self, n_rows: int, max_steps: int, reads: Literal["used", "all"] = "used") -> Cached:
        """An empty cache for `step`. ValueError for more steps than the table of positions has."""
        self._check_steps(max_steps)
        return Cached(n_rows, max_steps, self.token_tables_KVD.device, reads=reads)

    def step(self, tokens_BK: Tensor, cache: Cached, memory: Memory) -> Tensor:
        """Read the tokens of one step: logits (B, K, V) of the next."""
        x_B1D = self._embed(tokens_BK[:, None], cache.lengths_B[:, None])
        cache.extend(torch.ones_like(cache.lengths_B), 1)
        return self._logits(self.decoder(x_B1D, cache, None, memory))[:, 0]

    @property
    def _decoder_attention_dropout(self) -> float:
        return self.config.decoder_attention_dropout if self.training else 0.0

    def _embed(self, tokens_BSK: Tensor, positions: Tensor, seen_BSK: Tensor | None = None) -> Tensor:
        self._check_steps(tokens_BSK.shape[1])
        x_BSD = self.token_positions(positions)
        for stream, tokens_BS in enumerate(tokens_BSK.unbind(-1)):
            read_BSD = F.embedding(tokens_BS, self.token_tables_KVD[stream])
            x_BSD = x_BSD + (read_BSD if seen_BSK is None else read_BSD * seen_BSK[..., stream, None])
        y: Tensor = self.dropout(x_BSD)
        return y

    def _logits(self, hidden_BSD: Tensor) -> Tensor:
        logits_BSM = F.linear(hidden_BSD, self.token_tables_KVD.flatten(0, 1))
        return logits_BSM.view(*logits_BSM.shape[:2], *self.token_tables_KVD.shape[:2])

    def _check_steps(self, n_steps: int) -> None:
        if n_steps > self.config.token_positions:
            raise ValueError(f"{n_steps} steps; the most is {self.config.token_positions} (token_positions)")


def _gpt2(size: int, n_layers: int, n_heads: int, dropout: float, *, memory: bool = False) -> PreNormStack:
    """GPT-2's blocks with its final norm; with a memory they have cross-attention."""
    blocks = [
        PreNormBlock(
            partial(nn.LayerNorm, size),
            SelfAttention(size, n_heads, layer, qkv_bias=True, out_bias=True),
            gelu_mlp(size, 4, approximate="tanh"),
            cross_attention=CrossAttention(size, size, n_heads, layer) if memory else None,
            dropout=dropout,
        )
        for layer in range(n_layers)
    ]
    return PreNormStack(blocks, nn.LayerNorm(size))


@torch.no_grad()
def _initialise(module: TokTTS) -> None:
    """As GPT-2: N(0, 0.02), what goes to the residual stream smaller by the root of the number of branches."""
    init_normal(module)
    for stack in (module.encoder, module.decoder):
        for name, parameter in stack.named_parameters():
            if name.endswith(("attention.out.weight", "feed_forward.3.weight")):
                parameter.mul_(1 / math.sqrt(2 * len(stack.blocks)))
