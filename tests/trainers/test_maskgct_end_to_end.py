"""Recordings -> features -> RepCodec -> semantic tokens -> T2S and S2A -> speech, all of it trained here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml

from catalog.identity import COLUMNS_PROPERTY, columns_to_json
from catalog.models import resolve
from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.generators import load_generator
from models.identity import TokenIdentity
from models.prompt import Prompt, resampled
from models.semantic.repcodec import RepCodec
from models.semantic.source import TokenizerSource
from models.semantic.w2vbert import load
from models.system import ConvertRequest, SpeakRequest
from models.system_files import load_system
from models.tokenizer_sources import load_tokenizer

CODEC = "mill-16khz@1"
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16}
REPCODEC = {"codebook_size": 16, "latent_size": 4, "hidden_size": 8, "feed_forward_size": 16, "n_layers": 1}


class Corpus(NamedTuple):
    """Recordings at 16 kHz, (1, T) each."""

    waves: list[torch.Tensor]
    texts: list[str]
    codes: list[Any]


@pytest.fixture(scope="module")
def corpus(speech_folder: Path) -> Corpus:
    codec, waves, texts = load_codec(CODEC), [], []
    for path in sorted(speech_folder.glob("*.wav")):
        samples, sample_rate = soundfile.read(path, dtype="float32")
        waves.append(resampled(torch.from_numpy(samples), sample_rate, 16_000)[None])
        texts.append(path.with_suffix(".txt").read_text())
    made = [codec.encode(wave_BT, torch.tensor([wave_BT.shape[1]])) for wave_BT in waves]
    return Corpus(waves, texts, [codes.codes_BQT[0].tolist() for codes in made])


@pytest.fixture
def train(command: Any, tmp_path: Path, corpus: Corpus) -> Callable[..., Path]:
    """train(family, name of a column, its values, who made it, further columns): the export after three updates."""

    def call(
        family: str, column: str, values: list[Any], maker: TokenIdentity, more: Any = None, **sections: Any
    ) -> Path:
        table = pa.table({"text": corpus.texts, "codes": corpus.codes, column: values, **(more or {})})
        table = table.replace_schema_metadata({COLUMNS_PROPERTY: columns_to_json({column: maker})})
        output = tmp_path / f"{family}-{len(list(tmp_path.iterdir()))}"
        pq.write_table(table, tmp_path / f"{output.name}.parquet")
        settings = {
            "family": family,
            "model": SIZES,
            "data": {"files": [str(tmp_path / f"{output.name}.parquet")], "codec": CODEC},
            "loop": {"max_steps": 3, "log_every": 1},
            "output": str(output),
        }
        (tmp_path / f"{output.name}.yaml").write_text(yaml.safe_dump(settings | sections))
        code, result, error = command("fit", str(tmp_path / f"{output.name}.yaml"))
        assert code == 0, error
        return Path(result["export"])

    return call


def test_everything_is_trained_and_speaks(
    train: Callable[..., Path],
    corpus: Corpus,
    command: Any,
    w2vbert_directory: Path,
    mlflow_uri: str,
    tmp_path: Path,
) -> None:
    features = load(w2vbert_directory, layer=2)
    made = [features.embed(wave_BT, torch.tensor([wave_BT.shape[1]])) for wave_BT in corpus.waves]
    stored = [one.latents_BTD[0].numpy().astype("<f2").tobytes() for one in made]
    repcodec = train("repcodec", "latents", stored, features.identity, model=REPCODEC)
    _, network = load_generator(repcodec)
    assert isinstance(network, RepCodec)
    assert network.config.feature_size == features.identity.channels

    tokenizer = load_tokenizer(TokenizerSource(str(repcodec), str(w2vbert_directory), layer=2))
    coded = [tokenizer.encode(wave_BT, torch.tensor([wave_BT.shape[1]])) for wave_BT in corpus.waves]
    tokens = [codes.codes_BQT[0, 0].tolist() for codes in coded]
    semantic = ("semantic_codes", tokens, tokenizer.identity)
    phonemes = {"phonemes": [list(text) for text in corpus.texts]}
    parts = {
        "t2s": train("maskgct_semantic_t2s", *semantic, phonemes),
        "s2a_first": train("maskgct_semantic_s2a", *semantic, objective={"n_levels": 1}),
        "s2a": train("maskgct_semantic_s2a", *semantic, objective={"first_level": 1}),
        "semantic": repcodec,
    }
    words = [word for role, part in parts.items() for word in ("--part", f"{role}={part}")]
    words += ["--codec", CODEC, "--name", "tiny", "--set", f"semantic.features={w2vbert_directory}"]
    code, result, error = command("assemble", "maskgct_semantic", *words, "--set", "semantic.layer=2")
    assert code == 0, error
    text = result["options"]["text"]
    assert text["frames_per_token"] + text.get("frames_per_word", 0.0) > 1

    system = load_system(resolve(result["model"], mlflow_uri))
    quick = {"first_steps": 2, "s2a_steps": [1, 2, 1]}
    speak = system.speak(quick | {"text": {"t2s_steps": 2}})
    planned = speak.prepare(SpeakRequest("one two", phones=tuple("one two"), duration_s=0.5))
    (spoken,) = speak.run([planned], [torch.Generator().manual_seed(0)])
    assert spoken.wave.wave_BT.shape == (1, 8_000)
    assert bool(spoken.wave.wave_BT.abs().max() > 0)
    convert = system.convert(quick)
    source, voice = (Wave(wave, torch.tensor([wave.shape[1]]), 16_000) for wave in corpus.waves[:2])
    (converted,) = convert.run(
        [convert.prepare(ConvertRequest(source, Prompt(voice)))], [torch.Generator().manual_seed(0)]
    )
    assert converted.wave.wave_BT.shape == corpus.waves[0].shape

    # The same networks on tokens of another layer would say nothing.
    code, _, error = command("assemble", "maskgct_semantic", *words, "--set", "semantic.layer=3")
    assert code == 1
    assert "was trained on codes of repcodec@w2v-bert-2.0-layer-2" in error
    assert "the codec is repcodec@w2v-bert-2.0-layer-3; --part semantic=SOURCE gives another one" in error
