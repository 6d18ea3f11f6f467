"""Training reads the column that holds what is spoken, and what it learned of a sentence is what is spoken of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from catalog.appending import Appender
from catalog.creation import create
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.codecs.interface import Codes, identity_of
from models.system import SpeakRequest
from models.system_files import load_system, save_system
from models.text.front_ends import located
from models.text.treatment import Treatment
from trainers.__main__ import main
from trainers.text_tokens import TextTokens

CODEC = Path(__file__).parent.parent / "fixtures" / "before_house" / "codec_with_head"
SENTENCE = "“It’s”  2 cafe\u0301s"
FRAMES = 8
LEARNED = [[(7 * frame + level) % 16 for frame in range(FRAMES)] for level in range(3)]
"""Codes (Q, T) of every row."""

Prepared = Callable[..., str]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """prepared(texts with languages, **text settings) -> a dataset as `prepare` fills it, with codes of the codec."""

    def make(sentences: dict[str, str | None], copies: int = 1, **settings: Any) -> str:
        identity = identity_of(load_codec(str(CODEC)))
        dataset = create(tmp_path / "dataset", identity, {"text": {"missing": "reject", **settings}})
        treatment = Treatment("spoken" if settings.get("normalize") else "transcript")
        rows: dict[str, list[Any]] = {name: [] for name in ("id", "text", "language", "codes", "split")}
        filled = [
            column
            for column, key in (("normalized_text", "normalize"), ("phonemes", "phonemes"))
            if settings.get(key)
        ]
        rows |= {column: [] for column in filled}
        for number, (sentence, language) in enumerate(list(sentences.items()) * copies):
            rows["id"].append(f"row{number}")
            rows["text"].append(Treatment("transcript").text(sentence))
            rows["language"].append(language)
            rows["codes"].append(LEARNED)
            rows["split"].append("train")
            for column in filled:
                treated = treatment.phones if column == "phonemes" else treatment.text
                rows[column].append(treated(sentence, language))
        table = pa.table(
            {
                **rows,
                "codes": pa.array(rows["codes"], pa.list_(pa.list_(pa.int16()))),
                "recording_id": rows["id"],
                "target_length": pa.array([FRAMES] * len(rows["id"]), pa.int32()),
            }
        )
        Appender(dataset).append(write_shard(table, dataset.uri, "20260101T000000_test", identity))
        made_by = json.dumps({"espeak_ng": "1.99"}).encode()
        dataset.storage.write("_settings/20260101T000000_test.yaml", made_by)
        return dataset.uri

    return make


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """run(words...) -> exit code, JSON line, standard error of `python -m trainers words...`."""

    def call(*words: str | Path) -> tuple[int, Any, str]:
        code = main([str(word) for word in words])
        out, error = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, error

    return call


def fit_file(folder: Path, part: str, dataset: str, text: dict[str, Any], **loop: Any) -> Path:
    objective = {"text": text, "text_drop_prob": 0.0, "prompt_drop_prob": 1.0, "min_mask_prob": 0.5}
    optim = {"lr": 0.003, "warmup_steps": 10, "schedule": "cosine"}
    settings = {
        "family": f"maskgct_{part}",
        "model": {"hidden_size": 32, "n_layers": 2, "n_heads": 2, "feed_forward_size": 64},
        "objective": objective | ({"first_level": 1} if part == "s2a" else {}),
        "data": {"dataset": dataset},
        "loop": {
            "log_every": 1000,
            "samples": 0,
            "optim": optim,
            **loop,
        },
        "output": str(folder / part),
        "tracking": {"enabled": False},
        "device": "cpu",
    }
    path = folder / f"{part}.yaml"
    path.write_text(json.dumps(settings))
    return path


def test_a_generator_of_phonemes_speaks_the_sentence_that_it_learned(
    prepared: Prepared, run: Any, tmp_path: Path
) -> None:
    uri = prepared({SENTENCE: None}, copies=8, normalize=True, phonemes=True)
    text = {"kind": "phonemes", "language": "en"}
    parts = {}
    for part, steps in (("t2s", 80), ("s2a", 50)):
        code, result, error = run("fit", fit_file(tmp_path, part, uri, text, max_steps=steps))
        assert code == 0, error
        parts[part] = Path(result["export"])
    description = json.loads((parts["t2s"] / "text.json").read_text())
    assert description == {
        "kind": "phonemes", "normalize": "spoken", "language": "en", "symbols": "ipa@1", "espeak_ng": "1.99",
        "spoken_forms": "1",
    }  # fmt: skip
    directory = tmp_path / "system"
    found = located(description, parts["t2s"])
    save_system(directory, "maskgct", codec=str(CODEC), generators=parts, text=found)
    system = load_system(directory)
    task = system.speak({"t2s_steps": FRAMES, "s2a_steps": [4], "guidance": 0.0, "temperature": 0.0})

    def speak(**request: Any) -> torch.Tensor:
        duration_s = FRAMES * system.codec.hop_length / system.codec.sample_rate
        prepared = task.prepare(SpeakRequest(SENTENCE, duration_s=duration_s, **request))
        (speech,) = task.run([prepared], [torch.Generator().manual_seed(0)])
        return speech.wave.wave_BT[0]

    wanted = load_codec(str(CODEC)).decode(Codes(torch.tensor([LEARNED]), torch.tensor([FRAMES]))).wave_BT[0]
    assert torch.allclose(speak(), wanted, atol=1e-4)
    phones = tuple(Treatment("spoken").phones(SENTENCE))
    assert torch.allclose(speak(phones=phones), wanted, atol=1e-4)


def tokens(uri: str, text: dict[str, Any]) -> tuple[TextTokens, list[list[int]]]:
    """The token ids of all rows, as a fit reads them."""
    from trainers.fit import resolve
    from trainers.settings import DataSettings
    from trainers.store import Store

    source = resolve(DataSettings(dataset=uri))
    tokens_of = TextTokens(text, source.info.text)
    needs = tokens_of.needs
    rows = Store.read(source.files, signed=False, columns=needs.required, nullable=needs.nullable)
    return tokens_of, [tokens_of(rows, row) for row in range(len(rows))]


@pytest.mark.parametrize("normalize", ["transcript", "spoken"])
@pytest.mark.parametrize("columns", [{}, {"normalize": True}])
def test_rows_are_read_in_their_language(prepared: Prepared, normalize: str, columns: dict[str, Any]) -> None:
    sentences = {SENTENCE: None, "3 Hunde": "de", "3 dogs": "en"}
    tokens_of, ids = tokens(prepared(sentences, **columns), {"kind": "bytes", "normalize": normalize})
    assert ids == [tokens_of.front_end.encode(*sentence) for sentence in sentences.items()]
    reads_text = normalize == "transcript" or not columns
    assert tokens_of.needs.columns == (("text",) if reads_text else ("normalized_text",))
    assert tokens_of.needs.nullable == (("language",) if normalize == "spoken" and not columns else ())


def test_a_fit_that_contradicts_its_column_is_refused(prepared: Prepared, run: Any, tmp_path: Path) -> None:
    uri = prepared({SENTENCE: None}, normalize=True, phonemes=True)
    for text, message in (
        (
            {"kind": "phonemes", "language": "fr"},
            "text.language is 'fr', but the dataset's column phonemes was made",
        ),
        (
            {"kind": "phonemes", "normalize": "transcript"},
            "text.normalize is 'transcript', but the dataset's column",
        ),
        ({"kind": "phoneme"}, "text front end: kind is 'phoneme'; known: bytes, byt5, huggingface, phonemes"),
        (
            {"kind": "bytes", "langauge": "fr"},
            "unknown key 'langauge' in the text front end; did you mean 'language'?",
        ),
    ):
        code, _, error = run("fit", fit_file(tmp_path, "t2s", uri, text, max_steps=1))
        assert code != 0
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_a_dataset_without_phonemes_says_how_to_get_them(
    prepared: Prepared, run: Any, tmp_path: Path
) -> None:
    uri = prepared({SENTENCE: None})
    code, _, error = run("fit", fit_file(tmp_path, "t2s", uri, {"kind": "phonemes"}, max_steps=1))
    assert code == 1
    assert "the dataset has no phonemes: prepare it with text.phonemes=true" in error


def test_a_row_that_cannot_be_read_is_named(make_store: Any) -> None:
    rows = make_store([1, 1], phonemes=pa.array([["a"], ["漢"]], pa.list_(pa.string())))
    tokens_of = TextTokens({"kind": "phonemes", "normalize": "transcript"}, None)
    assert tokens_of(rows, 0)
    with pytest.raises(ValueError, match=r"row r0001: .*漢"):
        tokens_of(rows, 1)
