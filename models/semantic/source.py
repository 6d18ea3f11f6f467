"""Where the parts of a semantic tokenizer lie. Standard library only: settings of jobs hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TokenizerSource:
    """The parts of a semantic tokenizer, each a path or an id of the Hugging Face Hub."""

    tokenizer: str
    """A RepCodec (a directory of ours, or a release like amphion/MaskGCT), a directory of k-means cells, or the source
    string of a codec, whose first level makes the tokens."""
    features: str = ""
    """Of RepCodec or the cells; empty: facebook/w2v-bert-2.0 or facebook/hubert-base-ls960, whichever they read."""
    statistics: str = ""
    """File with `mean` and `var` of w2v-BERT's features, such as MaskGCT's wav2vec2bert_stats.pt; empty: not used."""
    layer: int = 17
    """Hidden state of w2v-BERT that RepCodec reads; cells name their own."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """How RepCodec looks latents up."""

    def __post_init__(self) -> None:
        if not self.tokenizer:
            raise ValueError("tokenizer is empty; must be a directory, an id of the hub or a codec")
        if self.layer < 1:
            raise ValueError(f"layer is {self.layer}, must be at least 1")
