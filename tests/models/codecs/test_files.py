"""Codec directories: what is read back, and what each refusal says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.codec_sources import load_codec
from models.codecs import files
from models.codecs.mill.codec import load_directory
from models.codecs.mill.editions import FOLDER as EMBEDDED_FOLDER
from models.codecs.mill.editions import embedded_directory


@pytest.fixture
def directory(tiny_directory: Path, tmp_path: Path) -> Path:
    """A codec directory to break."""
    return Path(shutil.copytree(tiny_directory, tmp_path / "codec"))


def change(directory: Path, **changed: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    weights = {"a": torch.tensor([1.5, -2.0]), "b": torch.ones(2, 3)}
    sizes = {"rates": (2, 4), "inner": {"channels": 3}}
    for dtype in (torch.float16, torch.float32):
        files.write(tmp_path, kind="mill", name="n", edition="7", config=sizes, weights=weights, dtype=dtype)
        stored = files.read(tmp_path)
        assert (stored.name, stored.edition, stored.config) == ("n", "7", sizes)
        assert all(torch.equal(stored.weights[key].float(), weights[key]) for key in weights)
        assert {value.dtype for value in stored.weights.values()} == {dtype}


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weight big is not finite in torch\.float16"):
        files.write(
            tmp_path / "new",
            kind="mill",
            name="n",
            edition="1",
            config={},
            weights={"big": torch.tensor([1e6])},
        )
    assert not (tmp_path / "new").exists()


def test_missing_files_are_named(directory: Path, tmp_path: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"codec has no model\.safetensors"):
        load_codec(str(directory))
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        load_codec(str(tmp_path))


def test_weights_that_do_not_fit_are_named(directory: Path) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    save_file({key: value for key, value in weights.items() if key != "mean_M"}, path)
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit its config\.json: mean_M"):
        load_codec(str(directory))
    save_file({**weights, "mean_M": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"does not fit its config\.json: mean_M"):
        load_codec(str(directory))


def test_damage_is_named(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a readable safetensors file"):
        load_codec(str(directory))
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        load_codec(str(directory))
    (directory / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds list; must be an object"):
        load_codec(str(directory))


def test_a_kind_that_is_not_known_is_named_with_those_that_are(directory: Path) -> None:
    change(directory, kind="other")
    with pytest.raises(ValueError, match=r"unknown codec kind 'other'; known: dac, .*, mill, "):
        load_codec(str(directory))


def test_a_directory_of_another_kind_is_no_embedded_codec(directory: Path) -> None:
    change(directory, kind="dac")
    with pytest.raises(ValueError, match="kind is 'dac'; this reads codecs of kind 'mill'"):
        load_directory(directory)


def test_sizes_that_make_no_codec_are_refused(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())["config"]
    change(directory, config={**config, "colour": 3})
    with pytest.raises(ValueError, match=r"config\.json: .*colour"):
        load_codec(str(directory))
    change(directory, config={**config, "hop_length": 322})
    with pytest.raises(ValueError, match=r"config\.json: hop_length is 322"):
        load_codec(str(directory))


def test_a_hub_directory_tells_its_kind_by_its_model_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dac"}))
    assert files.kind_of(tmp_path) == "dac"


def test_embedded_editions_have_directories() -> None:
    assert embedded_directory("mill-16khz@1") == EMBEDDED_FOLDER / "mill-16khz@1"
    assert embedded_directory("somewhere/else") is None
    with pytest.raises(ValueError, match="no edition '99'"):
        embedded_directory("mill-16khz@99")
