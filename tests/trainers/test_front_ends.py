"""Systems whose text front end is not the default: a Hugging Face tokenizer, and published checkpoints without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from catalog.models import resolve
from models.codec_sources import load_codec
from models.system_files import load_system

CODEC = "mill-16khz@1"
WORDS = ("[UNK]", "a", "aa", "aaa", "one", "two")


def make_tokenizer(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    inner = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(str(folder))
    return folder


def speak(system: Path, text: str) -> int:
    """Samples spoken."""
    sampling = {"t2s_steps": 1, "s2a_steps": [1]}
    (wave,) = load_system(system).synthesize([text], generator=torch.Generator().manual_seed(0), **sampling)
    assert bool(wave.wave_BT.isfinite().all())
    return int(wave.lengths_B[0])


def test_a_tokenizer_travels_from_training_to_speech(
    make_dataset: Callable[..., str], mlflow_uri: str, command: Any, tmp_path: Path
) -> None:
    codec = load_codec(CODEC)
    identity = {name: getattr(codec, name) for name in ("name", "edition", "weights_sha256")}
    uri = make_dataset(rows=6, validation=2, n_codebooks=8, codebook_size=1024, **identity)
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    other = make_tokenizer(tmp_path / "other", WORDS[:4] + WORDS[:3:-1])

    def train(part: str, source: Path, name: str) -> None:
        settings = {
            "family": f"maskgct_{part}",
            "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16},
            "objective": {"text": {"kind": "huggingface", "source": str(source)}},
            "data": {"dataset": uri},
            "loop": {"max_steps": 1, "samples": 0},
            "output": str(tmp_path / name),
            "tracking": {"enabled": False},
        }
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(settings))
        code, _, error = command("fit", str(tmp_path / "fit.yaml"))
        assert code == 0, error

    for part, source, name in (
        ("t2s", tokenizer, "t2s"),
        ("s2a", tokenizer, "s2a"),
        ("s2a", other, "stranger"),
    ):
        train(part, source, name)
    tokenizer.rename(tmp_path / "moved")

    words = ["assemble", "--t2s", str(tmp_path / "t2s" / "export"), "--codec", CODEC, "--name", "words"]
    code, _, error = command(*words, "--s2a", str(tmp_path / "stranger" / "export"))
    assert code == 1
    assert "text front ends differ: t2s and s2a were trained with other tokenizer files" in error
    options = ["--set", "options.frames_per_token=5"]
    code, made, error = command(*words, "--s2a", str(tmp_path / "s2a" / "export"), *options)
    assert code == 0, error
    # Three words are three tokens.
    assert speak(resolve(made["model"], mlflow_uri), "one two one") == 15 * codec.hop_length


def published(module: str, vocab: int, levels: int, dim: int = 8) -> dict[str, torch.Tensor]:
    """Random weights under the names of choiHkk/maskgct, one layer."""
    shapes: dict[str, tuple[int, ...]] = {"phone_emb.weight": (vocab, dim), "mask_emb.weight": (1, dim)}
    mlps = ["diff_step_mlp", "cond_mlp"]
    if module == "t2s":
        shapes |= {"cond_emb.weight": (1025, dim), "to_logit.weight": (1024, dim), "to_logit.bias": (1024,)}
    else:
        mlps.append("cond_mlp2")
        shapes["layer_emb.weight"] = (levels, dim)
        for level in range(levels):
            shapes |= {f"token_emb.{level}.weight": (1025, dim), f"to_logits.{level}.bias": (1024,)}
            shapes[f"to_logits.{level}.weight"] = (1024, dim)
    for name in mlps:
        mlp = {"0.weight": (4 * dim, dim), "0.bias": (4 * dim,), "2.weight": (dim, 4 * dim), "2.bias": (dim,)}
        shapes |= {f"diff_estimator.{name}.{key}": shape for key, shape in mlp.items()}
    for name in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
        shapes[f"diff_estimator.{name}.to_weight.weight"] = (dim, dim)
        shapes[f"diff_estimator.{name}.to_weight.bias"] = (dim,)
    shapes |= {f"diff_estimator.layers.0.self_attn.{name}_proj.weight": (dim, dim) for name in "qkvo"}
    shapes |= {f"diff_estimator.layers.0.mlp.{name}_proj.weight": (4 * dim, dim) for name in ("gate", "up")}
    shapes["diff_estimator.layers.0.mlp.down_proj.weight"] = (dim, 4 * dim)
    return {name: nn.init.normal_(torch.empty(shape), std=0.3) for name, shape in shapes.items()}


def test_imported_checkpoints_speak(mlflow_uri: str, command: Any, tmp_path: Path) -> None:
    codec = load_codec(CODEC)
    torch.manual_seed(0)
    for part in ("t2s", "s2a"):
        folder = tmp_path / part
        folder.mkdir()
        save_file(published(part, 258, codec.n_codebooks), folder / "model.safetensors")
        sizes = {"vocab_size": 258, "hidden_size": 8, "num_layers": 1, "num_heads": 2, "codebook_size": 1024}
        sizes |= {"num_quantizer": codec.n_codebooks} if part == "s2a" else {}
        (folder / "config.json").write_text(json.dumps(sizes))
        code, _, error = command("import", f"choihkk-maskgct-{part}", str(folder), "--name", f"choi-{part}")
        assert code == 0, error
    words = [
        "assemble",
        "--t2s",
        "models:/choi-t2s",
        "--s2a",
        "models:/choi-s2a",
        "--codec",
        CODEC,
        "--name",
        "choi",
    ]
    code, _, error = command(*words)
    assert code == 2
    assert "t2s models:/choi-t2s/1 does not say its text front end: give --set text.kind=..." in error
    code, made, error = command(*words, "--set", "text.kind=bytes")
    assert code == 0, error
    assert speak(resolve(made["model"], mlflow_uri), "four") == (4 + 2) * 8 * codec.hop_length


def test_broken_weights_are_named(mlflow_uri: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    code, _, error = command("import", "choihkk-maskgct-t2s", str(tmp_path), "--name", "x")
    assert code == 1
    assert f"{tmp_path / 'model.safetensors'} is not a file of tensors" in error
    assert len(error.strip().splitlines()) == 1
