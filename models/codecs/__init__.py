"""Codecs: `load_codec` finds one by name, by name and edition, or in a directory."""

from pathlib import Path

import torch

from models.codecs.interface import Codec
from models.codecs.pcm import PCM_RATES, PcmCodec

EMBEDDED = "mill-16khz"
EMBEDDED_FOLDER = Path(__file__).parent / "mill"


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
        # Imported here so that reading samples does not pay for a network's modules.
        from models.codecs.files import load_directory

        return load_directory(directory, device)
    known = [*PCM_RATES, EMBEDDED, *(f"{EMBEDDED}@{edition}" for edition in editions())]
    raise ValueError(f"codec {source!r} is not known; use {', '.join(known)} or a directory with config.json")


def editions() -> list[str]:
    """The embedded codec's editions that have weights, oldest first."""
    found = (
        path.parent.name.partition("@")[2] for path in EMBEDDED_FOLDER.glob(f"{EMBEDDED}@*/model.safetensors")
    )
    return sorted(found, key=int)


def embedded_directory(source: str) -> Path | None:
    """Where `mill-16khz` or `mill-16khz@EDITION` lies; None for another source.

    ValueError for an edition that there is not, FileNotFoundError where no edition has weights.
    """
    name, _, edition = source.partition("@")
    if name != EMBEDDED:
        return None
    present = editions()
    if not edition and not present:
        raise FileNotFoundError(f"{EMBEDDED}: no {EMBEDDED_FOLDER}/{EMBEDDED}@*/model.safetensors")
    wanted = edition or present[-1]
    if wanted not in present:
        raise ValueError(
            f"{EMBEDDED} has no edition {wanted!r}; editions with weights: {', '.join(present) or 'none'}"
        )
    return EMBEDDED_FOLDER / f"{EMBEDDED}@{wanted}"
