"""A release of MaskGCT becomes a system in one command; what it lacks is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from catalog.models import resolve
from models.checkpoints import StateReader
from models.codecs.interface import Wave
from models.families import checkpoint_format
from models.prompt import Prompt
from models.system import ConvertRequest, SpeakRequest
from models.system_files import load_system
from trainers.__main__ import main

SEMANTIC = {"codebook_size": 16, "hidden_size": 32, "codebook_dim": 8, "vocos_dim": 8}
SEMANTIC |= {"vocos_intermediate_dim": 12, "vocos_num_layers": 1}
NETWORK = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "cond_codebook_size": 16}
S2A = NETWORK | {"codebook_size": 20}
CODEC = {
    "encoder": {"d_model": 4, "up_ratios": [3, 4, 5, 8], "out_channels": 8},
    "decoder": {"in_channels": 8, "num_quantizers": 3, "codebook_size": 20, "codebook_dim": 4}
    | {"vocos_dim": 8, "vocos_intermediate_dim": 12, "vocos_num_layers": 1, "n_fft": 960, "hop_size": 480},
}
LAYOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "semantic_codec": ("amphion-repcodec", SEMANTIC),
    "t2s_model": ("amphion-maskgct-t2s", NETWORK),
    "s2a_model/s2a_model_1layer": ("amphion-maskgct-s2a", S2A | {"num_quantizer": 1}),
    "s2a_model/s2a_model_full": (
        "amphion-maskgct-s2a",
        S2A | {"num_quantizer": 3, "predict_layer_1": False},
    ),
    "acoustic_codec": ("amphion-codec", CODEC),
}
PHONES = {phone: number for number, phone in enumerate([*"abcdefghijklmnopqrstuvwxyz", " ", "ʌ", "θ"])}


class Inventing(StateReader):
    """Makes up whatever a format asks for, and so learns the names and shapes of a release."""

    def __init__(self) -> None:
        super().__init__("made up", {})
        self.state: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        self.state[name] = 0.2 * torch.randn(shape)
        return self.state[name]


def invented(format_name: str, config: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    reader = Inventing()
    checkpoint_format(format_name).convert(config, reader)
    return reader.state


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    for inside, (format_name, config) in LAYOUT.items():
        (folder / inside).mkdir(parents=True)
        (folder / inside / "config.json").write_text(json.dumps(config))
        state = invented(format_name, config)
        halves = {"model.safetensors": "encoder.", "model_1.safetensors": "decoder."}
        files = halves if inside == "acoustic_codec" else {"model.safetensors": ""}
        for name, prefix in files.items():
            part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            save_file(part, folder / inside / name)
    statistics = {"mean": torch.zeros(32), "var": torch.ones(32)}
    torch.save(statistics, folder / "wav2vec2bert_stats.pt")
    (folder / "phones.json").write_text(json.dumps({"vocab": PHONES}))
    return folder


@pytest.fixture
def run_import(
    release: Path, w2vbert_directory: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    def call(source: str, *words: str, path: Path = release) -> tuple[int, Any, str]:
        given = ["--w2v-bert", str(w2vbert_directory), "--w2v-layer", "2", "--name", "official"]
        code = main(["import", source, str(path), *given, *words])
        out, err = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, err

    return call


def recording(seed: int) -> Wave:
    noise = 0.05 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(seed))
    return Wave(noise.clamp(-1, 1), torch.tensor([12_000]), 24_000)


def test_a_release_speaks_and_converts(release: Path, run_import: Any, mlflow_uri: str) -> None:
    words = ("--phones", str(release / "phones.json"), "--alias", "champion")
    code, result, error = run_import("amphion-maskgct", *words)
    assert code == 0, error
    assert (result["family"], result["capabilities"]) == ("maskgct_semantic", ["convert", "speak"])
    assert result["notes"] == []
    assert set(result["weights_sha256"]) == {"codec", "semantic", "t2s", "s2a_first", "s2a"}
    system = load_system(resolve("models:/official@champion", mlflow_uri))
    speak = system.speak({"first_steps": 1, "s2a_steps": [1, 1, 1], "text": {"t2s_steps": 1}})
    spoken = speak.prepare(SpeakRequest("a", phones=("ʌ", "a", " "), duration_s=0.2))
    assert speak.run([spoken], [torch.Generator()])[0].wave.wave_BT.shape == (1, 10 * 480)
    with pytest.raises(ValueError, match=r"the symbol table .*symbols.json has no phone 'ø'"):
        speak.prepare(SpeakRequest("a", phones=("ø",)))


def test_without_phones_it_says_that_it_cannot_speak(run_import: Any, mlflow_uri: str) -> None:
    code, result, error = run_import("amphion-8d")
    assert code == 0, error
    assert (result["family"], result["capabilities"]) == ("autoencoder8d", ["convert", "encode"])
    assert len(result["notes"]) == 1
    assert "it converts voices and cannot speak" in result["notes"][0]
    system = load_system(resolve("models:/official/1", mlflow_uri))
    convert = system.convert({"first_steps": 1, "s2a_steps": [1, 1, 1]})
    planned = convert.prepare(ConvertRequest(recording(1), Prompt(recording(2))))
    assert convert.run([planned], [torch.Generator()])[0].wave.wave_BT.shape == (1, 12_000)


def test_what_is_wrong_is_named(release: Path, run_import: Any, tmp_path: Path) -> None:
    code, _, error = run_import("amphion-maskgct", path=tmp_path)
    assert code == 1
    assert f"{tmp_path / 'acoustic_codec'} is no amphion-codec" in error
    code, _, error = run_import("amphion-maskgct", "--phones", str(tmp_path / "absent.json"))
    assert code == 1
    assert "absent.json" in error
    code, _, error = run_import("amphion-repcodec")
    assert code == 2
    assert "amphion-repcodec is one network; w2v_bert, layer belong to amphion-maskgct, amphion-8d" in error


@pytest.mark.usefixtures("mlflow_uri")
def test_a_release_without_statistics_says_so(release: Path, run_import: Any, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    for entry in release.iterdir():
        if entry.suffix != ".pt":
            (folder / entry.name).symlink_to(entry)
    code, result, error = run_import("amphion-maskgct", path=folder)
    assert code == 0, error
    assert any("features are not normalised" in note for note in result["notes"])


def test_the_8d_decoder_is_read_from_a_release(release: Path) -> None:
    published = checkpoint_format("amphion-8d-decoder")
    config = {
        "semantic_codec": SEMANTIC,
        "s2a_1layer": S2A | {"num_quantizer": 1},
        "s2a_full": S2A | {"num_quantizer": 3, "predict_layer_1": False},
        "codec_decoder": CODEC["decoder"],
    }
    _, state = published.files(release)
    module = published.convert(config, StateReader("release", state))
    assert module.repcodec.config.latent_size == 8
    state = {key: value for key, value in state.items() if key != "codec_decoder.model.head.out.weight"}
    with pytest.raises(ValueError, match=r"release codec_decoder: .*model.head.out.weight is missing"):
        published.convert(config, StateReader("release", state))
