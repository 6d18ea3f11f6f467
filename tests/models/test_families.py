"""Generator directories: what is refused, and in which words."""

import json

import pytest

from models.generators import build_config, load_generator, save_generator
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig

CONFIG = {
    "text_vocab_size": 5,
    "codebook_size": 4,
    "hidden_size": 8,
    "n_layers": 1,
    "n_heads": 2,
    "feed_forward_size": 8,
}


@pytest.fixture
def directory(tmp_path):
    save_generator(MaskGCTT2S(MaskGCTT2SConfig(**CONFIG)), "maskgct_t2s", tmp_path)
    return tmp_path


def rewrite(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_unknown_key_names_the_nearest():
    with pytest.raises(
        ValueError, match="unknown key 'n_layer' in the configuration of maskgct_t2s; did you mean 'n_layers'"
    ):
        build_config("maskgct_t2s", CONFIG | {"n_layer": 3})


def test_missing_key_is_named():
    with pytest.raises(ValueError, match="the configuration of maskgct_s2a lacks 'text_vocab_size'"):
        build_config("maskgct_s2a", {})


def test_unknown_family_names_the_known(directory):
    rewrite(directory, family="vall")
    with pytest.raises(ValueError, match=r"unknown model family .vall.; known: codec, .*maskgct_t2s"):
        load_generator(directory)


def test_weights_of_other_sizes_are_refused(directory):
    rewrite(directory, config=CONFIG | {"text_vocab_size": 6})
    with pytest.raises(ValueError, match=r"does not fit its config\.json.*text_table\.weight"):
        load_generator(directory)


def test_missing_weights_are_refused(directory):
    (directory / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"does not fit its config\.json"):
        load_generator(directory)


def test_extra_keys_are_refused(directory):
    rewrite(directory, comment="mine")
    with pytest.raises(ValueError, match="it must have 'family' and 'config'"):
        load_generator(directory)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no generator directory: it has no config\.json"):
        load_generator(tmp_path)


def test_the_wrong_family_cannot_be_saved(tmp_path):
    module = MaskGCTT2S(MaskGCTT2SConfig(**CONFIG))
    with pytest.raises(ValueError, match="a MaskGCTT2S is no maskgct_s2a, which is a MaskGCTS2A"):
        save_generator(module, "maskgct_s2a", tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
