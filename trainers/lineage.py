"""Lineage of a registered system: exact versions and digests of its parts, codec, data and text, as tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from catalog.models import describe
from models.checkpoints import Values
from models.identity import TokenIdentity
from models.system_files import read_description


def exact(source: str, tracking_uri: str) -> str:
    """`models:/NAME/VERSION` of what a reference names now, an alias resolved; the absolute path of a directory.

    JobError for what is neither.
    """
    if Path(source).is_dir():
        return str(Path(source).absolute())
    found = describe(source, tracking_uri)
    return f"models:/{found.name}/{found.version}"


def system_tags(directory: Path, parts: Mapping[str, str], records: Mapping[str, Values]) -> dict[str, str]:
    """Tags of the version that a system directory becomes.

    `parts` are the exact sources by role, `records` what the training of a part noted (`training.json`).
    """
    description = read_description(directory)
    tags = {"family": str(description["family"]), **parts}
    for role, identity in codec_identities(description).items():
        tags |= {role: identity.source, f"{role}.sha256": identity.weights_sha256}
    if description["text"] is not None:
        tags["text"] = json.dumps(description["text"], sort_keys=True, ensure_ascii=False)
    digests = description.get("digests")
    if isinstance(digests, Mapping):
        tags |= {
            f"{role}.sha256": str(digests[file])
            for role in parts
            if (file := f"{role}/model.safetensors") in digests
        }
    for role, record in records.items():
        if "adapter" in record:
            tags[f"{role}.base"] = str(record["adapter"]["base"])
        for name, value in record.get("dataset", {}).items():
            if value is not None and name in ("uri", "version", "licence"):
                tags[f"{role}.dataset" if name == "uri" else f"{role}.dataset_{name}"] = str(value)
    return tags


def codec_identities(description: Values) -> dict[str, TokenIdentity]:
    """The identities that a system directory records of its codecs, by role; the main one is `codec`."""
    others = {role: one["identity"] for role, one in (description.get("codecs") or {}).items()}
    found = {"codec": description["codec_identity"], **others}
    return {role: TokenIdentity(**fields) for role, fields in found.items()}
