"""Adapters of every network: they begin as nothing, learn alone, merge, and share their base's weights."""

from __future__ import annotations

import copy
import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.adapters import (
    AdapterConfig,
    Base,
    StoredAdapter,
    adapter_state,
    attach,
    load_adapter,
    merged,
    read_adapter,
    save_adapter,
)
from models.families import FAMILIES, trainable
from models.generators import load_generator, save_generator
from models.manifest import Padding
from models.shared_weights import load_shared

NAMES = [one.name for family in FAMILIES for one in family.trainables if one.example is not None]
ATTENDING = [name for name in NAMES if name != "repcodec"]
SMALL = AdapterConfig(rank=2, alpha=8.0)


def network(name: str) -> nn.Module:
    torch.manual_seed(3)
    kind = trainable(name)
    assert kind.example is not None
    module = kind.module(kind.example().config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def output(module: nn.Module, name: str) -> Tensor:
    kind = trainable(name)
    assert kind.example is not None
    example = kind.example()
    found: Tensor = module(**example.batch(example.rows, Padding()))
    return found


def trained(name: str, config: AdapterConfig = SMALL) -> nn.Module:
    """A network whose adapter says something."""
    module = network(name)
    attach(module, config)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def every_layer(module: nn.Module) -> tuple[str, ...]:
    """Linear layers that fit a rank of 2."""
    linear = {name: one for name, one in module.named_modules() if isinstance(one, nn.Linear)}
    return tuple(name for name, one in linear.items() if min(one.in_features, one.out_features) >= 2)


@pytest.mark.parametrize("name", ATTENDING)
def test_a_new_adapter_changes_nothing(name: str) -> None:
    module = network(name)
    before = output(module, name)
    attach(module, SMALL)
    assert torch.equal(output(module, name), before)


@pytest.mark.parametrize("name", NAMES)
def test_merged_equals_unmerged_in_every_layer(name: str) -> None:
    plain = network(name)
    module = trained(name, AdapterConfig(2, 8.0, 0.0, every_layer(plain)))
    found, expected = output(merged(module), name), output(module, name)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.detach().abs().max()))
    assert not torch.allclose(expected, output(plain, name), rtol=1e-2)
    assert merged(module).state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", ATTENDING)
def test_the_adapter_alone_has_gradients(name: str) -> None:
    module = trained(name, AdapterConfig(2, 8.0, 0.0, every_layer(network(name))))
    before = {key: value.clone() for key, value in module.state_dict().items() if "lora_" not in key}
    output(module, name).square().sum().backward()
    for key, parameter in module.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == ("lora_" in key), key
    after = module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_dropout_is_the_training_s() -> None:
    module = trained("maskgct_s2a", AdapterConfig(2, 8.0, 0.5))
    assert torch.equal(output(module, "maskgct_s2a"), output(module, "maskgct_s2a"))
    module.train()
    assert not torch.equal(output(module, "maskgct_s2a"), output(module, "maskgct_s2a"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha is 0.0; it must be above 0"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"targets": ()}, "targets is empty"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AdapterConfig(**settings)


def test_targets_and_ranks_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"target 'query' is no linear layer of MaskGCTS2A; it has .*attention.qkv"
    ):
        attach(network("maskgct_s2a"), AdapterConfig(2, targets=("qkv", "query")))
    with pytest.raises(
        ValueError, match=r"rank is 17: must be at most 16, for .*\.attention\.qkv maps 16 channels to 48"
    ):
        attach(network("maskgct_s2a"), AdapterConfig(17))


def test_a_target_is_the_last_parts_of_a_name() -> None:
    module = network("maskgct_s2a")
    attach(module, AdapterConfig(2, targets=("blocks.1.attention.out",)))
    assert {key.rpartition(".lora_")[0] for key in adapter_state(module)} == {
        "trunk.transformer.blocks.1.attention.out"
    }


def stored(directory: Path, name: str = "maskgct_s2a") -> nn.Module:
    """An adapter directory beside its base, which lies in it."""
    module = trained(name)
    save_adapter(module, StoredAdapter(name, SMALL, Base("models:/base/1", "0" * 64)), directory)
    save_generator(network(name), name, directory / "base")
    return module


def test_a_directory_brings_it_back(tmp_path: Path) -> None:
    module = stored(tmp_path / "adapter")
    description = read_adapter(tmp_path / "adapter")
    assert description == StoredAdapter("maskgct_s2a", SMALL, Base("models:/base/1", "0" * 64))
    assert all("lora_" in key for key in load_file(tmp_path / "adapter" / "model.safetensors"))
    assert read_adapter(tmp_path / "adapter" / "base") is None
    _, loaded = load_shared(tmp_path / "adapter")
    assert torch.equal(output(loaded, "maskgct_s2a"), output(module, "maskgct_s2a"))
    with pytest.raises(ValueError, match="is an adapter, no generator by itself"):
        load_generator(tmp_path / "adapter")


def pointers(module: nn.Module) -> dict[str, int]:
    return {
        name.replace(".base_layer", ""): one.data_ptr()
        for name, one in module.named_parameters()
        if "lora_" not in name
    }


def test_a_base_and_its_adapters_share_weights(tmp_path: Path) -> None:
    stored(tmp_path / "one")
    stored(tmp_path / "two")
    save_generator(network("maskgct_s2a"), "maskgct_s2a", tmp_path / "plain")
    plain, one, two = (load_shared(tmp_path / name)[1] for name in ("plain", "one", "two"))
    assert pointers(plain) == pointers(one) == pointers(two)
    # What one of them has on top is its own.
    assert torch.equal(output(plain, "maskgct_s2a"), output(network("maskgct_s2a"), "maskgct_s2a"))
    mine, yours = adapter_state(one), adapter_state(two)
    assert all(mine[key].data_ptr() != yours[key].data_ptr() for key in mine)


def test_weights_that_nobody_uses_are_given_back(tmp_path: Path) -> None:
    from models import shared_weights

    save_generator(network("soundstorm"), "soundstorm", tmp_path / "plain")
    before = len(shared_weights._LOADED)
    _, module = load_shared(tmp_path / "plain")
    assert len(shared_weights._LOADED) == before + 1
    del module
    gc.collect()
    assert len(shared_weights._LOADED) == before


def test_other_weights_are_not_shared(tmp_path: Path) -> None:
    first = network("maskgct_s2a")
    second = copy.deepcopy(first)
    with torch.no_grad():
        next(second.parameters()).add_(1)
    for name, module in (("first", first), ("second", second)):
        save_generator(module, "maskgct_s2a", tmp_path / name)
    found = [load_shared(tmp_path / name)[1] for name in ("first", "second")]
    assert not torch.equal(next(found[0].parameters()), next(found[1].parameters()))


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    stored(tmp_path / "adapter")
    description = read_adapter(tmp_path / "adapter")
    assert description is not None
    with pytest.raises(ValueError, match=r"lora_A.weight has shape .*; its base needs"):
        load_adapter(tmp_path / "adapter", description, network("soundstorm"))
    config = tmp_path / "adapter" / "config.json"
    config.write_text(json.dumps({"family": "maskgct_s2a", "adapter": {"rang": 1}, "base": {}}))
    with pytest.raises(ValueError, match=r"unknown key 'rang' in 'adapter' of .*; did you mean 'rank'"):
        read_adapter(tmp_path / "adapter")
    config.write_text(json.dumps({"family": "maskgct_s2a", "adapter": 3, "base": {}}))
    with pytest.raises(ValueError, match="must have 'family', a name, and the objects 'adapter' and 'base'"):
        read_adapter(tmp_path / "adapter")
