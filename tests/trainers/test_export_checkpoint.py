"""Networks as files of published programs: what is written is read back, what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints import StateReader
from models.families import checkpoint_format
from models.generators import save_generator
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.valle import checkpoint_enhuiz
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.nar import ValleNAR
from trainers.__main__ import main

SIZES = {"codebook_size": 600, "hidden_size": 128, "n_layers": 1, "n_heads": 2, "prompt_levels": 3}
NETWORKS = {
    "ar": ValleAR(ValleARConfig(512, **SIZES, n_task_tokens=7)),
    "nar": ValleNAR(ValleNARConfig(512, **SIZES, n_codebooks=4)),
}


@pytest.mark.parametrize("kind", ["ar", "nar"])
def test_a_trained_network_is_written_and_read_back(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text table has as many rows as a level has codes, its phones stand beside it; nothing but tensors is read."""
    source, path = tmp_path / "generator", tmp_path / "ckpt" / "fp32.pth"
    save_generator(NETWORKS[kind], f"valle_{kind}", source)
    (source / "text.json").write_text(
        json.dumps({"kind": "phonemes", "symbols": "ipa@1", "normalize": "spoken"})
    )
    (source / "training.json").write_text(json.dumps({"step": 12}))
    assert main(["export-checkpoint", str(source), str(path)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["format"] == f"enhuiz-valle-{kind}"
    stored = torch.load(path, weights_only=True)
    assert (stored["global_step"], stored["symmap"]["<s>"]) == (12, 1)
    assert checkpoint_enhuiz.read_symbols(path)["a"] == stored["symmap"]["a"]
    published = checkpoint_format(f"enhuiz-valle-{kind}")
    config, state = published.files(path)
    read = published.convert(config, StateReader("it", state))
    for name, tensor in NETWORKS[kind].state_dict().items():
        rows = 512 if name == "text_table.weight" else len(tensor)
        assert torch.equal(read.state_dict()[name][:rows], tensor), name


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "heads": (ValleAR(ValleARConfig(9, **{**SIZES, "n_heads": 4})), "valle_ar", [], 1),
        "texts": (ValleAR(ValleARConfig(700, **SIZES)), "valle_ar", [], 1),
        "kind": (NETWORKS["ar"], "valle_ar", ["--format", "enhuiz-valle-nar"], 2),
        "family": (MaskGCTT2S(MaskGCTT2SConfig(9, 9, 16, 1, 2, 16)), "maskgct_t2s", [], 2),
    }
    messages = {
        "heads": "4 heads at 128 channels; the layout of fp32.pth means 64 channels a head",
        "texts": "the text table has 700 rows and a level 600 codes",
        "kind": "--format enhuiz-valle-nar: a valle_ar is written as enhuiz-valle-ar",
        "family": "no published format is written from a maskgct_t2s",
    }
    for name, (module, family, words, code) in cases.items():
        save_generator(module, family, tmp_path / name)
        path = tmp_path / f"{name}.pth"
        assert main(["export-checkpoint", str(tmp_path / name), str(path), *words]) == code
        assert messages[name] in capsys.readouterr().err
        assert not path.exists()
