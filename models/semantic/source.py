"""Locations of the parts of semantic tokenizers and embedders. Standard library only: settings of jobs hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self


@dataclass(frozen=True)
class TokenizerSource:
    """The parts of a semantic tokenizer, each a path or an id of the Hugging Face Hub."""

    tokenizer: str
    """A RepCodec (a directory of ours, or a release like amphion/MaskGCT), a directory of k-means cells, or the source
    string of a codec, whose first level makes the tokens."""
    features: str = ""
    """Of RepCodec or the cells; empty: facebook/w2v-bert-2.0 or facebook/hubert-base-ls960, whichever they read.
    A CTranslate2 directory of Whisper: its encoder."""
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

    def mapped(self, place: Callable[[str], str]) -> Self:
        """The same with `place` of each part."""
        parts = (place(self.tokenizer), place(self.features), place(self.statistics))
        return replace(self, tokenizer=parts[0], features=parts[1], statistics=parts[2])


@dataclass(frozen=True)
class EmbedderSource:
    """A network that turns waves into vectors, and its parts, each a path or an id of the Hugging Face Hub."""

    kind: Literal["latents", "w2v-bert", "hubert", "whisper", "codec", "speaker"] = "latents"
    """latents: of RepCodec (8-D in MaskGCT); whisper: what its encoder gives; codec: the vectors that codes stand for;
    speaker: one per utterance."""
    model: str = ""
    """latents: RepCodec (empty: amphion/MaskGCT); w2v-bert, hubert: empty for the published ones; whisper: a directory
    of CTranslate2; codec: its source string; speaker: `resemblyzer`, or an x-vector network of transformers such as
    microsoft/wavlm-base-plus-sv."""
    features: str = ""
    """Of RepCodec; empty: facebook/w2v-bert-2.0."""
    statistics: str = ""
    """File with `mean` and `var` by which features of w2v-BERT are normalised; empty: not used."""
    layer: int = 17
    """Hidden state of w2v-BERT or HuBERT (12 layers in hubert-base-ls960)."""

    def __post_init__(self) -> None:
        if self.kind in ("whisper", "codec", "speaker") and not self.model:
            raise ValueError(f"model is empty; kind {self.kind} needs one")
        if self.layer < 1:
            raise ValueError(f"layer is {self.layer}, must be at least 1")

    def mapped(self, place: Callable[[str], str]) -> Self:
        """The same with `place` of each part."""
        parts = (place(self.model), place(self.features), place(self.statistics))
        return replace(self, model=parts[0], features=parts[1], statistics=parts[2])
