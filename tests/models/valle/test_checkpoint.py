"""Networks are written as `fp32.pth` and read back; what does not fit is refused."""

import dataclasses

import pytest
import torch

from models.checkpoints import StateReader
from models.manifest import Padding
from models.valle import checkpoint_enhuiz as enhuiz
from models.valle import example
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.nar import ValleNAR

SYMBOLS = {"<s>": 1, "</s>": 2, "?": 7, "p": 7}
SIZES = {
    "text_vocab_size": 9,
    "codebook_size": 9,
    "prompt_levels": 3,
    "n_task_tokens": 2,
    "hidden_size": 64,
    "n_layers": 2,
    "n_heads": 1,
    "retention_norm": "published",
}
NETWORKS = {
    "first": (ValleAR(ValleARConfig(**SIZES)), enhuiz.read_ar, enhuiz.convert_ar),
    "first, retention": (ValleAR(ValleARConfig(**SIZES, trunk="retnet")), enhuiz.read_ar, enhuiz.convert_ar),
    "second": (ValleNAR(ValleNARConfig(**SIZES, n_codebooks=4)), enhuiz.read_nar, enhuiz.convert_nar),
    "second, of two levels": (
        ValleNAR(ValleNARConfig(**SIZES, n_codebooks=2)),
        enhuiz.read_nar,
        enhuiz.convert_nar,
    ),
    "second, retention": (
        ValleNAR(ValleNARConfig(**SIZES, n_codebooks=2, trunk="causal_retnet")),
        enhuiz.read_nar,
        enhuiz.convert_nar,
    ),
}


@pytest.fixture(params=sorted(NETWORKS))
def network(request):
    return NETWORKS[request.param]


def test_what_is_written_is_read_back(network, tmp_path):
    module, read, convert = network
    path = tmp_path / "fp32.pth"
    enhuiz.write(module, path, SYMBOLS, step=7)
    config, state = read(tmp_path)
    loaded = convert(config, StateReader("fp32.pth", state))
    assert loaded.config == module.config
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert enhuiz.read_symbols(path) == SYMBOLS
    stored = torch.load(path, weights_only=True)
    assert set(stored) == {"global_step", "micro_step", "module", "symmap"}
    assert stored["global_step"] == 7


def test_every_key_must_be_known(network, tmp_path):
    module, read, convert = network
    enhuiz.write(module, tmp_path / "fp32.pth", SYMBOLS)
    config, state = read(tmp_path / "fp32.pth")
    state = {**state, "more.weight": torch.zeros(1)}
    del state["sep"]
    with pytest.raises(ValueError, match=r"sep is missing; more\.weight is not consumed"):
        convert(config, StateReader("fp32.pth", state))


def test_a_retention_network_reads_as_the_published_one():
    """The second network is causal then: later frames have no influence on earlier ones."""
    config = dataclasses.replace(example.nar("causal_retnet").config, trunk="causal_retnet")
    module = ValleNAR(config).eval()
    inputs = example.nar().batch(example.nar().rows, Padding())
    before = module(**inputs)
    inputs["codes_BTQ"][:, 3:] = 8 - inputs["codes_BTQ"][:, 3:]
    torch.testing.assert_close(module(**inputs)[:, :3], before[:, :3], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(module(**inputs)[:, 3:], before[:, 3:])


class Dangerous:
    def __reduce__(self):
        return (print, ("code from a checkpoint",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"module": Dangerous()}, tmp_path / "fp32.pth")
    with pytest.raises(ValueError, match=r"fp32\.pth is not a file of tensors"):
        enhuiz.read_ar(tmp_path / "fp32.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([1], "holds list; it must be a dictionary with 'module'"),
        ({"state": {}}, "holds no state dict under 'module'"),
        ({"module": {"sep": torch.zeros(3)}}, "is no network of VALL-E: 'classifier.weight'"),
    ],
)
def test_other_files_are_refused(stored, message, tmp_path):
    torch.save(stored, tmp_path / "fp32.pth")
    with pytest.raises(ValueError, match=message):
        enhuiz.read_nar(tmp_path / "fp32.pth")
    with pytest.raises(ValueError, match=message):
        enhuiz.read_symbols(tmp_path / "fp32.pth")


def test_a_text_table_of_another_size_cannot_be_written(tmp_path):
    module = ValleAR(ValleARConfig(**(SIZES | {"text_vocab_size": 12})))
    with pytest.raises(ValueError, match="the text table has 12 rows and a level 9 codes"):
        enhuiz.write(module, tmp_path / "fp32.pth", SYMBOLS)


@pytest.mark.parametrize(
    ("convert", "config", "message"),
    [
        (enhuiz.convert_ar, {}, "the configuration lacks 'n_tokens'"),
        (enhuiz.convert_ar, {"n_tokens": 9, "depth": 2}, "unknown configuration key 'depth'"),
        (enhuiz.convert_ar, {"n_tokens": 9, "resp_levels": 2}, "resp_levels is 2; the first network has 1"),
        (
            enhuiz.convert_nar,
            {"n_tokens": 9, "arch": "lstm"},
            "arch is 'lstm'; it must be 'transformer' or 'retnet'",
        ),
    ],
)
def test_other_configurations_are_refused(convert, config, message):
    with pytest.raises(ValueError, match=message):
        convert(config, StateReader("valle", {}))
