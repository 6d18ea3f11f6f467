"""The description of a registered system: what it is made of, of which data, and how to speak with it (Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.checkpoints import Values
from models.system_files import read_description
from trainers.lineage import codec_identities

_NO_RECORD = "imported; its checkpoint says nothing of them"


def model_card(directory: Path, name: str, parts: Mapping[str, str], records: Mapping[str, Values]) -> str:
    """Markdown of a system directory that is registered as `name`; arguments as of `lineage.system_tags`."""
    description = read_description(directory)
    capabilities = description["capabilities"]
    assert isinstance(capabilities, list)
    does = " and ".join(
        {"speak": "speaks", "convert": "converts voices", "encode": "encodes"}[one] for one in capabilities
    )
    lines = [
        f"# {name}",
        "",
        f"A {description['family']} system: it {does}, at {description['sample_rate']} Hz.",
        "",
    ]
    lines += ["## Parts", ""]
    lines += _table(
        ["part", "source", "steps", "validation loss"],
        [[role, f"`{source}`", *_figures(records.get(role, {}))] for role, source in parts.items()],
    )
    for role, identity in codec_identities(description).items():
        lines.append(f"- {role}: `{identity.source}`, weights {identity.weights_sha256[:12] or 'none'}")
    if description["text"] is not None:
        lines.append(f"- text: `{json.dumps(description['text'], sort_keys=True, ensure_ascii=False)}`")
    lines += ["", "## Data", "", *_data(parts, records), "", "## Use", "", *_use(name, capabilities)]
    return "\n".join(lines) + "\n"


def _figures(record: Values) -> list[str]:
    loss = record.get("validation_loss")
    return [str(record.get("step", "")), "" if loss is None else f"{loss:.4f}"]


def _data(parts: Mapping[str, str], records: Mapping[str, Values]) -> list[str]:
    """One line for each part's data. A licence is named only where the data's source stated one."""
    lines = []
    for role in parts:
        data = records.get(role, {}).get("dataset")
        if not data:
            lines.append(f"- {role}: {_NO_RECORD}")
            continue
        version = "" if data.get("version") is None else f", version {data['version']}"
        licence = data.get("licence")
        lines.append(
            f"- {role}: `{data['uri']}`{version}; "
            + (f"licence as its source states it: {licence}" if licence else "its source states no licence")
        )
    return lines


def _use(name: str, capabilities: Sequence[object]) -> list[str]:
    shell, python = [], []
    if "speak" in capabilities:
        shell.append(f'speechmill synthesize --model models:/{name} --text "Hello." --output hello.wav')
        python += ['rows = pd.DataFrame({"text": ["Hello."]})']
    if "convert" in capabilities:
        shell.append(f"speechmill convert --model models:/{name} SOURCE.wav REFERENCE.wav OUT.wav")
        python = python or [
            'waves = {key: [open(f"{key}.wav", "rb").read()] for key in ("source", "reference")}',
            "rows = pd.DataFrame(waves)",
        ]
    if not python:
        return ["`models.system_files.load_system(directory)` loads it."]
    load = f'model = mlflow.pyfunc.load_model("models:/{name}/VERSION")'
    end = 'wav = model.predict(rows, params={"seed": 0})["audio"][0]  # bytes of a WAV file'
    return [
        "```sh", *shell, "```", "", "```python", "import mlflow", "import pandas as pd", "", load, *python, end, "```",
    ]  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        *(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)),
        "",
    ]
