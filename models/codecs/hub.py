"""Weights by a local path or by an id of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

WEIGHTS = ("*.json", "*.safetensors", "*.pt", "*.pth")
ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_or_hub(source: str, revision: str = "", patterns: tuple[str, ...] = WEIGHTS) -> Path:
    """The file or directory at `source`, or what the hub has of `OWNER/NAME` in its cache on this machine.

    Nothing of it is run. ValueError for what is neither, or cannot be fetched.
    """
    if source and Path(source).exists():
        return Path(source)
    if not ID.fullmatch(source):
        raise ValueError(f"{source!r} is no path that exists, and no id OWNER/NAME of the Hugging Face Hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(source, revision=revision or None, allow_patterns=list(patterns)))
    except (HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source} is no path that exists, and cannot be fetched from the hub: {reason}"
        ) from error
