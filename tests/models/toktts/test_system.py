"""The toktts system: what it learned it says, rows stand alone, and what it cannot do it refuses in one line."""

import pytest
import torch
from torch.nn import functional as F

from models.codec_sources import load_codec
from models.codecs.interface import Codes, Wave
from models.families import system_kind
from models.generators import load_generator, save_generator
from models.prompt import Prompt
from models.system import SpeakRequest
from models.system_files import load_system, require, save_system
from models.text.front_ends import text_front_end
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS
from models.toktts.options import TokTTSOptions
from models.toktts.system import TokTTSSystem
from trainers.objectives.toktts import NOT_LEARNED, taught

CODEC = "mill-16khz@1"
LEVELS = 2
SIZES = {"encoder_size": 16, "encoder_layers": 1, "encoder_heads": 2}
SIZES |= {"decoder_size": 24, "decoder_layers": 2, "decoder_heads": 2}
SIZES |= {"text_positions": 24, "token_positions": 64}
KINDS = {
    "interleave": {},
    "published": {"code_ids": "shared", "encoder_attention": "causal"},
    "delay": {"pattern": "delay"},
}
GREEDY = {"do_sample": False}


@pytest.fixture(scope="module")
def codec():
    return load_codec(CODEC)


def network(codec, seed=0, **changes):
    torch.manual_seed(seed)
    config = TokTTSConfig(384, LEVELS, codec.codebook_size, **(SIZES | changes))
    return TokTTS(config).eval()


def restless(codec, **changes):
    """A network whose tokens depend on everything that it reads."""
    module = network(codec, **changes)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def system_of(module, codec, **options):
    return TokTTSSystem(codec, text_front_end({"kind": "byt5"}), module, TokTTSOptions(**options))


def speak(system, texts, seeds=None, **options):
    task = system.speak(options)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or range(len(texts))]
    return task.run([task.prepare(SpeakRequest(text)) for text in texts], generators)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_learned_by_heart_is_said_code_for_code(kind, codec):
    module = network(codec, **KINDS[kind]).train()
    front_end = text_front_end({"kind": "byt5"})
    texts = ["hello", "bye now"]
    codes = [torch.randint(codec.codebook_size, (LEVELS, frames)) for frames in (6, 9)]
    batch = torch.zeros(2, LEVELS, 9, dtype=torch.int64)
    for row, codes_QT in zip(batch, codes, strict=True):
        row[:, : codes_QT.shape[1]] = codes_QT
    given = taught(module.pattern, batch, torch.tensor([6, 9]))
    ids = [front_end.encode(text) for text in texts]
    text = torch.tensor([row + [0] * (len(ids[1]) - len(row)) for row in ids])
    mask = torch.arange(text.shape[1]) < torch.tensor([[len(row)] for row in ids])
    module.eval()  # no dropout: by heart is what is wanted
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(80):
        logits = module(text, mask, given.tokens_BSK)
        loss = F.cross_entropy(logits.flatten(0, 2), given.targets_BSK.flatten(), ignore_index=NOT_LEARNED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spoken = speak(system_of(module, codec), texts, **GREEDY)
    for speech, codes_QT in zip(spoken, codes, strict=True):
        wave = codec.decode(Codes(codes_QT[None], torch.tensor([codes_QT.shape[1]])))
        assert speech.finish_reason == "stop"
        torch.testing.assert_close(speech.wave.wave_BT, wave.wave_BT, rtol=0, atol=1e-5)
    if kind != "delay":
        (beams, _) = speak(system_of(module, codec), texts, num_beams=3, **GREEDY)
        assert torch.equal(beams.wave.lengths_B, spoken[0].wave.lengths_B)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, GREEDY, {"top_p": 0.9, "guidance": 2.0}])
def test_rows_do_not_depend_on_their_batch(kind, options, codec):
    system = system_of(restless(codec, **KINDS[kind]), codec, max_s=0.3)
    texts = ["one", "two and more", "three"]
    together = speak(system, texts, **options)
    for row, text in enumerate(texts):
        (alone,) = speak(system, [text], [row], **options)
        assert alone.finish_reason == together[row].finish_reason
        torch.testing.assert_close(alone.wave.wave_BT, together[row].wave.wave_BT, rtol=0, atol=1e-4)


def test_what_is_given_matters(codec):
    system = system_of(restless(codec), codec, max_s=0.3)

    def say(text="one", seed=0, **options):
        (speech,) = speak(system, [text], [seed], **options)
        return speech.wave.wave_BT.tolist()

    plain = say()
    assert say() == plain
    others = [
        say(seed=1),
        say("two"),
        say(temperature=3.0),
        say(top_k=2),
        say(top_p=0.1),
        say(num_beams=2),
        say(**GREEDY),
    ]
    assert plain not in others


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_bounded_and_reported(kind, codec):
    frame_s, hop = codec.hop_length / codec.sample_rate, codec.hop_length
    system = system_of(stuck_network(codec, **KINDS[kind]), codec, **GREEDY)
    a_frame = system.toktts.pattern.steps(1)
    for options, frames in (
        ({"max_s": 10.5 * frame_s}, 10),
        ({"max_length": 1 + 5 * a_frame}, 5),
        ({"max_s": 60.0}, system.toktts.config.most_frames),
    ):
        (speech,) = speak(system, ["one"], loop_s=0.0, **options)
        assert int(speech.wave.lengths_B) == speech.wave.wave_BT.shape[1] == frames * hop
        assert (speech.finish_reason, speech.wave.sample_rate) == ("length", codec.sample_rate)
    (cut,) = speak(system, ["one"], loop_s=0.2, loop_period_s=0.1)
    assert cut.finish_reason == "loop"
    assert int(cut.wave.lengths_B) < 10 * hop


def stuck_network(codec, **changes):
    """All logits are equal, so the first code that the pattern allows comes again and again."""
    module = network(codec, **changes)
    with torch.no_grad():
        module.token_tables_KVD.zero_()
    return module


def test_a_system_directory_brings_it_back(codec, tmp_path):
    save_generator(restless(codec), "toktts", tmp_path / "toktts")
    parts = {"toktts": tmp_path / "toktts"}
    path = tmp_path / "system"
    save_system(
        path,
        "toktts",
        codec=CODEC,
        generators=parts,
        text={"kind": "byt5"},
        options={"max_s": 0.2, "top_k": 5},
    )
    require(path, "speak")
    with pytest.raises(ValueError, match="a toktts system cannot convert; it can speak"):
        require(path, "convert")
    loaded, module = load_system(path), load_generator(tmp_path / "toktts")[1]
    (first,) = speak(loaded, ["one"])
    (second,) = speak(system_of(module, codec, max_s=0.2, top_k=5), ["one"])
    assert torch.equal(first.wave.wave_BT, second.wave.wave_BT)
    assert loaded.speak({}).options["top_k"] == 5
    assert system_kind("toktts").roles == {"toktts": ("toktts",)}


def test_requests_that_it_cannot_speak_are_refused(codec):
    task = system_of(restless(codec), codec).speak({})
    prompt = Prompt(Wave(torch.ones(1, 8000), torch.tensor([8000]), 16000), "some words")
    for request, reason in (
        (
            SpeakRequest("one", prompt=prompt),
            "toktts has one voice, that of its data; it takes no voice prompt",
        ),
        (
            SpeakRequest("one", duration_s=2.0),
            "duration_s is 2; toktts ends a sentence itself, max_s bounds it",
        ),
        (SpeakRequest(" "), "text is empty; there is nothing to speak"),
        (SpeakRequest("x" * 30), "text 'x+' has 31 tokens; the most is 24"),
        (SpeakRequest("one", phones=("w",)), "the text front end byt5 reads no phones"),
    ):
        with pytest.raises(ValueError, match=reason):
            task.prepare(request)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_beams": 0}, "num_beams is 0; it must be a positive integer"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"max_s": -1.0}, "max_s is -1.0; it must be above 0"),
        ({"loop_s": -1.0}, "loop_s is -1.0; it must not be negative"),
        ({"guidance": -1.0}, "guidance is -1.0; it must not be negative"),
        ({"top_p": 2.0}, "top_p is 2.0; it must be between 0 and 1"),
        ({"ids": "all"}, "ids is 'all'; it must be one of of_the_pattern, any"),
        ({"beams": 2}, "unknown key 'beams' in the options of toktts; did you mean 'num_beams'"),
    ],
)
def test_wrong_options_are_refused(options, reason, codec):
    system = system_of(restless(codec), codec)
    with pytest.raises(ValueError, match=reason):
        system.speak(options)


def test_parts_that_do_not_fit_are_refused(codec):
    delayed = system_of(restless(codec, pattern="delay"), codec)
    with pytest.raises(ValueError, match="num_beams is 2; the delay pattern has 2 streams of tokens"):
        delayed.speak({"num_beams": 2})
    wrong = (
        (TokTTSConfig(384, 2, 7, **SIZES), "toktts has codebooks of 7; the codec's have 1024"),
        (TokTTSConfig(384, 9, 1024, **SIZES), "toktts has 9 codebooks; the codec has 8"),
        (TokTTSConfig(200, 2, 1024, **SIZES), "a text table of 200 rows; the text front end needs 384"),
    )
    for config, reason in wrong:
        with pytest.raises(ValueError, match=reason):
            system_of(TokTTS(config), codec)
