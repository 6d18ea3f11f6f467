"""The engines and what they share: known answers from tiny random models, refusals."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.command import JobError, UsageError
from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.speech.transcription import check_model, load_transcriber
from pipelines.speech.transcription.batches import MOST_FAILURES, BatchRunner, Failure
from pipelines.speech.transcription.interface import (
    Transcriber,
    TranscribeSettings,
    compression_ratio,
    language_code,
)
from pipelines.speech.transcription.windows import windows_of

RATE = 16_000


def settings_for(model: Path, **changes: Any) -> TranscribeSettings:
    plain: dict[str, Any] = {"model": str(model), "beam_size": 1, "max_tokens": 40, "batch_size": 4}
    return TranscribeSettings(**(plain | changes))


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


def test_too_large_a_batch_is_halved_for_good() -> None:
    seen = []

    def work(items: Sequence[int]) -> list[int]:
        seen.append(len(items))
        if len(items) > 2:
            raise RuntimeError("CUDA failed with error out of memory")
        return [item * item for item in items]

    batches = BatchRunner(10)
    assert batches.run(work, range(7)) == [item * item for item in range(7)]
    assert seen == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    batches.run(work, range(2))
    assert seen[9:] == [1, 1]


def test_an_engine_that_cannot_work_at_all_ends_the_job() -> None:
    def broken(items: Sequence[int]) -> list[int]:
        raise RuntimeError(f"no kernel for {len(items)}")

    assert BatchRunner(4).run(broken, [1]) == [Failure("RuntimeError: no kernel for 1")]
    with pytest.raises(JobError, match=f"{MOST_FAILURES} windows of audio failed one after another: Runtime"):
        BatchRunner(4).run(broken, range(100))

    def tight(items: Sequence[int]) -> list[int]:
        raise MemoryError(len(items))

    with pytest.raises(JobError, match="one window of audio does not fit in memory"):
        BatchRunner(4).run(tight, range(4))


@pytest.mark.parametrize("text", ["", "a", "ha " * 50, "sch\u00f6n \u4f60\u597d"])
def test_compression_ratio_is_whispers(text: str) -> None:
    from faster_whisper.transcribe import get_compression_ratio

    assert compression_ratio(text) == get_compression_ratio(text)


def test_names_of_languages() -> None:
    known = frozenset({"en", "zh", "haw"})
    given = ["en", "EN", "en-US", "zh_TW", "Chinese", "haw", "de", "english (US)"]
    expected = ["en", "en", "en", "zh", "zh", "haw", None, None]
    assert [language_code(one, known) for one in given] == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400_000), st.integers(0, 2**31))
def test_pieces_are_the_wave_and_fit_the_window(length: int, seed: int) -> None:
    wave = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    windows = windows_of(wave, 1000, 30.0)
    assert np.array_equal(np.concatenate(windows), wave)
    assert max(len(window) for window in windows) <= 30_000
    assert min(len(window) for window in windows) >= min(length, 9_000)


def test_pieces_are_cut_in_the_pause() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 40 * RATE).astype(np.float32)
    wave[18 * RATE : 18 * RATE + RATE // 4] = 0
    first, _ = windows_of(wave, RATE, 30.0)
    assert 18 * RATE < len(first) < 18 * RATE + RATE // 4


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

    transcriber = load_transcriber(settings_for(ctc_model, engine="transformers"))
    assert not transcriber.languages
    found = transcriber.transcribe(speech[:2], ["tlh", None])
    model, tokenizer = (
        Wav2Vec2ForCTC.from_pretrained(ctc_model),
        Wav2Vec2CTCTokenizer.from_pretrained(ctc_model),
    )
    for row, wave in enumerate(speech[:2]):
        inputs = Wav2Vec2FeatureExtractor()(wave, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            best = model.eval()(**inputs).logits[0].log_softmax(-1).max(-1)
        assert found[row].text == f" {tokenizer.decode(best.indices)}"
        assert found[row].logprob == pytest.approx(float(best.values.sum()), rel=1e-4)
        assert found[row].tokens == len(best.values)
    with pytest.raises(UsageError, match=r"initial_prompt and suppress_numerals are for Whisper"):
        load_transcriber(settings_for(ctc_model, engine="transformers", initial_prompt="a"))


def test_english_only_models_are_told_no_language(tmp_path: Path, speech: list[Samples]) -> None:
    from pipelines.speech.transcription.example import Size, build

    hf, ct2 = build(tmp_path, Size(multilingual=False), seed=1)
    ours = load_transcriber(settings_for(ct2))
    theirs = load_transcriber(settings_for(hf, engine="transformers"))
    for engine in (ours, theirs):
        assert engine.languages == {"en"}
        assert not engine.detects
    found, expected = (engine.transcribe(speech[:2], [None, "en"]) for engine in (ours, theirs))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], rel=1e-4)
    assert [one.detected for one in found] == [None, None]


def test_other_models_give_a_text_without_a_probability(
    tmp_path: Path, tiny_whisper_hf: Path, speech: list[Samples]
) -> None:
    import torch
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        PreTrainedTokenizerFast,
        Wav2Vec2FeatureExtractor,
    )

    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=1200,
        hidden_size=16,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        max_position_embeddings=64,
    )
    MoonshineForConditionalGeneration(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny_whisper_hf / "tokenizer.json"))
    tokenizer.save_pretrained(tmp_path)
    engine = load_transcriber(settings_for(tmp_path, engine="transformers", max_tokens=8))
    together = engine.transcribe(speech[:2], [None, "en"])
    assert [one.logprob for one in together] == [None, None]
    assert all(one.text.strip() for one in together)
    assert engine.transcribe(speech[1:2], [None]) == together[1:]
