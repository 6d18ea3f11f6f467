"""The text stage alone: lengths, languages, prompts and refusals, with a front end that says what it is asked."""

import pytest
import torch

from models.codecs.interface import Wave
from models.identity import TokenIdentity
from models.maskgct.options import SemanticTextOptions, TextOptions
from models.maskgct.stages import Sentence, TextStage, semantic_text_stage, text_stage
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S, MaskGCTT2SConfig
from models.prompt import Prompt
from models.sampling.draws import RowDraws
from models.system import SpeakRequest

V, SIZES = 9, (16, 1, 2, 24)
CODEC = TokenIdentity("codec", "1", "", 1000, 20, 3, V)
"""50 frames a second."""


class FrontEnd:
    """A token a word of text, or a phone; German has one more for each word."""

    vocab_size = 12
    column = "text"

    def __init__(self):
        self.asked = []

    def encode(self, text, language=None, phones=None):
        self.asked.append((text, language, phones))
        return [3] * (len(phones or text.split()) * (2 if language == "de" else 1))


def stage(t2s=None, **options):
    t2s = t2s or MaskGCTT2S(MaskGCTT2SConfig(12, V, *SIZES))
    return TextStage(t2s, FrontEnd(), CODEC, TextOptions(**options))


def voice(seconds=2.0, text="two words", language=None, sample_rate=1000):
    samples = round(seconds * sample_rate)
    return Prompt(Wave(torch.full((1, samples), 0.1), torch.tensor([samples]), sample_rate), text, language)


def frames(request, **options):
    return stage(**options).prepare(request).frames


@pytest.mark.parametrize(
    ("duration_s", "expected"), [(0.02, 1), (1.0, 50), (0.999, 50), (0.989, 49), (1.2, 60)]
)
def test_a_given_duration_is_rounded_to_frames(duration_s, expected):
    assert frames(SpeakRequest("a", duration_s=duration_s), speed=3.0) == expected


def test_frames_are_counted_up_to_the_most_that_is_allowed():
    one, many = SpeakRequest("a", duration_s=0.02), SpeakRequest("a", duration_s=0.08)
    assert [frames(one, max_frames=4), frames(many, max_frames=4)] == [1, 4]
    with pytest.raises(ValueError, match="text 'a' asks for 4 frames; allowed are 1 to 3"):
        frames(many, max_frames=3)
    # Almost a frame more than the most is still the most: the rest of a frame is cut.
    assert frames(SpeakRequest("a b c"), frames_per_token=1.5, max_frames=4) == 4


def test_without_a_prompt_length_follows_tokens_words_and_speed():
    given = {"frames_per_token": 2.0, "frames_per_word": 3.0, "frames_per_sentence": 10.0}
    assert frames(SpeakRequest("a b c"), **given) == 3 * 2 + 3 * 3 + 10
    assert frames(SpeakRequest("a b c"), **given, speed=0.5) == 2 * (3 * 2 + 3 * 3 + 10)
    # Tokens are those of the language, or the phones that are given.
    assert frames(SpeakRequest("a b c", language="de"), **given) == 6 * 2 + 3 * 3 + 10
    assert frames(SpeakRequest("a b c", phones=("x",) * 7), **given) == 7 * 2 + 3 * 3 + 10


def test_a_whole_number_of_frames_is_not_cut_by_rounding():
    """0.29 * 100 is 28.999999999999996 to a computer."""
    assert frames(SpeakRequest("word " * 100), frames_per_token=0.29) == 29


def test_a_sentence_is_longer_than_its_prompt_and_shorter_by_its_speed():
    prompt = voice()
    assert frames(SpeakRequest("x" * 18, prompt=prompt)) == 200
    assert frames(SpeakRequest("x" * 27, prompt=prompt), speed=3.0) == 100


def test_words_and_the_sentence_count_on_both_sides_of_the_ratio():
    given = {"frames_per_token": 1.0, "frames_per_word": 4.0, "frames_per_sentence": 3.0}
    # Bytes: 9 + 8 + 3 for the prompt, 30 + 4 + 3 for the sentence.
    assert frames(SpeakRequest("x" * 30, prompt=voice()), **given) == 100 * 37 // 20


def test_a_prompt_ends_with_a_frame_that_may_not_be_full():
    """50 frames a second; a prompt keeps its own rate."""
    assert frames(SpeakRequest("two words", prompt=voice(1.999))) == 100
    assert frames(SpeakRequest("two words", prompt=voice(1.98))) == 99
    assert frames(SpeakRequest("two words", prompt=voice(2.0, sample_rate=400))) == 100


@pytest.mark.parametrize(
    ("language", "prompt_language", "ratio"),
    [(None, None, 2), ("de", None, 4), (None, "de", 2), ("en", "de", 1)],
)
def test_tokens_are_counted_in_the_language_of_each_text(language, prompt_language, ratio):
    """A sentence without a language has the prompt's."""
    request = SpeakRequest("four words of text", language, prompt=voice(language=prompt_language))
    assert frames(request, length_by="tokens") == 100 * ratio


def test_the_prompts_text_is_read_before_the_sentence():
    for language, expected in (("en", "en"), (None, "de")):
        one = stage()
        made = one.prepare(SpeakRequest("three more words", language, prompt=voice(language="de")))
        assert one._front_end.asked == [("two words three more words", expected, None)]
        assert len(made.tokens) == 5 * (2 if expected == "de" else 1)
    one = stage()
    assert one.prepare(SpeakRequest("a", "de", phones=("x", "y"))).tokens == (3,) * 4
    assert set(one._front_end.asked) == {("a", "de", ("x", "y"))}


def test_as_many_tokens_as_are_allowed_may_come():
    assert len(stage(max_text_tokens=3).prepare(SpeakRequest("a b c")).tokens) == 3
    message = r"^text 'a b c d' has 4 tokens with its prompt's; the most is 3 \(max_text_tokens\)$"
    with pytest.raises(ValueError, match=message):
        stage(max_text_tokens=3).prepare(SpeakRequest("a b c d"))


@pytest.mark.parametrize(("text", "named"), [("x" * 40, "x" * 40), ("x" * 41, "x" * 40 + "...")])
def test_a_long_text_is_named_by_its_beginning(text, named):
    with pytest.raises(ValueError, match=f"^text '{named}' asks for 0 frames; allowed are 1 to 4096$"):
        stage().prepare(SpeakRequest(text, duration_s=0.0))


def test_phones_of_the_sentence_alone_are_refused():
    message = "^phones are given with a voice prompt, whose phones are not known; give the text alone$"
    with pytest.raises(ValueError, match=message):
        stage().prepare(SpeakRequest("a", phones=("x",), prompt=voice()))


def test_networks_that_do_not_fit_are_refused():
    fitting = MaskGCTT2S(MaskGCTT2SConfig(12, V, *SIZES))
    text_stage(fitting, FrontEnd(), CODEC, {})
    for wrong, message in (
        ((12, V + 1), f"^t2s has codebooks of {V + 1}; the codec's have {V}$"),
        ((11, V), "^t2s has a text table of 11 rows; the text front end needs 12$"),
    ):
        with pytest.raises(ValueError, match=message):
            text_stage(MaskGCTT2S(MaskGCTT2SConfig(*wrong, *SIZES)), FrontEnd(), CODEC, {})


def test_each_kind_of_network_has_its_own_defaults():
    codes = MaskGCTT2S(MaskGCTT2SConfig(12, V, *SIZES))
    semantic = MaskGCTT2S(MaskGCTSemanticT2SConfig(12, V, *SIZES))
    given = {"speed": 2.0}
    for make, network, defaults, name in (
        (text_stage, codes, TextOptions, "maskgct_t2s"),
        (semantic_text_stage, semantic, SemanticTextOptions, "maskgct_semantic_t2s"),
    ):
        one = make(network, FrontEnd(), CODEC, given)
        assert one.options == vars(defaults(speed=2.0))
        assert one.writes is CODEC
        with pytest.raises(
            ValueError, match=f"unknown key 'sped' in the options of {name}; did you mean 'speed'"
        ):
            make(network, FrontEnd(), CODEC, {"sped": 2.0})
    message = "^no_prompt is 'pad_frame'; t2s has no id of padding, so it must be 'none'$"
    with pytest.raises(ValueError, match=message):
        semantic_text_stage(semantic, FrontEnd(), CODEC, {"no_prompt": "pad_frame"})


def test_sentences_and_prompts_of_different_lengths_are_padded():
    sentences, prompt_PQ = [Sentence((1, 2, 3), 7), Sentence((4,), 5)], torch.tensor([[1, 2], [3, 4]])
    for no_prompt, padding in (("none", []), ("pad_frame", [[V, V]])):
        found = stage(no_prompt=no_prompt).conditions(sentences, [None, prompt_PQ])
        assert found.text_BL.tolist() == [[1, 2, 3], [4, 0, 0]]
        assert found.text_mask_BL.tolist() == [[True, True, True], [True, False, False]]
        assert found.prompt_BPQ[0, : len(padding)].tolist() == padding
        assert found.prompt_BPQ[1].tolist() == prompt_PQ.tolist()
        assert found.prompt_mask_BP.sum(1).tolist() == [len(padding), 2]
        assert list(found.lengths) == [7, 5]
    # Without any prompt there are as many levels as the codec has.
    alone = stage(no_prompt="pad_frame").conditions(sentences, [None, None])
    assert alone.prompt_BPQ.tolist() == [[[V] * 3]] * 2


def test_rows_are_as_long_as_planned_and_the_prompt_is_heard():
    torch.manual_seed(0)
    network = MaskGCTT2S(MaskGCTT2SConfig(12, V, *SIZES))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    one = stage(network.train(), t2s_steps=3, guidance=0.0)
    assert not network.training
    planned = [Sentence((1, 2, 3), 7), Sentence((4,), 30)]

    def made(prompts):
        return one.run(planned, prompts, RowDraws([1, 2], "cpu"))

    found = made([torch.tensor([1, 2, 3]), None])
    assert found.evaluations == 3
    assert [len(row) for row in found.tokens] == [7, 30]
    other = made([torch.tensor([1, 2, 3]), torch.tensor([8, 8])])
    assert torch.equal(other.tokens[0], found.tokens[0])
    assert not torch.equal(other.tokens[1], found.tokens[1])
