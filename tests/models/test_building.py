"""Sizes in a configuration that the weights cannot have are refused before memory is taken."""

import json

import pytest
import torch
from torch import nn

from models.building import TooLargeError, as_stored, built, built_within
from models.codec_sources import load_codec_directory
from models.codecs.mill.network import MillConfig
from models.families import FAMILIES, codec_examples
from models.generators import load_generator, save_generator
from models.identity import TokenIdentity
from models.maskgct.options import SemanticS2AOptions, TextOptions
from models.sampling.flow import FlowSteps
from models.soundstorm.sampling import SoundStormOptions

TRAINABLES = {one.name: one for family in FAMILIES for one in family.trainables if one.example is not None}
SIZES = ("n_layers", "encoder_layers", "hidden_size", "feed_forward_size", "codebook_size")


def test_layers_that_the_weights_do_not_have_are_refused_unbuilt():
    made = []

    def many():
        for _ in range(10**9):
            made.append(nn.Linear(1, 1, bias=False))  # noqa: PERF401 - counts as it goes
        return nn.ModuleList(made)

    with pytest.raises(ValueError, match="far larger than its weights"):
        built(many, [torch.zeros(1, 1)])
    assert len(made) < 10_000


@pytest.mark.parametrize("size", [10**9, 10**18])
def test_a_size_that_takes_all_memory_is_refused(size):
    with pytest.raises(ValueError, match=r"far larger than|overflow|invalid|out of memory|allocate"):
        built(lambda: nn.Linear(size, size), [torch.zeros(4)])


def test_building_twice_draws_once():
    torch.manual_seed(0)
    twice = built_within(lambda: nn.Linear(4, 4), 20)
    torch.manual_seed(0)
    assert torch.equal(twice.weight, nn.Linear(4, 4).weight)


@pytest.mark.parametrize("name", TRAINABLES)
def test_every_generator_refuses_absurd_sizes(name, tmp_path):
    one = TRAINABLES[name]
    config = one.example().config
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in one.module(config).parameters())
    save_generator(one.module(config), name, tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    sizes = [size for size in SIZES if size in stored["config"]]
    assert sizes
    for size in sizes:
        path.write_text(json.dumps(stored | {"config": stored["config"] | {size: 960_000_000}}))
        with pytest.raises(ValueError, match=r"config\.json"):
            load_generator(tmp_path)


@pytest.mark.parametrize(
    "name", sorted(set(codec_examples()) & {"mill", "dac", "speechtokenizer", "encodec_24khz"})
)
def test_codecs_refuse_absurd_sizes(name, tiny_codec, tmp_path):
    made = tiny_codec(name)
    stored = json.loads((made / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(made / "model.safetensors")
    values = stored.get("config", stored)
    sizes = [size for size in ("n_codebooks", "codebook_size", "hidden_size") if size in values]
    assert sizes
    for size in sizes:
        changed = values | {size: 960_000_000}
        (tmp_path / "config.json").write_text(
            json.dumps(stored | {"config": changed} if "config" in stored else changed)
        )
        with pytest.raises(ValueError):  # noqa: PT011 - some are refused by transformers
            load_codec_directory(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"fft_length": 10**9},
        {"n_mels": 10**9},
        {"search_width": 10**9},
        {"griffin_lim_iterations": 10**9},
        {"encoder_dilations": (1, 10**9)},
        {"hop_length": 4_000_000},
    ],
)
def test_sizes_that_no_weight_has_are_bounded(values):
    name = next(iter(values))
    with pytest.raises(ValueError, match=f"{name} is .*must be at most"):
        MillConfig(**values)


@pytest.mark.parametrize("name", ["sample_rate", "hop_length", "n_codebooks"])
def test_an_identity_is_bounded(name):
    values = {"sample_rate": 16_000, "hop_length": 320, "n_codebooks": 8, "codebook_size": 1024}
    with pytest.raises(ValueError, match=f"{name} is 1000000001, must be at most"):
        TokenIdentity("x", "1", "", **values | {name: 10**9 + 1})


@pytest.mark.parametrize(
    "make",
    [
        lambda: TextOptions(t2s_steps=10**9),
        lambda: SoundStormOptions(steps=10**9),
        lambda: FlowSteps(steps=10**9),
        lambda: SemanticS2AOptions(s2a_steps=(10**9,)),
    ],
)
def test_steps_whose_plan_takes_all_memory_are_refused(make):
    with pytest.raises(ValueError, match="steps is 1000000000; it must be at most 10000"):
        make()


def test_a_directory_bounds_what_is_built_of_it(tmp_path):
    with as_stored(str(tmp_path)):
        nn.Embedding(1 << 20, 100)  # nothing is known
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    with pytest.raises(TooLargeError), as_stored(str(tmp_path)), torch.device("meta"):
        nn.Embedding(1 << 20, 100)
