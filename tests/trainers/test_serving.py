"""Tables in, WAV files out; the pyfunc's life inside MLflow is tested with `assemble`."""

from __future__ import annotations

import io

import pandas as pd
import pytest
import soundfile
import torch

from models.codecs.interface import Wave
from models.system import ConvertRequest, SpeakRequest, Speech, System
from trainers.serving import Served
from trainers.wav import wav_bytes


class Recorder(System):
    """Answers every request with 0.1 s of its own number and remembers what it was asked."""

    name = "recorder"
    capabilities = frozenset({"speak", "convert"})

    def __init__(self):
        self.asked, self.options = [], {}

    sample_rate = 8000

    def speak(self, options):
        return self

    convert = speak

    def prepare(self, request):
        self.asked.append(request)
        return len(self.asked)

    def run(self, prepared, generators):
        assert len(prepared) == len(generators)
        rows = [torch.full((1, 800), number / 10) for number in prepared]
        return [Speech(Wave(row, torch.tensor([800]), 8000), "length", 1) for row in rows]


def recording(value: float, sample_rate: int = 16000) -> bytes:
    return wav_bytes(torch.full((1600,), value), sample_rate)


def test_rows_are_spoken_with_their_own_prompts():
    system = Recorder()
    rows = pd.DataFrame(
        {"text": ["one", "two"], "prompt": [None, recording(0.5)], "prompt_text": [float("nan"), "three"]}
    )
    found = Served(system).predict(rows)
    assert list(found["sample_rate"]) == [8000, 8000]
    assert [soundfile.read(io.BytesIO(audio))[0][0] for audio in found["audio"]] == pytest.approx(
        [0.1, 0.2], abs=1e-3
    )
    first, second = system.asked
    assert (first.text, first.prompt, second.text) == ("one", None, "two")
    assert (second.prompt.text, second.prompt.wave.sample_rate) == ("three", 16000)
    assert float(second.prompt.wave.wave_BT.mean()) == pytest.approx(0.5, abs=1e-3)
    assert all(isinstance(one, SpeakRequest) for one in system.asked)


def test_rows_with_a_source_are_converted():
    system = Recorder()
    rows = pd.DataFrame({"source": [recording(0.1)], "reference": [recording(0.2, 8000)]})
    assert len(Served(system).predict(rows)) == 1
    (asked,) = system.asked
    assert isinstance(asked, ConvertRequest)
    assert (asked.source.sample_rate, asked.reference.wave.sample_rate) == (16000, 8000)


def test_a_source_longer_than_the_maximum_is_converted_in_windows():
    system = Recorder()
    system.options = {"max_source_s": 1}
    long, short = wav_bytes(torch.full((40000,), 0.1), 8000), recording(0.1)
    found = Served(system).predict(pd.DataFrame({"source": [long, short], "reference": [recording(0.2)] * 2}))
    assert [len(soundfile.read(io.BytesIO(audio))[0]) for audio in found["audio"]] == [40000, 800]
    lengths = [int(asked.source.lengths_B[0]) / asked.source.sample_rate for asked in system.asked]
    assert len(lengths) > 6
    assert max(lengths) <= 1


@pytest.mark.parametrize("bad", [None, float("nan"), " "])
def test_a_row_without_text_is_named(bad):
    with pytest.raises(ValueError, match="row 1 has no text"):
        Served(Recorder()).predict(pd.DataFrame({"text": ["one", bad]}))


def test_a_row_without_a_recording_is_named():
    with pytest.raises(ValueError, match="row 0 has no reference"):
        Served(Recorder()).predict(pd.DataFrame({"source": [recording(0.1)], "reference": [None]}))
