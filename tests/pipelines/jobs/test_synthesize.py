"""`synthesize`: a tiny system with random weights through the command line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.__main__ import main
from pipelines.execution.sentences import read_sentences


def speak(system: Path, *words: str) -> int:
    return main(["synthesize", "--model", str(system), *words])


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_one_sentence_has_the_length_of_the_rule(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.wav"
    assert speak(system, "--text", "one two", "--output", str(output)) == 0
    info = soundfile.info(output)
    # Seven bytes and two special tokens of four 20 ms frames each.
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 9 * 4 * 320)
    assert last_json(capsys)["audio_s"] == pytest.approx(0.72)


def test_explicit_duration_and_seed(system: Path, tmp_path: Path) -> None:
    waves = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / name
        folder.mkdir()
        words = [
            "--text",
            "one",
            "--output",
            str(folder / "out.wav"),
            "--duration",
            "0.5",
            "--set",
            f"seed={seed}",
        ]
        assert speak(system, *words) == 0
        waves.append(soundfile.read(folder / "out.wav")[0])
    assert len(waves[0]) == 8000
    assert np.array_equal(waves[0], waves[1])
    assert not np.array_equal(waves[0], waves[2])


def test_prompted_speech_takes_its_speed_from_the_prompt(
    system: Path, speech_folder: Path, tmp_path: Path
) -> None:
    prompt = speech_folder / "utterance1.wav"
    output = tmp_path / "out.wav"
    words = [
        "--text",
        "nine nine",
        "--prompt",
        str(prompt),
        "--prompt-text",
        "four five",
        "--output",
        str(output),
    ]
    assert speak(system, *words) == 0
    # As many bytes as the prompt has, so as many frames.
    assert soundfile.info(output).duration == pytest.approx(soundfile.info(prompt).duration, abs=0.021)


def test_a_file_of_sentences_resumes_and_rejects_with_a_reason(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": "good", "text": "seven"},
        {"id": "empty", "text": " "},
        {"id": "lost", "text": "one", "prompt": str(tmp_path / "no.wav"), "prompt_text": "two"},
        {"text": "three four"},
    ]
    listing = tmp_path / "lines.jsonl"
    listing.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    folder = tmp_path / "spoken"
    assert speak(system, "--input", str(listing), "--output", str(folder)) == 0
    result = last_json(capsys)
    assert (result["sentences"], result["new_sentences"], result["rejected"]) == (4, 2, 2)
    manifest = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    reasons = {row["id"]: row["reason"] for row in manifest}
    assert reasons["good"] is None
    assert "text is empty" in reasons["empty"]
    assert "no.wav" in reasons["lost"]
    assert {path.name for path in folder.glob("*.wav")} == {"good.wav", "000004.wav"}

    before = (folder / "good.wav").read_bytes()
    (folder / "000004.wav").unlink()
    assert speak(system, "--input", str(listing), "--output", str(folder)) == 0
    assert last_json(capsys)["new_sentences"] == 1
    assert (folder / "good.wav").read_bytes() == before


def manifest_of(folder: Path) -> dict[str, dict[str, object]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line, parse_constant=lambda word: pytest.fail(word)) for line in lines if line]
    return {row["id"]: row for row in rows}


def test_what_changed_is_spoken_again(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, folder, fresh = tmp_path / "edit.txt", tmp_path / "out", tmp_path / "fresh"

    def again(text: str, *words: str) -> int:
        listing.write_text(text, encoding="utf-8")
        assert speak(system, "--input", str(listing), "--output", str(folder), *words) == 0
        made = last_json(capsys)["new_sentences"]
        assert isinstance(made, int)
        return made

    assert again("one two\nthree four\n") == 2
    assert again("one two\nthree four\n") == 0
    assert again("zero\none two\nthree four\n") == 3
    assert [row["text"] for row in manifest_of(folder).values()] == ["zero", "one two", "three four"]
    assert speak(system, "--input", str(listing), "--output", str(fresh)) == 0
    for name in ("000001", "000002", "000003"):
        assert (folder / f"{name}.wav").read_bytes() == (fresh / f"{name}.wav").read_bytes()
    capsys.readouterr()
    assert again("zero\none two\n") == 0, "000003 stays, with its line"
    assert manifest_of(folder)["000003"]["text"] == "three four"
    assert again("zero\none two\n", "--set", "seed=1") == 2
    assert again("zero\n\u2028one\x85 two\n", "--set", "seed=1") == 1


def test_an_odd_value_costs_its_line_alone(
    system: Path, speech_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {
        "neg": '"duration_s": -1', "zero": '"duration_s": 0', "nan": '"duration_s": NaN',
        "huge": '"duration_s": 1e9', "word": '"duration_s": "2"', "yes": '"duration_s": true',
        "number": '"prompt": 7', "phones": '"phones": [1]', "half": '"language": "\\ud800"',
        "pipe": '"prompt": "pipe", "prompt_text": "x"', "x" * 300: '"language": "en"',
    }  # fmt: skip
    lines = [f'{{"id": "{name}", "text": "one", {value}}}' for name, value in odd.items()]
    lines += ['{"id": "ok", "text": "one", "prompt": "voice.wav", "prompt_text": "four five"}']
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "voice.wav").write_bytes((speech_folder / "utterance1.wav").read_bytes())
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder = tmp_path / "out"
    assert speak(system, "--input", str(tmp_path / "rows.jsonl"), "--output", str(folder)) == 0
    result = last_json(capsys)
    assert (result["new_sentences"], result["rejected"]) == (1, len(odd))
    reasons = {name: row["reason"] for name, row in manifest_of(folder).items()}
    assert reasons.pop("ok") is None
    assert reasons["neg"] == "line 1: duration_s is -1: must be above 0 and at most 600 seconds"
    assert reasons["number"] == "line 7: prompt is 7: must be a text"
    assert "not a regular file" in str(reasons["pipe"])
    assert all(reasons.values())
    assert [path.name for path in folder.glob("*.wav")] == ["ok.wav"]


def test_no_input_is_overwritten(
    system: Path, speech_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, listing = tmp_path / "a.wav", tmp_path / "rows.jsonl"
    voice.write_bytes((speech_folder / "utterance1.wav").read_bytes())
    before = voice.read_bytes()
    line = {"id": "a", "text": "one", "prompt": "a.wav", "prompt_text": "x"}
    listing.write_text(json.dumps(line))
    words = ["--prompt", str(voice), "--prompt-text", "x", "--output", str(voice)]
    assert speak(system, "--text", "one", *words) == 2
    assert speak(system, "--input", str(listing), "--output", str(tmp_path)) == 2
    listing.rename(tmp_path / "manifest.jsonl")
    assert speak(system, "--input", str(tmp_path / "manifest.jsonl"), "--output", str(tmp_path)) == 2
    assert capsys.readouterr().err.count("would be overwritten") == 3
    (tmp_path / "manifest.jsonl").write_text('{"id": "b"}\n')
    listing.write_text('{"id": "a", "text": "one"}')
    assert speak(system, "--input", str(listing), "--output", str(tmp_path)) == 2
    assert "does not say what it is" in capsys.readouterr().err
    assert voice.read_bytes() == before


def test_batch_and_order_change_nothing(system: Path, tmp_path: Path) -> None:
    texts = ["one", "two three", "four five six", "seven"]
    for name, order, size in (("all", range(4), 16), ("single", reversed(range(4)), 1)):
        listing = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"id": f"row{index}", "text": texts[index]}) for index in order]
        listing.write_text("\n".join(lines), encoding="utf-8")
        words = ["--input", str(listing), "--output", str(tmp_path / name), "--set", f"batch_size={size}"]
        assert speak(system, *words) == 0
    for index in range(4):
        together = soundfile.read(tmp_path / "all" / f"row{index}.wav")[0]
        alone = soundfile.read(tmp_path / "single" / f"row{index}.wav")[0]
        assert together.shape == alone.shape
        assert np.abs(together - alone).max() < 1e-3


@pytest.mark.ray
def test_ray_workers_say_the_same(system: Path, tmp_path: Path, ray_session: None) -> None:
    listing = tmp_path / "lines.txt"
    listing.write_text("one\ntwo two\n", encoding="utf-8")
    for name, workers in (("here", 0), ("ray", 1)):
        words = ["--input", str(listing), "--output", str(tmp_path / name), "--set", f"workers={workers}"]
        assert speak(system, *words) == 0
    for file in ("000001.wav", "000002.wav"):
        here, there = (soundfile.read(tmp_path / name / file)[0] for name in ("here", "ray"))
        assert np.abs(here - there).max() < 1e-3


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--text", "one", "--output", "out.mp3"], "must end in .wav", 2),
        (["--text", "one", "--output", "o.wav", "--prompt", "x.wav"], "x.wav: no such file", 2),
        (
            ["--text", "one", "--output", "o.wav", "--ar-temp", "0.9"],
            "unknown key 'ar_temp' in the options of maskgct",
            1,
        ),
        (["--text", "one", "--output", "o.wav", "--duration", "-1"], "must be above 0", 2),
        (["--text", " ", "--output", "o.wav"], "text is empty", 1),
        (["--text", "one", "--output", "o.wav", "--set", "batch_sise=2"], "did you mean batch_size?", 2),
        (
            ["--text", "one", "--output", "o.wav", "--set", "sampling.temprature=2"],
            "unknown key 'temprature' in the options of maskgct; did you mean 'temperature'",
            1,
        ),
        (
            ["--text", "one", "--output", "o.wav", "--set", "sampling.temperature=-1"],
            "must not be negative",
            1,
        ),
        (["--input", "missing.txt", "--output", "o"], "missing.txt: No such file", 2),
        (["--text", "one " * 400, "--output", "o.wav"], "frames; allowed are 1 to 4096", 1),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    system: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert speak(system, *words) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_silent_and_long_prompts_are_refused(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 31 * 16_000), 16_000)
    for name, message in (("silent", "silent"), ("long", "prompt is 31.0 s long; the most is 30 s")):
        words = ["--prompt", str(tmp_path / f"{name}.wav"), "--prompt-text", "one"]
        assert speak(system, "--text", "two", "--output", str(tmp_path / "out.wav"), *words) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_a_file_in_another_encoding_is_named(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "lines.txt"
    listing.write_bytes("fünf\n".encode("latin-1"))
    assert speak(system, "--input", str(listing), "--output", str(tmp_path / "out")) == 2
    assert "lines.txt: not UTF-8 at byte 1" in capsys.readouterr().err


def test_vall_e_has_flags_of_its_own_and_needs_no_words_of_the_prompt(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from models.generators import save_generator
    from models.system_files import save_system
    from models.valle.ar import ValleAR
    from models.valle.config import ValleARConfig

    ar = ValleAR(ValleARConfig(258, hidden_size=16, n_layers=1, n_heads=2, prompt_levels=8))
    save_generator(ar, "valle_ar", tmp_path / "ar")
    valle = tmp_path / "valle"
    text = {"kind": "bytes"}
    save_system(valle, "valle", codec="mill-16khz", generators={"ar": tmp_path / "ar"}, text=text)
    voice, output = tmp_path / "voice.wav", tmp_path / "out.wav"
    soundfile.write(voice, np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    words = ["--text", "one", "--prompt", str(voice), "--output", str(output)]
    assert speak(valle, *words, "--ar-temp", "0.5", "--nar-temp", "0.1", "--max-ar-steps", "4") == 0
    assert 0 < soundfile.info(output).frames <= 4 * 320
    assert speak(system, *words) == 1
    assert "prompt text is empty; it must be what is said in the prompt" in capsys.readouterr().err


def test_speech_tasks_of_valle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a source, a part of it to edit, or requests in a file; a task that lacks one is refused in one line."""
    from models.generators import save_generator
    from models.system_files import save_system
    from models.valle.ar import ValleAR
    from models.valle.config import ValleARConfig

    sizes = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "n_task_tokens": 7}
    save_generator(ValleAR(ValleARConfig(258, **sizes)), "valle_ar", tmp_path / "ar")
    valle, text = tmp_path / "valle", {"kind": "bytes"}
    save_system(valle, "valle", codec="mill-16khz", generators={"ar": tmp_path / "ar"}, text=text)
    source, output = tmp_path / "source.wav", tmp_path / "out.wav"
    soundfile.write(source, np.random.default_rng(0).normal(0, 0.1, 4000), 16_000)
    given = ["--source", str(source), "--max-ar-steps", "20", "--output", str(output)]
    assert speak(valle, "--task", "ns", "--text", "", *given) == 0
    assert 0 < soundfile.info(output).frames <= 4160
    assert speak(valle, "--task", "cse", "--text", "one", "--edit", "0.05", "0.15", *given) == 0
    assert speak(valle, "--task", "cse", "--text", "one", *given) == 1
    assert "task cse needs a part to edit (edit_s)" in capsys.readouterr().err
    assert speak(valle, "--task", "ns", "--text", "", "--output", str(output)) == 1
    assert "task ns needs a source: the recording that it works on" in capsys.readouterr().err
    requests = [
        {"text": "one", "source": str(source), "edit_s": [0.0, 0.1]},
        {"text": "one", "source": str(source), "edit_s": [0.1]},
    ]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in requests))
    words = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "spoken")]
    assert speak(valle, "--task", "nse", "--max-ar-steps", "20", *words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["new_sentences"], told["rejected"]) == (1, 1)


@pytest.mark.parametrize("edit", ["x", [0.1], [0.2, 0.1], [-1, 1], [0.1, "x"], [0, True], [0, math.inf]])
def test_a_part_to_edit_that_is_none_rejects_its_line(tmp_path: Path, edit: object) -> None:
    rows = [{"text": "one", "source": "voice.wav", "edit_s": edit}, {"text": "two", "source": 5}]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first, second = read_sentences(tmp_path / "in.jsonl")
    assert first["problem"].startswith("line 1: edit_s is ")
    assert first["source"] == str(tmp_path / "voice.wav")
    assert second["problem"] == "line 2: source is 5: must be a text"


def test_a_source_is_refused_by_a_system_without_tasks(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "source.wav", tmp_path / "out.wav"
    soundfile.write(source, np.random.default_rng(0).normal(0, 0.1, 4000), 16_000)
    words = ["--text", "one", "--source", str(source), "--output", str(output)]
    assert speak(system, *words) == 1
    assert "source is given, but maskgct has no speech tasks; it speaks text" in capsys.readouterr().err
    assert speak(system, *words, "--edit", "nan", "1") == 2
    assert "--edit nan 1.0: must be two times in seconds, from and to" in capsys.readouterr().err
    assert not output.exists()


def test_a_pipe_of_requests_is_refused(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "in.jsonl")
    assert speak(system, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out")) == 2
    assert "in.jsonl: is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["!!!", "\x00\x1b", "\u200b", "🙂"])
def test_a_text_without_a_word_is_rejected_and_a_file_of_such_texts_fails(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    lines = [json.dumps({"id": name, "text": words}) for name, words in (("odd", text), ("ok", "one"))]
    for name, kept in (("both", lines), ("odd", lines[:1])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(kept), encoding="utf-8")
        words = ["--input", str(tmp_path / f"{name}.jsonl"), "--output", str(tmp_path / name)]
        assert speak(system, *words) == (0 if name == "both" else 1)
        said = capsys.readouterr().err
        counted = "1 of 2 sentences were rejected" if name == "both" else "none of 1 sentences could be made"
        assert counted in said
        assert "the first: odd: text is " in said
        assert "it has no words" in str(manifest_of(tmp_path / name)["odd"]["reason"])
    assert [path.name for path in (tmp_path / "both").glob("*.wav")] == ["ok.wav"]


def test_a_prompt_that_is_a_pipe_is_named(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    words = [
        "--prompt",
        str(tmp_path / "pipe.wav"),
        "--prompt-text",
        "one",
        "--output",
        str(tmp_path / "o.wav"),
    ]
    assert speak(system, "--text", "one", *words) == 2
    assert f"{tmp_path / 'pipe.wav'}: is not a regular file" in capsys.readouterr().err
