"""Sizes of the encoder-decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.layers.checks import check_choice, check_positive
from models.toktts.patterns import Delayed, Interleaved, Pattern


@dataclass(frozen=True)
class TokTTSConfig:
    """The default widths and depths are those of the published example (`ex_small`)."""

    text_vocab_size: int = 384
    """Rows of the text table; the default is that of ByT5's bytes."""
    n_codebooks: int = 2
    """Q, levels of the codec that are spoken."""
    codebook_size: int = 1024
    """V, of every codebook."""
    pattern: Literal["interleave", "delay"] = "interleave"
    """How several codebooks become tokens, see `models.toktts.patterns`."""
    code_ids: Literal["separate", "shared"] = "separate"
    """Only interleaved: `shared` is the published way, in which only a token's place tells its codebook."""
    encoder_attention: Literal["bidirectional", "causal"] = "bidirectional"
    """`causal` is the published way: its encoder is a GPT-2, in which a letter sees only those before it."""
    encoder_size: int = 128
    encoder_layers: int = 4
    encoder_heads: int = 8
    decoder_size: int = 192
    decoder_layers: int = 6
    decoder_heads: int = 12
    text_positions: int = 1024
    """The longest text, in tokens."""
    token_positions: int = 4096
    """The longest speech, in steps of the decoder."""
    dropout: float = 0.1
    encoder_attention_dropout: float = 0.1
    decoder_attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = [f"{part}_{size}" for part in ("encoder", "decoder") for size in ("size", "layers", "heads")]
        counts = ["text_vocab_size", "n_codebooks", "codebook_size", "text_positions", "token_positions"]
        check_positive(self, sizes + counts)
        check_choice(self, "pattern", ("interleave", "delay"))
        check_choice(self, "code_ids", ("separate", "shared"))
        check_choice(self, "encoder_attention", ("bidirectional", "causal"))
        for part in ("encoder", "decoder"):
            size, heads = getattr(self, f"{part}_size"), getattr(self, f"{part}_heads")
            if size % heads:
                raise ValueError(
                    f"{part}_size is {size} with {part}_heads {heads}; it must be a multiple of it"
                )
        for name in ("dropout", "encoder_attention_dropout", "decoder_attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")

    def tokens(self) -> Pattern:
        """The pattern between codes and tokens."""
        if self.pattern == "delay":
            return Delayed(self.n_codebooks, self.codebook_size)
        return Interleaved(self.n_codebooks, self.codebook_size, self.code_ids)

    @property
    def most_frames(self) -> int:
        """Frames of the longest speech that the table of positions has room for."""
        return self.tokens().frames(self.token_positions)
