"""Finding a codec by its source string `NAME[@EDITION][:LEVELS]` (`models.codecs.source`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.codecs import files
from models.codecs.hub import ID, local_or_hub
from models.codecs.interface import Codec
from models.codecs.mill.editions import EMBEDDED, editions, embedded_directory
from models.codecs.pcm import PCM_RATES, PcmCodec
from models.codecs.published import PUBLISHED, Published, published
from models.codecs.source import CodecSource, first_levels
from models.families import codec_loader
from models.identity import TokenIdentity

_OURS = (*PCM_RATES, EMBEDDED)
"""Names that are never those of a directory."""


def load_codec(source: str, device: str | torch.device = "cpu") -> Codec:
    """The codec that `source` names, with its first LEVELS levels, all by default.

    NAME: `pcm-16khz` (24khz, 44khz); `mill-16khz` (without EDITION its newest embedded one); a published codec such as
    `encodec-24khz` or any `OWNER/NAME` of the Hugging Face Hub (EDITION: a revision), fetched once; or a directory that
    holds config.json and model.safetensors. ValueError for an unknown name, FileNotFoundError for missing weights.
    """
    directory = _directory(source)
    if directory is not None:
        return load_codec_directory(directory, device)
    parsed = CodecSource.parse(source)
    codec = _whole(parsed, device)
    return codec if parsed.levels is None else first_levels(codec, parsed.levels)


def load_levels(source: str, levels: int, device: str | torch.device = "cpu") -> Codec:
    """The codec that `source` names, as the maker of codes of so many levels; errors as `load_codec`."""
    codec = load_codec(source, device)
    return first_levels(codec, levels) if levels < codec.n_codebooks else codec


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


def codec_directory(source: str) -> Path | None:
    """Directory of the weights of a path or Hub id; None for a codec with a name of its own."""
    if _has_name(source):
        return None
    return _directory(source) or _place(CodecSource.parse(source))


def lasting_source(source: str, identity: TokenIdentity) -> str:
    """The source under which a codec is found again: a place as it was given, a name with its edition."""
    return identity.source if _has_name(source) else source


def absolute_source(source: str) -> str:
    """The same codec as seen from another working directory: a directory gets its whole path, other sources stay."""
    whole = _directory(source)
    if whole is not None:
        return str(whole.absolute())
    parsed = CodecSource.parse(source)
    if _has_name(source) or not Path(parsed.name).is_dir():
        return source
    return str(replace(parsed, name=str(Path(parsed.name).absolute())))


def _has_name(source: str) -> bool:
    """True for `pcm-*` and the embedded codec, and for a published one where no directory is called so."""
    if _directory(source) is not None:
        return False
    name = CodecSource.parse(source).name
    return name in _OURS or (published(name) is not None and "/" not in name and not Path(name).is_dir())


def _directory(source: str) -> Path | None:
    """The directory that the whole source is: its own name may hold the marks of an edition and of levels."""
    ours = source.partition("@")[0] in _OURS
    return Path(source) if not ours and Path(source).is_dir() else None


def _whole(parsed: CodecSource, device: str | torch.device) -> Codec:
    name, edition = parsed.name, parsed.edition
    if name in PCM_RATES and edition in ("", PcmCodec.edition):
        return PcmCodec(name)
    embedded = embedded_directory(f"{name}@{edition}" if edition else name)
    if embedded is not None:
        return load_codec_directory(embedded, device)
    place = _place(parsed)
    if place is None:
        mill = (EMBEDDED, *(f"{EMBEDDED}@{one}" for one in editions()))
        known = (*PCM_RATES, *mill, *(one.name for one in PUBLISHED))
        raise ValueError(
            f"codec {str(parsed)!r} is not known; use {', '.join(known)}, a directory with config.json, "
            "or OWNER/NAME of the Hugging Face Hub"
        )
    codec = load_codec_directory(place, device)
    if place == Path(name) and edition not in ("", codec.edition):
        raise ValueError(f"codec {str(parsed)!r}: the directory holds edition {codec.edition!r}")
    return codec


def _place(parsed: CodecSource) -> Path | None:
    """A directory, or what the Hub has in its cache on this machine; None for a name that is neither's."""
    if Path(parsed.name).is_dir():
        return Path(parsed.name)
    released = published(parsed.name)
    if released is not None and released.format:
        raise ValueError(_must_be_imported(released))
    if released is None and not ID.fullmatch(parsed.name):
        return None
    repository = parsed.name if released is None else released.repository
    revision = "" if parsed.edition == files.HUB_EDITION else parsed.edition
    return local_or_hub(repository, revision, (files.CONFIG, files.WEIGHTS))


def _must_be_imported(released: Published) -> str:
    return (
        f"codec {released.name} is published as a checkpoint of another layout: fetch {released.repository} of the "
        f"Hugging Face Hub, run `speechmill import {released.format} PATH --name {released.name}` and give the "
        "directory that `speechmill catalog show` names"
    )
