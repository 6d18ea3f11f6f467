"""The pipeline of toktts' users: directories of ours and published ones, parameters of `generate`, refusals."""

import numpy as np
import pytest
import torch

from models.generators import save_generator
from models.interop.toktts import text_to_speech_pipeline
from models.system_files import save_system
from models.toktts import checkpoint_hugging_face as hub
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS

CODEC = "mill-16khz@1"
SIZES = {"encoder_size": 16, "encoder_layers": 1, "encoder_heads": 2}
SIZES |= {"decoder_size": 16, "decoder_layers": 1, "decoder_heads": 2}
SIZES |= {"code_ids": "shared", "encoder_attention": "causal", "text_positions": 32, "token_positions": 64}
PARAMETERS = {"max_length": 31, "num_beams": 4, "do_sample": True}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """The same network as a system of ours and as published; it draws codes, and stops with them."""
    torch.manual_seed(1)
    module = TokTTS(TokTTSConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "published").mkdir()
    hub.save(module, folder / "published")
    save_generator(module, "toktts", folder / "toktts")
    save_system(
        folder / "system",
        "toktts",
        codec=CODEC,
        generators={"toktts": folder / "toktts"},
        text={"kind": "byt5"},
        options={"ids": "any"},
    )
    return folder


def test_a_sentence_is_a_dictionary_of_samples(directories):
    pipeline = text_to_speech_pipeline(directories / "system")
    audio = pipeline("I am happy", forward_params=PARAMETERS)
    assert set(audio) == {"audio", "sampling_rate"}
    assert audio["sampling_rate"] == 16000
    assert (audio["audio"].dtype, audio["audio"].ndim) == (np.float32, 1)
    assert 0 < len(audio["audio"]) <= 15 * 320


def test_ours_and_the_published_directory_say_the_same(directories):
    ours = text_to_speech_pipeline(directories / "system")
    theirs = text_to_speech_pipeline(directories / "published", codec=CODEC)
    for parameters in (PARAMETERS, {"max_length": 21, "do_sample": False}, {"max_length": 21, "top_k": 3}):
        first, second = (pipeline("one", forward_params=parameters) for pipeline in (ours, theirs))
        assert len(first["audio"]) > 0
        np.testing.assert_array_equal(first["audio"], second["audio"])


def test_a_list_gives_each_what_it_gets_alone(directories):
    pipeline, texts = text_to_speech_pipeline(directories / "system"), ["one", "two and more"]
    together = pipeline(texts, {"max_length": 21}, seed=3)
    for text, audio in zip(texts, together, strict=True):
        np.testing.assert_allclose(
            pipeline(text, {"max_length": 21}, seed=3)["audio"], audio["audio"], atol=1e-4
        )
    assert pipeline([]) == []
    other = pipeline(texts[0], {"max_length": 21}, seed=4)["audio"]
    assert not np.array_equal(other[:320], together[0]["audio"][:320])


def test_what_it_cannot_do_is_refused(directories):
    pipeline = text_to_speech_pipeline(directories / "system")
    with pytest.raises(
        ValueError, match="unknown key 'num_beam' in forward_params; did you mean 'num_beams'"
    ):
        pipeline("one", forward_params={"num_beam": 4})
    with pytest.raises(ValueError, match="text is empty"):
        pipeline(" ")
    with pytest.raises(ValueError, match="is no system directory, and as a published one it needs a codec"):
        text_to_speech_pipeline(directories / "published")
    with pytest.raises(ValueError, match="has its own codec; codec 'pcm-16khz' cannot take its place"):
        text_to_speech_pipeline(directories / "system", codec="pcm-16khz")
