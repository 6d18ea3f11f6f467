"""Networks as files of published programs: what is written is read back, what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from catalog.models import resolve
from models.checkpoints import StateReader
from models.families import checkpoint_format
from models.generators import save_generator
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.text.front_ends import PhonemeFrontEnd, text_front_end
from models.valle import checkpoint_enhuiz
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.growth import grown
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


@pytest.mark.parametrize("kind", ["ar", "nar"])
def test_an_imported_network_keeps_its_own_phones(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], mlflow_uri: str
) -> None:
    """The map in the file, with two symbols of one number, becomes the text front end; `vall-e` says the kind."""
    path, again = tmp_path / "fp32.pth", tmp_path / "again.pth"
    symbols = {"<s>": 1, "</s>": 2, " ": 3, "?": 7, "p": 7, "a": 9, "iː": 599}
    module = grown(NETWORKS[kind], text_vocab_size=600)
    checkpoint_enhuiz.write(module, path, symbols)
    assert main(["import", "vall-e", str(path), "--name", "published"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["source"], told["symbols"]) == (f"enhuiz-valle-{kind}", 7)
    directory = resolve("models:/published/1", mlflow_uri)
    front_end = text_front_end(json.loads((directory / "text.json").read_text()), directory)
    assert isinstance(front_end, PhonemeFrontEnd)
    assert front_end.encode("", phones=("p", "iː", " ", "a")) == [1, 7, 599, 3, 9, 2]
    assert front_end.encode_stored(["a", "?"]) == [1, 9, 7, 2]
    with pytest.raises(ValueError, match=r"the symbol table .* has no phone 'ʒ'"):
        front_end.encode("", phones=("a", "ʒ"))
    assert main(["export-checkpoint", "models:/published/1", str(again), "--format", "vall-e"]) == 0
    assert checkpoint_enhuiz.read_symbols(again) == symbols
    checkpoint_enhuiz.write(module, path, {**symbols, "ʒ": 600})
    assert main(["import", "vall-e", str(path), "--name", "published"]) == 1
    assert "the symbol 'ʒ' has the number 600; the text table has 600 rows" in capsys.readouterr().err
    checkpoint_enhuiz.write(module, path, {})
    assert main(["import", f"enhuiz-valle-{kind}", str(path), "--name", "published"]) == 0
    assert not (resolve("models:/published/2", mlflow_uri) / "text.json").exists()


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
        "kind": "--format enhuiz-valle-nar: a valle_ar is written as enhuiz-valle-ar or vall-e",
        "family": "no published format is written from a maskgct_t2s",
    }
    for name, (module, family, words, code) in cases.items():
        save_generator(module, family, tmp_path / name)
        path = tmp_path / f"{name}.pth"
        assert main(["export-checkpoint", str(tmp_path / name), str(path), *words]) == code
        assert messages[name] in capsys.readouterr().err
        assert not path.exists()
