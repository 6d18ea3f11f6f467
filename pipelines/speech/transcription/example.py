"""Whisper models with random weights, for tests and benchmarks where no weights can be fetched.

The vocabulary has the order of the published ones. That of a model that knows languages ends its text with an empty
token, and this is how CTranslate2 tells. The weights are spread wide, so that the text depends on the audio and ends
at different lengths.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration, WhisperTokenizer

COPIED = ("tokenizer.json", "preprocessor_config.json")
TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


@dataclass(frozen=True)
class Size:
    """Dimensions. Those of the published `tiny` are 384, 4, 4, 6 and 50257."""

    width: int = 16
    encoder_layers: int = 1
    decoder_layers: int = 1
    heads: int = 2
    text_tokens: int = 1000
    multilingual: bool = True


def build(folder: Path, size: Size | None = None, seed: int = 0) -> tuple[Path, Path]:
    """Write `folder/hf` (transformers) and `folder/ct2` (CTranslate2, float32): the same weights."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperFeatureExtractor

    chosen, hf, ct2 = size or Size(), folder / "hf", folder / "ct2"
    tokenizer = make_tokenizer(chosen)
    tokenizer.save_pretrained(hf)
    WhisperFeatureExtractor().save_pretrained(hf)
    make_model(chosen, tokenizer, seed).save_pretrained(hf)
    TransformersConverter(str(hf), copy_files=list(COPIED)).convert(str(ct2))
    return hf, ct2


def words() -> Iterator[str]:
    """Made-up words, each after a space as byte-level BPE spells it."""
    consonants = "".join(letter for letter in string.ascii_lowercase if letter not in "aeiou")
    for syllables in (1, 2):
        for letters in product(*[consonants, "aeiou", consonants] * syllables):
            yield "\u0120" + "".join(letters)


def make_tokenizer(size: Size) -> WhisperTokenizer:
    """Byte-level BPE without merges: it reads bytes and writes bytes or made-up words."""
    from transformers import WhisperTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    letters = list(bytes_to_unicode().values())
    empty = [""] if size.multilingual else []
    texts = letters + list(islice(words(), size.text_tokens - len(letters) - len(empty))) + empty
    # `yue` came with large-v3, after the 99 others. English-only models have the language tokens, too.
    names = ["endoftext", "startoftranscript", *list(LANGUAGES)[:99], *TASKS]
    special = [f"<|{name}|>" for name in names] + [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    vocabulary = {token: index for index, token in enumerate(texts + special)}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[: len(names)]})
    return tokenizer


def make_model(size: Size, tokenizer: WhisperTokenizer, seed: int) -> WhisperForConditionalGeneration:
    """WhisperForConditionalGeneration with the generation settings that the published models carry."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    ids = tokenizer.get_vocab()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(ids),
        d_model=size.width,
        encoder_layers=size.encoder_layers,
        decoder_layers=size.decoder_layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.normal_(std=2.0 / weight[0].numel() ** 0.5)
        embeddings = model.model.decoder.embed_tokens.weight
        embeddings.normal_(std=size.width**-0.5)
        embeddings[end] *= 1.5
    model.generation_config = GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        max_length=448,
        suppress_tokens=sorted({start, *(ids[f"<|{task}|>"] for task in TASKS)}),
        begin_suppress_tokens=[ids["\u0120"], end],
        no_timestamps_token_id=ids["<|notimestamps|>"],
        is_multilingual=size.multilingual,
        **_languages(ids, start) if size.multilingual else {},
    )
    return model


def _languages(ids: dict[str, int], start: int) -> dict[str, object]:
    tokens = sorted((index, token) for token, index in ids.items() if start < index <= start + 99)
    return {
        "lang_to_id": {token: index for index, token in tokens},
        "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        "language": "en",
        "task": "transcribe",
    }
