"""Finding a codec by its source string: a name, a name with an edition, or a directory."""

from __future__ import annotations

from pathlib import Path

import torch

from models.codecs import files
from models.codecs.interface import Codec
from models.codecs.mill.editions import EMBEDDED, editions, embedded_directory
from models.codecs.pcm import PCM_RATES, PcmCodec
from models.families import codec_loader


def load_codec(source: str, device: str | torch.device = "cpu") -> Codec:
    """The codec that `source` names.

    `source`: `pcm-16khz` (24khz, 44khz), `mill-16khz` (its newest embedded edition), `mill-16khz@1`, or a directory
    that holds config.json and model.safetensors. ValueError for an unknown name, FileNotFoundError for missing weights.
    """
    name, _, edition = source.partition("@")
    if name in PCM_RATES and edition in ("", PcmCodec.edition):
        return PcmCodec(name)
    directory = embedded_directory(source) or Path(source)
    if directory.is_dir():
        return load_codec_directory(directory, device)
    known = [*PCM_RATES, EMBEDDED, *(f"{EMBEDDED}@{edition}" for edition in editions())]
    raise ValueError(f"codec {source!r} is not known; use {', '.join(known)} or a directory with config.json")


def load_codec_directory(directory: Path, device: str | torch.device = "cpu") -> Codec:
    """The codec in `directory`, whatever its kind.

    FileNotFoundError for a file that is missing, ValueError for one that is damaged, of an unknown kind or does not
    fit.
    """
    kind = files.kind_of(directory)
    try:
        loader = codec_loader(kind)
    except ValueError as error:
        raise ValueError(f"{directory / files.CONFIG}: {error}") from error
    return loader(directory, device)
