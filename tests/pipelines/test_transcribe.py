"""Transcription with tiny random models: the real engines, known answers, what goes wrong."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.command import JobError, UsageError
from catalog.reasons import Reason
from pipelines.audio import Samples, decode
from pipelines.stages.transcribe import TranscribeStage
from pipelines.text import normalise
from pipelines.transcribers import check_model, load_transcriber
from pipelines.transcribers.batches import MOST_FAILURES, Batches, Failure
from pipelines.transcribers.interface import (
    Language,
    Transcriber,
    TranscribeSettings,
    Transcript,
    compression_ratio,
    language_code,
)
from pipelines.transcribers.pieces import cut
from pipelines.utterances import SCHEMA, samples_array

RATE = 16_000
COLUMNS = ("text_confidence", "avg_logprob", "compression_ratio", "language_probability", "chars_per_s")


def settings_for(model: Path, **changes: Any) -> TranscribeSettings:
    plain: dict[str, Any] = {"model": str(model), "beam_size": 1, "max_tokens": 40, "batch_size": 4}
    return TranscribeSettings(**(plain | changes))


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows in flight from `samples` and whatever else is given."""
    columns = {
        name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type)
        for name in SCHEMA.names
        if name != "samples"
    }
    columns["samples"] = samples_array([row.get("samples") for row in rows])
    return pa.table(columns, schema=SCHEMA)


def utterance(name: str, samples: Samples | None, **more: Any) -> dict[str, Any]:
    return {"id": name, "recording_id": name.split("#")[0], "samples": samples, **more}


@pytest.fixture(scope="module")
def speech(speech_folder: Path) -> list[Samples]:
    return [decode(path, RATE).samples for path in sorted(speech_folder.glob("*.wav"))]


@pytest.fixture(scope="module")
def whisperx(tiny_whisper: Path) -> Transcriber:
    return load_transcriber(settings_for(tiny_whisper))


@pytest.fixture(scope="module")
def in_transformers(tiny_whisper_hf: Path) -> Transcriber:
    return load_transcriber(settings_for(tiny_whisper_hf, engine="transformers"))


def greedy(folder: Path, wave: Samples, language: str, most: int) -> tuple[str, float, int]:
    """Text, sum of log-probabilities and number of tokens, by running the network step by step."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    config = model.generation_config
    names = ("startoftranscript", language, "transcribe", "notimestamps")
    prompt = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names]
    features = WhisperFeatureExtractor()(wave, sampling_rate=RATE, return_tensors="pt").input_features
    written: list[int] = []
    total = 0.0
    with torch.no_grad():
        while len(written) < most and written[-1:] != [config.eos_token_id]:
            inputs = torch.tensor([prompt + written])
            logits = model(input_features=features, decoder_input_ids=inputs).logits[0, -1]
            logits[config.suppress_tokens] = -torch.inf
            if not written:
                logits[config.begin_suppress_tokens] = -torch.inf
            chances = logits.log_softmax(-1)
            written.append(int(chances.argmax()))
            total += float(chances.max())
    words = [token for token in written if token < config.eos_token_id]
    return tokenizer.decode(words), total, len([one for one in written if one != config.eos_token_id])


@pytest.mark.parametrize("engine", ["whisperx", "in_transformers"])
def test_texts_and_scores_are_those_of_the_network_run_step_by_step(
    engine: str, request: pytest.FixtureRequest, tiny_whisper_hf: Path, speech: list[Samples]
) -> None:
    transcriber: Transcriber = request.getfixturevalue(engine)
    languages = ["en", "de", "zh"]
    found = transcriber.transcribe(speech[:3], languages)
    for transcript, wave, language in zip(found, speech, languages, strict=False):
        text, logprob, tokens = greedy(tiny_whisper_hf, wave, language, most=40)
        assert transcript.text == text
        assert transcript.logprob == pytest.approx(logprob, rel=1e-4)
        # faster-whisper divides by one token more than there is text, whether the end was reached or not.
        assert transcript.tokens == tokens + 1
        assert transcript.detected is None


def test_engines_detect_the_same_languages(
    whisperx: Transcriber, in_transformers: Transcriber, speech: list[Samples]
) -> None:
    ours, theirs = whisperx.detect(speech), in_transformers.detect(speech)
    assert [one.code for one in ours] == [one.code for one in theirs]
    assert [one.probability for one in ours] == pytest.approx([one.probability for one in theirs], rel=1e-3)
    assert whisperx.languages == in_transformers.languages
    assert len(whisperx.languages) == 99


@pytest.mark.parametrize("engine", ["whisperx", "in_transformers"])
def test_a_wave_alone_says_what_it_says_in_a_batch(
    engine: str, request: pytest.FixtureRequest, speech: list[Samples]
) -> None:
    transcriber: Transcriber = request.getfixturevalue(engine)
    languages = [None, "en", None, "fr", "en", None]
    together = transcriber.transcribe(speech, languages)
    for wave, language, expected in zip(speech, languages, together, strict=True):
        (alone,) = transcriber.transcribe([wave], [language])
        assert alone.text == expected.text
        assert alone.logprob == pytest.approx(expected.logprob, rel=1e-4)
        assert (alone.detected is None) == (language is not None)
        if alone.detected and expected.detected:
            assert alone.detected.code == expected.detected.code


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_prompt_changes_the_text_and_numerals_can_be_kept_out(
    tiny_whisper: Path, tiny_whisper_hf: Path, speech: list[Samples], beam_size: int
) -> None:
    texts = {}
    for changes in ({}, {"initial_prompt": "Dunedin"}, {"suppress_numerals": True}):
        ours = load_transcriber(settings_for(tiny_whisper, beam_size=beam_size, **changes))
        texts[str(changes)] = [one.text for one in ours.transcribe(speech, ["en"] * 6)]
        if beam_size == 1:
            engine = settings_for(tiny_whisper_hf, engine="transformers", **changes)
            theirs = load_transcriber(engine).transcribe(speech, ["en"] * 6)
            assert [one.text for one in theirs] == texts[str(changes)]
    assert len(set(map(tuple, texts.values()))) >= 2
    assert not any(char.isdigit() for text in texts["{'suppress_numerals': True}"] for char in text)


def test_the_stage_fills_rows_without_text_and_leaves_the_others(
    tiny_whisper: Path, speech: list[Samples]
) -> None:
    rows = [
        utterance("a", speech[0], language="en-GB"),
        utterance("b", speech[1], text="given words", text_source="sidecar", language="de"),
        utterance("c", None, reason="unreadable", detail="not audio"),
        utterance("d", speech[2], text=""),
        utterance("e", None, text="words", reason="silent", detail="silent"),
    ]
    table = table_of(rows)
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table)
    kept = result.select(SCHEMA.names).take([1, 2, 4])
    assert kept.equals(table.take([1, 2, 4]))
    assert result["text_source"].to_pylist() == ["whisperx:ct2", "sidecar", None, "whisperx:ct2", None]
    assert result["language"].to_pylist()[:3] == ["en-GB", "de", None]
    for name in COLUMNS[:3]:
        assert [value is None for value in result[name].to_pylist()] == [False, True, True, False, True]
    chances = result["language_probability"].to_pylist()
    assert [chance is None for chance in chances] == [True, True, True, False, True]
    texts, averages = result["text"].to_pylist(), result["avg_logprob"].to_pylist()
    for row in (0, 3):
        assert result["text_confidence"].to_pylist()[row] == pytest.approx(math.exp(averages[row]), rel=1e-5)
        assert result["compression_ratio"].to_pylist()[row] == pytest.approx(compression_ratio(texts[row]))
    speeds = result["chars_per_s"].to_pylist()
    assert speeds[1] == pytest.approx(len("givenwords") * RATE / len(speech[1]))
    assert speeds[2] is None
    assert speeds[4] is None


def test_given_texts_are_replaced_when_asked(tiny_whisper: Path, speech: list[Samples]) -> None:
    table = table_of([utterance("a", speech[0], text="given", text_source="given", language="en")])
    stage = TranscribeStage(settings_for(tiny_whisper, which="all"), RATE)
    result = stage(table)
    assert result["text_source"].to_pylist() == ["whisperx:ct2"]
    assert result["text"].to_pylist() != ["given"]


def test_rows_do_not_depend_on_the_recordings_beside_them(tiny_whisper: Path, speech: list[Samples]) -> None:
    rows = [utterance(f"{index // 2}#{index}", wave) for index, wave in enumerate(speech)]
    together = TranscribeStage(settings_for(tiny_whisper, batch_size=4), RATE)(table_of(rows))
    single = TranscribeStage(settings_for(tiny_whisper, batch_size=1), RATE)
    apart = pa.concat_tables([single(table_of(rows[at : at + 2])) for at in (0, 2, 4)])
    for name in ("id", "text", "text_source", "language"):
        assert together[name].to_pylist() == apart[name].to_pylist()
    for name in COLUMNS:
        assert together[name].to_pylist() == pytest.approx(apart[name].to_pylist(), rel=1e-4)


def test_a_recording_has_the_language_of_its_opening(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    rows = [utterance("a#0", speech[0]), utterance("a#1", speech[1]), utterance("b", speech[2])]
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table_of(rows))
    (opening,) = whisperx.detect([np.concatenate(speech[:2])])
    (single,) = whisperx.detect([speech[2]])
    assert result["language"].to_pylist() == [opening.code, opening.code, single.code]
    assert result["language_probability"].to_pylist() == pytest.approx(
        [opening.probability, opening.probability, single.probability], rel=1e-4
    )
    (expected,) = whisperx.transcribe([speech[1]], [opening.code])
    assert result["text"].to_pylist()[1] == normalise(expected.text)


def test_the_language_of_the_settings_is_for_rows_that_say_none(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    rows = [utterance("a", speech[0]), utterance("b", speech[0], language="German")]
    result = TranscribeStage(settings_for(tiny_whisper, language="fr"), RATE)(table_of(rows))
    assert result["language"].to_pylist() == ["fr", "German"]
    assert result["language_probability"].to_pylist() == [None, None]
    expected = whisperx.transcribe([speech[0]] * 2, ["fr", "de"])
    assert result["text"].to_pylist() == [normalise(one.text) for one in expected]


def test_a_language_that_the_model_lacks_rejects_the_row_only(
    tiny_whisper: Path, speech: list[Samples]
) -> None:
    rows = [utterance("a", speech[0], language="tlh"), utterance("b", speech[1], language="en")]
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table_of(rows))
    assert result["reason"].to_pylist() == [Reason.MISSING_TEXT, None]
    assert result["detail"].to_pylist()[0].startswith("language 'tlh' is none of the model's: it knows 99")
    assert result["samples"].null_count == 1
    with pytest.raises(UsageError, match=r"transcribe.language: language 'tlh' is none of"):
        TranscribeStage(settings_for(tiny_whisper, language="tlh"), RATE)


def test_a_long_wave_is_the_sum_of_its_pieces_at_any_sample_rate(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    wave = np.tile(np.concatenate(speech), 10)[: 70 * RATE]
    stage = TranscribeStage(settings_for(tiny_whisper), RATE)
    result = stage(table_of([utterance("a", wave, language="en")]))
    pieces = cut(wave, RATE, 30.0)
    parts = whisperx.transcribe(pieces, ["en"] * len(pieces))
    assert len(parts) == 3
    assert result["text"].to_pylist() == [normalise("".join(part.text for part in parts))]
    total = sum(part.logprob or 0 for part in parts) / sum(part.tokens for part in parts)
    assert result["avg_logprob"].to_pylist() == pytest.approx([total], rel=1e-4)
    half = TranscribeStage(settings_for(tiny_whisper), RATE * 2)
    doubled = half(table_of([utterance("a", np.repeat(wave, 2), language="en")]))
    assert doubled["chars_per_s"].to_pylist()[0] > 0
    assert doubled["text"].to_pylist()[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400_000), st.integers(0, 2**31))
def test_pieces_are_the_wave_and_fit_the_window(length: int, seed: int) -> None:
    wave = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    pieces = cut(wave, 1000, 30.0)
    assert np.array_equal(np.concatenate(pieces), wave)
    assert max(len(piece) for piece in pieces) <= 30_000
    assert min(len(piece) for piece in pieces) >= min(length, 9_000)


def test_pieces_are_cut_in_the_pause() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 40 * RATE).astype(np.float32)
    wave[18 * RATE : 18 * RATE + RATE // 4] = 0
    first, _ = cut(wave, RATE, 30.0)
    assert 18 * RATE < len(first) < 18 * RATE + RATE // 4


class Counting:
    """Says how long a wave is; fails on what the settings of the test call bad."""

    languages = frozenset({"en"})
    detects = False

    def __init__(self, bad_lengths: Sequence[int] = (), empty: Sequence[int] = ()) -> None:
        self.bad_lengths, self.empty = bad_lengths, empty
        self.calls: list[int] = []

    def detect(self, waves: Sequence[Samples]) -> list[Language]:
        raise AssertionError(f"asked for the language of {len(waves)} waves")

    def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        assert set(languages) <= {"en", None}
        self.calls.append(len(waves))
        for wave in waves:
            if len(wave) in self.bad_lengths:
                raise RuntimeError(f"cannot hear\n{len(wave)} samples")
        return [
            Transcript("" if len(wave) in self.empty else f" {len(wave)}", None, -1.0, 2) for wave in waves
        ]


def counted(engine: Counting, lengths: Sequence[int], **changes: Any) -> pa.Table:
    chosen = settings_for(Path("any"), **changes)
    stage = TranscribeStage(chosen, RATE, load=lambda _settings, _device, _threads: engine)
    return stage(table_of([utterance(str(length), np.zeros(length, np.float32)) for length in lengths]))


def test_batches_cross_recordings() -> None:
    engine = Counting()
    result = counted(engine, range(1, 11), batch_size=4)
    assert engine.calls == [4, 4, 2]
    assert result["text"].to_pylist() == [str(length) for length in range(1, 11)]
    assert result["language"].to_pylist() == ["en"] * 10
    assert result["text_source"].to_pylist()[0] == "whisperx:any"


def test_a_row_that_the_engine_fails_on_is_rejected_alone() -> None:
    engine = Counting(bad_lengths=[3])
    result = counted(engine, range(1, 6), batch_size=4)
    assert result["text"].to_pylist() == ["1", "2", None, "4", "5"]
    assert result["reason"].to_pylist() == [None, None, Reason.MISSING_TEXT, None, None]
    detail = "transcription failed: RuntimeError: cannot hear 3 samples"
    assert result["detail"].to_pylist()[2] == detail
    assert engine.calls == [4, 1, 1, 1, 1, 1, 1]


def test_an_empty_transcript_is_an_empty_text() -> None:
    result = counted(Counting(empty=[2]), [1, 2])
    assert result["text"].to_pylist() == ["1", ""]
    assert result["reason"].null_count == 2
    assert result["compression_ratio"].to_pylist()[1] == 0
    assert result["chars_per_s"].to_pylist()[1] is None


def test_too_large_a_batch_is_halved_for_good() -> None:
    seen = []

    def work(items: Sequence[int]) -> list[int]:
        seen.append(len(items))
        if len(items) > 2:
            raise RuntimeError("CUDA failed with error out of memory")
        return [item * item for item in items]

    batches = Batches(10)
    assert batches.run(work, range(7)) == [item * item for item in range(7)]
    assert seen == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    batches.run(work, range(2))
    assert seen[9:] == [1, 1]


def test_an_engine_that_cannot_work_at_all_ends_the_job() -> None:
    def broken(items: Sequence[int]) -> list[int]:
        raise RuntimeError(f"no kernel for {len(items)}")

    assert Batches(4).run(broken, [1]) == [Failure("RuntimeError: no kernel for 1")]
    with pytest.raises(JobError, match=f"{MOST_FAILURES} windows of audio failed one after another: Runtime"):
        Batches(4).run(broken, range(100))

    def tight(items: Sequence[int]) -> list[int]:
        raise MemoryError(len(items))

    with pytest.raises(JobError, match="one window of audio does not fit in memory"):
        Batches(4).run(tight, range(4))


@pytest.mark.parametrize("text", ["", "a", "ha " * 50, "sch\u00f6n \u4f60\u597d"])
def test_compression_ratio_is_whispers(text: str) -> None:
    from faster_whisper.transcribe import get_compression_ratio

    assert compression_ratio(text) == get_compression_ratio(text)


def test_names_of_languages() -> None:
    known = frozenset({"en", "zh", "haw"})
    given = ["en", "EN", "en-US", "zh_TW", "Chinese", "haw", "de", "english (US)"]
    expected = ["en", "en", "en", "zh", "zh", "haw", None, None]
    assert [language_code(one, known) for one in given] == expected


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_model_directory_without_a_file_is_refused(tiny_whisper: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_whisper, folder)
    check_model(settings_for(folder))
    (folder / name).unlink()
    with pytest.raises(UsageError, match=f"'{folder}' has no {name}.*; a CTranslate2 Whisper model needs it"):
        load_transcriber(settings_for(folder))


def test_a_transformers_directory_is_no_ctranslate2_model(tiny_whisper: Path, tiny_whisper_hf: Path) -> None:
    with pytest.raises(UsageError, match=r"has no model.bin; a CTranslate2 Whisper model needs it"):
        check_model(settings_for(tiny_whisper_hf))
    with pytest.raises(UsageError, match=r"has no model.safetensors or .*; a transformers model needs it"):
        check_model(settings_for(tiny_whisper, engine="transformers"))


def test_models_that_do_not_load_are_named_in_one_line(tiny_whisper: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_whisper, folder)
    (folder / "model.bin").write_bytes(b"not a model")
    with pytest.raises(JobError, match=f"transcription model '{folder}' cannot be loaded: [^\n]+$"):
        load_transcriber(settings_for(folder))
    with pytest.raises(UsageError, match=r"'/no/such/model' is not a directory"):
        load_transcriber(settings_for(Path("/no/such/model")))
    with pytest.raises(
        JobError, match=r"'no-such-model' .taken for a hub name, [^\n]+ cannot be loaded: [^\n]+$"
    ):
        load_transcriber(settings_for(Path("no-such-model")))
    with pytest.raises(UsageError, match=r"compute_type is 'int3'; cpu can do default, .*float32"):
        load_transcriber(settings_for(tiny_whisper, compute_type="int3"))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model": ""}, "transcribe.model is empty"),
        ({"batch_size": 0}, "transcribe.batch_size is 0, must be from 1 to 1024"),
        ({"beam_size": 101}, "transcribe.beam_size is 101, must be from 1 to 100"),
        ({"max_tokens": 225}, "transcribe.max_tokens is 225, must be from 1 to 224"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TranscribeSettings(**({"model": "tiny"} | changes))


@pytest.fixture(scope="module")
def ctc_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random wav2vec 2.0 that spells letters."""
    import json

    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("ctc") / "letters"
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    model = Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=2.0)
    model.save_pretrained(folder)
    return folder


def test_ctc_models_give_their_best_path_and_its_probability(ctc_model: Path, speech: list[Samples]) -> None:
    import torch
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    table = table_of([utterance("a", speech[0], language="tlh"), utterance("b", speech[1])])
    result = TranscribeStage(settings_for(ctc_model, engine="transformers"), RATE)(table)
    model, tokenizer = (
        Wav2Vec2ForCTC.from_pretrained(ctc_model),
        Wav2Vec2CTCTokenizer.from_pretrained(ctc_model),
    )
    for row, wave in enumerate(speech[:2]):
        inputs = Wav2Vec2FeatureExtractor()(wave, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            best = model.eval()(**inputs).logits[0].log_softmax(-1).max(-1)
        assert result["text"].to_pylist()[row] == " ".join(tokenizer.decode(best.indices).split())
        assert result["avg_logprob"].to_pylist()[row] == pytest.approx(float(best.values.mean()), rel=1e-4)
    assert result["text_source"].to_pylist() == ["transformers:letters"] * 2
    assert result["language"].to_pylist() == ["tlh", None]
    assert result["language_probability"].to_pylist() == [None, None]
    with pytest.raises(UsageError, match=r"initial_prompt and suppress_numerals are for Whisper"):
        load_transcriber(settings_for(ctc_model, engine="transformers", initial_prompt="a"))
