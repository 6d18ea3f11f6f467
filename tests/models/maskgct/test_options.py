"""Options of MaskGCT's stages: each part gets its own, and what cannot work is refused by name."""

import dataclasses

import pytest

from models.maskgct.options import MaskGCTOptions, SemanticS2AOptions, SemanticTextOptions, TextOptions
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice


@pytest.mark.parametrize("options", [MaskGCTOptions, SemanticS2AOptions])
def test_the_last_entry_of_the_steps_holds_for_all_that_follow(options):
    made = options(s2a_steps=(9, 4, 2))
    assert made.steps_of(5) == [9, 4, 2, 2, 2]
    assert made.steps_of(3) == [9, 4, 2]
    assert made.steps_of(2) == [9, 4]


def test_each_part_has_its_own_guidance_and_choice():
    made = MaskGCTOptions(temperature=0.7, filter_threshold=0.9, guidance=2.0, rescale=0.3, s2a_guidance=0.5)
    assert made.choice() == TokenChoice(0.7, 0.9)
    assert (made.guide(), made.guide_s2a()) == (Guidance(2.0, 0.3), Guidance(0.5, 0.3))
    assert dataclasses.replace(made, s2a_guidance=None).guide_s2a() == made.guide()
    assert dataclasses.replace(made, s2a_guidance=0.0).guide_s2a() == Guidance(0.0, 0.3)
    made = SemanticS2AOptions(
        temperature=0.7, filter_threshold=0.9, guidance=2.0, rescale=0.3, first_guidance=1.5
    )
    assert made.choice() == TokenChoice(0.7, 0.9)
    assert (made.guide(), made.guide_first()) == (Guidance(2.0, 0.3), Guidance(1.5, 0.3))


def test_the_first_stage_gets_what_it_shares():
    changed = {"frames_per_token": 3.0, "speed": 2.0, "t2s_steps": 7, "guidance": 0.5, "length_by": "tokens"}
    assert MaskGCTOptions(s2a_steps=(2,), **changed).text() == TextOptions(**changed)


@pytest.mark.parametrize("options", [TextOptions, SemanticTextOptions, MaskGCTOptions])
@pytest.mark.parametrize(
    "name", ["frames_per_token", "speed", "t2s_steps", "max_prompt_s", "max_text_tokens", "max_frames"]
)
def test_what_must_be_positive_is_refused_at_0(options, name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be above 0"):
        options(**{name: 0})


@pytest.mark.parametrize("value", [1, 0.5])
def test_small_positive_values_are_taken(value):
    made = TextOptions(frames_per_token=value, speed=value, max_prompt_s=value, frames_per_sentence=0.0)
    assert (made.frames_per_token, made.speed) == (value, value)
    assert TextOptions(no_prompt="pad_frame").no_prompt == "pad_frame"
    assert SemanticS2AOptions(first_steps=1, s2a_steps=(1,), voice_s=0.0).steps_of(2) == [1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextOptions(frames_per_sentence=-1.0), "frames_per_sentence is -1.0; it must not be negat"),
        (lambda: TextOptions(no_prompt="pad"), "no_prompt is 'pad'; it must be 'none' or 'pad_frame'"),
        (lambda: TextOptions(length_by="words"), "length_by is 'words'"),
        (lambda: TextOptions(temperature=-1.0), "temperature is -1.0"),
        (lambda: TextOptions(guidance=-1.0), "guidance scale is -1.0|scale is -1.0"),
        (lambda: MaskGCTOptions(s2a_steps=()), r"s2a_steps is \[\]; it needs at least one entry"),
        (lambda: MaskGCTOptions(s2a_steps=(2, 0)), r"s2a_steps is \[2, 0\]"),
        (lambda: MaskGCTOptions(s2a_guidance=-1.0), "scale is -1.0"),
        (lambda: SemanticS2AOptions(s2a_steps=(0,)), r"s2a_steps is \[0\]"),
        (lambda: SemanticS2AOptions(first_steps=0), "first_steps is 0"),
        (lambda: SemanticS2AOptions(voice_s=-0.5), "voice_s is -0.5; it must not be negative"),
        (lambda: SemanticS2AOptions(first_guidance=-1.0), "scale is -1.0"),
        (lambda: SemanticS2AOptions(temperature=-1.0), "temperature is -1.0"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
