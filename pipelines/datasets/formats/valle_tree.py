"""The tree that VALL-E (`e-c-k-e-r/vall-e`) trains on: `SPLIT/SPEAKER/ID.qnt.pt` and `.phn.txt` beside it.

A `.qnt.pt` is an int16 tensor (1, codebooks, frames), a `.phn.txt` the phones separated by spaces, the phone " " as an
empty field. Text and every other column have no place there.
"""

from __future__ import annotations

import io
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.datasets.formats.interface import (
    MOST_BYTES,
    MOST_TEXT_BYTES,
    Export,
    Import,
    SplitTables,
    codec_file,
)
from pipelines.datasets.formats.names import NOTHING, from_name, to_name
from pipelines.datasets.formats.phones import from_line, rows_with_phones, to_line
from pipelines.datasets.formats.splits import stored_split
from pipelines.rows import Row
from pipelines.sources.interface import PARSING

CODES, PHONES = ".qnt.pt", ".phn.txt"


def write(batches: SplitTables, target: Path, context: Export) -> int:
    """Create the folder; one pair of files per row. Returns the number of rows."""
    import torch

    target.mkdir()
    codec_file(target).write_text(context.codec.to_json(), encoding="utf-8")
    written = 0
    for split, table in batches:
        for row in rows_with_phones(table, context):
            try:
                speaker = NOTHING if row["speaker"] is None else to_name(row["speaker"])
                name = to_name(row["id"])
            except ValueError as error:
                context.skip(row["id"], str(error))
                continue
            folder = target / split / speaker
            folder.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            torch.save(torch.from_numpy(row["codes"].copy())[None], content)
            # Not by torch, which hides why a file cannot be written.
            (folder / f"{name}{CODES}").write_bytes(content.getbuffer())
            (folder / f"{name}{PHONES}").write_text(to_line(row["phonemes"]), encoding="utf-8", newline="")
            written += 1
    return written


def read(source: Path, context: Import) -> Iterator[Row]:
    """Rows by path. A tree without the folders `train` and `validation` is all `train`.

    In trees of other programs the speaker is the first folder and what follows is the id.
    """
    found = sorted(source.rglob(f"*{CODES}")) if source.is_dir() else []
    if not found:
        raise UsageError(f"SOURCE {source} holds no *{CODES}; give the folder above the speakers")
    context.check_codec(codec_file(source))
    paths = [path.relative_to(source).parts for path in found]
    by_split = all(len(parts) > 2 and parts[0] in ("train", "validation") for parts in paths)
    for path, parts in zip(found, paths, strict=True):
        split = parts[0] if by_split else "train"
        if stored_split(split, context.splits) is not None:
            yield _row(path, parts[1:] if by_split else parts, split)


def _row(path: Path, parts: tuple[str, ...], split: str) -> Row:
    speaker = parts[0] if len(parts) > 1 else NOTHING
    inner = (
        [*parts[1:-1], path.name.removesuffix(CODES)] if len(parts) > 1 else [path.name.removesuffix(CODES)]
    )
    row: Row = {
        "id": "/".join(map(from_name, inner)),
        "speaker": None if speaker == NOTHING else from_name(speaker),
        "split": split,
        "source": path.absolute().as_uri(),
    }
    try:
        row["codes"] = _codes(path)
        phones = path.with_name(path.name.removesuffix(CODES) + PHONES)
        _refuse_odd(phones, MOST_TEXT_BYTES)
        row["phonemes"] = from_line(phones.read_bytes().decode().strip("\r\n")) or None
    except FileNotFoundError as error:
        return {
            **row,
            "reason": Reason.MISSING_TEXT.value,
            "detail": f"{Path(error.filename).name} is missing",
        }
    except UnicodeDecodeError as error:
        return {**row, "reason": Reason.TEXT_ENCODING.value, "detail": f"{PHONES}: {error}"}
    except pickle.UnpicklingError:  # torch's message goes on to explain how to run the file's code
        detail = f"{path.name}: damaged, or holds more than tensors"
        return {**row, "reason": Reason.UNREADABLE.value, "detail": detail}
    except (RuntimeError, EOFError, *PARSING) as error:
        detail = f"{path.name}: {' '.join(str(error).split())[:200]}"
        return {**row, "reason": Reason.UNREADABLE.value, "detail": detail}
    return row


def _refuse_odd(path: Path, most: int) -> None:
    """ValueError for what is no regular file, or too large. Raises FileNotFoundError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        raise ValueError(f"{path.name} is no regular file of at most {most} bytes")


def _codes(path: Path) -> npt.NDArray[np.generic]:
    """The array (Q, T) of whatever type is there; ValueError for anything but a tensor (1, Q, T)."""
    import torch

    _refuse_odd(path, MOST_BYTES)
    tensor = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensor, torch.Tensor) or tensor.dim() != 3 or tensor.shape[0] != 1:
        shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ValueError(f"holds {shape}; must be a tensor (1, codebooks, frames)")
    return tensor[0].numpy()
