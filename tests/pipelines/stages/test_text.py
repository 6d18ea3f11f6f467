"""Transcripts get columns, or a reason; what training sees of a sentence is what speaking makes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from catalog.identity import Identity
from catalog.reasons import Reason
from models.checkpoints import Json
from models.text import espeak
from models.text.espeak import EspeakError
from models.text.front_ends import TextFrontEnd, text_front_end, training_front_end
from models.text.normalize import has_word, normalize_transcript
from models.text.phonemes import phonemize
from models.text.verbalize import LANGUAGES
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import DecodeSettings
from pipelines.audio.wav import write_wav
from pipelines.prepare.settings import PrepareSettings
from pipelines.prepare.steps import layout_of, steps_of
from pipelines.rows import SCHEMA, samples_array
from pipelines.sources.interface import to_table
from pipelines.sources.open import open_source
from pipelines.stages.decode import DecodeStage
from pipelines.stages.text import TextStage

LEXICON = """
- {word: Nguyen, language: en, say: win}
- {word: GIF, language: en, ipa: dʒˈɪf}
- {word: café, language: fr, ipa: kafˈe, say: kahfé}
- {word: fünf, language: de, say: fünnef}
"""
FRAGMENTS = (
    "the", "Nguyen", "GIF", "gif's", "caf\u00e9", "cafe\u0301", "fünf", "été", "3", "1,234.5", "$5.50", "1999", "21st",
    "5 %", "10:30", "７", "‘so’", "“quoted”", "it’s", "—", "-", "...", "&", "1 234", "こんにちは", "今", "你好", "。",
    "\u200b", "\x07", "e\u200d\u0301", "½", "U.S.A.",
)  # fmt: skip
GAPS = ("", " ", "  ", "\t", "\n", "\u00a0", "\u202f")
sentences = st.lists(
    st.tuples(st.sampled_from(FRAGMENTS) | st.text(max_size=3), st.sampled_from(GAPS)), max_size=6
).map(lambda parts: "".join(fragment + gap for fragment, gap in parts))
rows = st.lists(
    st.tuples(sentences, st.sampled_from([None, "en-GB", "pl", *LANGUAGES])), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lexicon, a tokenizer and a recording."""
    place = tmp_path_factory.mktemp("text")
    (place / "words.yaml").write_text(LEXICON, encoding="utf-8")
    pieces = ["[UNK]", "win", "Nguyen", "GIF", "the", "three", "3", "five", '"', "“", "quoted", "—", "'", "’"]
    inner = Tokenizer(models.WordLevel({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(str(place / "tokens"))
    (place / "source").mkdir()
    write_wav(place / "source" / "a.wav", np.full(3200, 0.1, np.float32), 16_000)
    return place


@pytest.fixture(scope="module")
def decode(folder: Path) -> Callable[[list[tuple[str, str | None]]], pa.Table]:
    """Sentences as rows of `prepare` after their recording was decoded."""
    stage = DecodeStage(DecodeSettings(16_000, Limits(min_duration_s=0.05)))
    (recording,) = open_source(str(folder / "source")).recordings()

    def of(sentences: list[tuple[str, str | None]]) -> pa.Table:
        table = to_table([recording] * len(sentences))
        for name, values in zip(("text", "language"), zip(*sentences, strict=True), strict=True):
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
        return stage(table)

    return of


def prepared(folder: Path, with_lexicon: bool, **text: Any) -> tuple[TextStage, dict[str, Json]]:
    """The text stage as `prepare` builds it, and the settings that the dataset records."""
    given = text | ({"lexicon": folder / "words.yaml"} if with_lexicon else {})
    of_job = PrepareSettings.model_validate({"text": given, "resources": {"device": "cpu"}})
    from models.codec_sources import load_codec

    layout = layout_of(of_job, [{"CPU": 1.0, "GPU": 0.0}])
    (step,) = steps_of(layout, of_job, Identity(load_codec("pcm-16khz").identity, {}), "data", "run")
    (stage,) = [one for one in step.stages if one.factory is TextStage]
    return TextStage(**stage.arguments), of_job.of_rows["text"]


@pytest.mark.parametrize("with_lexicon", [False, True], ids=["plain", "lexicon"])
@pytest.mark.parametrize("normalize", ["none", "transcript", "spoken", "spoken, not prepared"])
@pytest.mark.parametrize("kind", ["bytes", "huggingface", "phonemes"])
def test_training_sees_what_is_spoken(
    kind: str, normalize: str, with_lexicon: bool, folder: Path, decode: Any, tmp_path: Path
) -> None:
    if kind == "phonemes" and normalize in ("none", "spoken, not prepared"):
        pytest.skip("refused")
    stage, recorded = prepared(
        folder, with_lexicon, normalize=normalize == "spoken", phonemes=kind == "phonemes"
    )
    front_end = {"kind": kind, "normalize": normalize.split(",")[0]}
    front_end |= {"source": str(folder / "tokens")} if kind == "huggingface" else {}
    front_end |= {"lexicon": str(folder / "words.yaml")} if with_lexicon else {}
    training = training_front_end(front_end, recorded)
    speaking = text_front_end(training.save(tmp_path), tmp_path)

    @settings(max_examples=60, deadline=None)
    @given(rows)
    @example([("“It’s”\t 3 GIFs — cafe\u0301,  Nguyen", None), ("fünf 5", "de"), ("今日", "ja")])
    def hold(sentences: list[tuple[str, str | None]]) -> None:
        result = stage(decode(sentences)).to_pylist()
        for (sentence, language), row in zip(sentences, result, strict=True):
            if row["reason"] is None:
                spoken = sentence if normalize != "none" else normalize_transcript(sentence)
                assert training.encode_stored(row[training.column], row["language"]) == speaking.encode(
                    spoken, language
                )
            elif row["reason"] == Reason.NO_VERDICT:
                with pytest.raises(EspeakError) as refusal:
                    speaking.encode(sentence, language)
                assert row["detail"] == f"phonemes: {refusal.value}"
            else:
                assert not has_word(normalize_transcript(sentence))

    hold()


def test_text_as_given_is_spoken_as_given() -> None:
    """`none` is what was before: prepared text is normalised and spoken text is not."""
    front_end: TextFrontEnd = text_front_end({"kind": "bytes"})
    assert front_end.encode("a  “b”") == [256, *"a  “b”".encode(), 257]


def test_a_dataset_keeps_its_settings_when_new_ones_are_off(folder: Path) -> None:
    _, plain = prepared(folder, False)
    assert plain == {"missing": "reject"}
    _, filled = prepared(folder, False, normalize=True, phonemes=True)
    assert filled == {"missing": "reject", "normalize": True, "phonemes": True}
    _, named = prepared(folder, True, normalize=True)
    assert len(str(named["lexicon"])) == 64


def test_phonemes_without_espeak_end_the_job_and_not_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._probe.cache_clear()
    try:
        with pytest.raises(EspeakError, match="espeak-ng is not installed"):
            TextStage("reject", phonemes=True)
    finally:
        espeak._probe.cache_clear()


def transcribed(rows: list[tuple[str | None, str | None]]) -> pa.Table:
    columns = {name: pa.nulls(len(rows), SCHEMA.field(name).type) for name in SCHEMA.names}
    columns["text"] = pa.array([text for text, _ in rows], pa.string())
    columns["language"] = pa.array([language for _, language in rows], pa.string())
    columns["samples"] = samples_array([np.zeros(3, np.float32) for _ in rows])
    return pa.table(columns, schema=SCHEMA)


def test_rows_get_normalised_text_and_phonemes_in_their_language() -> None:
    table = transcribed([("1 dog", None), ("1 Hund", "de"), (None, None), ("今日", "ja"), ("a 1", "xx")])
    result = TextStage("allow", normalize=True, phonemes=True)(table)
    assert result["normalized_text"].to_pylist() == ["one dog", "ein Hund", None, "今日", "a 1"]
    said = result["phonemes"].to_pylist()
    assert "".join(said[0]) == "wˈʌn dˈɑːɡ"
    assert "".join(said[1]) == "aɪn hˈʊnt"
    assert said[2:] == [None, None, None]
    assert result["reason"].to_pylist() == [None, None, None, Reason.NO_VERDICT, Reason.NO_VERDICT]
    assert result["detail"].to_pylist()[3:] == [
        "phonemes: espeak-ng cannot read '今' in language 'ja'",
        "phonemes: espeak-ng has no voice for language 'xx'; give an ISO 639-1 code that it has",
    ]
    assert result["samples"].is_null().to_pylist() == [False, False, False, True, True]


def test_a_row_does_not_depend_on_its_neighbours_nor_on_the_process() -> None:
    rows = [
        ("He read it in 1999.", "en"),
        ("Bonjour!", "fr"),
        ("今日", "ja"),
        ("Read: 3.14", None),
        ("ich", "de"),
    ]
    stage = TextStage("reject", normalize=True, phonemes=True)
    together = stage(transcribed(rows)).to_pylist()
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from models.text.phonemes import phonemize\n"
        "print(ascii([phonemize(['nineteen', text], 'en')[1] for text in ('Read: three', 'He read it')]))"
    )
    alone = [stage(transcribed([row])).to_pylist()[0] for row in reversed(rows)][::-1]
    assert alone == together
    printed = subprocess.run(
        [sys.executable, "-c", script, *sys.path], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == ascii(phonemize(["Read: three", "He read it"], "en"))


def test_rejected_rows_pass_untouched_and_columns_come_only_when_asked() -> None:
    table = transcribed([(None, "xx"), ("", "en"), ("word", "xx")])
    plain = TextStage("reject")(table)
    assert plain.column_names == table.column_names
    assert plain["reason"].to_pylist() == [Reason.MISSING_TEXT, Reason.EMPTY_TEXT, None]
    normalised = TextStage("reject", normalize=True)(table)
    assert normalised["normalized_text"].to_pylist() == [None, None, "word"]
    assert normalised["reason"].to_pylist() == [Reason.MISSING_TEXT, Reason.EMPTY_TEXT, None]
