"""Published weights stand where the network uses them (that the whole computes the same: tests/golden)."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from models.checkpoints import StateReader
from models.families import checkpoint_format

D, LAYERS, PHONES, S, V = 8, 2, 1024, 6, 5
SIZES = {"hidden_size": D, "num_layers": LAYERS, "num_heads": 2}
NORMS = {"to_weight.weight": (D, D), "to_weight.bias": (D,)}
MLP = {"0.weight": (4 * D, D), "0.bias": (4 * D,), "2.weight": (D, 4 * D), "2.bias": (D,)}


def named(prefix, shapes):
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def backbone(*mlps):
    shapes = named("diff_estimator.norm", NORMS)
    for name in ("diff_step_mlp", *mlps):
        shapes |= named(f"diff_estimator.{name}", MLP)
    for layer in range(LAYERS):
        prefix = f"diff_estimator.layers.{layer}"
        shapes |= named(f"{prefix}.self_attn", {f"{name}_proj.weight": (D, D) for name in "qkvo"})
        shapes |= named(f"{prefix}.mlp", {f"{name}_proj.weight": (4 * D, D) for name in ("gate", "up")})
        shapes[f"{prefix}.mlp.down_proj.weight"] = (D, 4 * D)
        shapes |= named(f"{prefix}.input_layernorm", NORMS)
        shapes |= named(f"{prefix}.post_attention_layernorm", NORMS)
    return shapes


def t2s_shapes(texts, codes, rows):
    shapes = {"phone_emb.weight": (texts, D), "cond_emb.weight": (rows, D), "mask_emb.weight": (1, D)}
    return shapes | {"to_logit.weight": (codes, D), "to_logit.bias": (codes,)} | backbone("cond_mlp")


def level_shapes(levels, rows):
    shapes = {"mask_emb.weight": (1, D), "layer_emb.weight": (levels, D)}
    for level in range(levels):
        shapes[f"token_emb.{level}.weight"] = (rows, D)
        shapes |= named(f"to_logits.{level}", {"weight": (V, D), "bias": (V,)})
    return shapes


def s2a_shapes(levels):
    shapes = level_shapes(levels, V) | backbone("cond_mlp") | {"cond_emb.weight": (S, D)}
    return shapes | {"diff_estimator.embed_tokens.weight": (0, D)}


AMPHION_S2A = SIZES | {"codebook_size": V, "cond_codebook_size": S}
RELEASES = {
    "choihkk-maskgct-t2s": (SIZES | {"vocab_size": 7, "codebook_size": V}, t2s_shapes(7, V, V + 1)),
    "amphion-maskgct-t2s": (SIZES | {"cond_codebook_size": S}, t2s_shapes(PHONES, S, S)),
    "choihkk-maskgct-s2a": (
        SIZES | {"vocab_size": 7, "codebook_size": V, "num_quantizer": 3},
        level_shapes(3, V + 1) | backbone("cond_mlp", "cond_mlp2") | {"phone_emb.weight": (7, D)},
    ),
    "amphion-maskgct-s2a": (
        AMPHION_S2A | {"num_quantizer": 3, "predict_layer_1": False},
        s2a_shapes(3),
    ),
}


def weights(shapes):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def converted(name, config, state):
    return checkpoint_format(name).convert(config, StateReader(name, state))


def mlp(state, name, x):
    hidden = F.silu(
        F.linear(x, state[f"diff_estimator.{name}.0.weight"], state[f"diff_estimator.{name}.0.bias"])
    )
    return F.linear(hidden, state[f"diff_estimator.{name}.2.weight"], state[f"diff_estimator.{name}.2.bias"])


@pytest.fixture(params=RELEASES)
def release(request):
    config, shapes = RELEASES[request.param]
    state = weights(shapes)
    return request.param, converted(request.param, config, state), state


def assert_norm(norm, state, prefix):
    assert torch.equal(norm.gain.weight, state[f"{prefix}.to_weight.weight"])
    assert torch.equal(norm.gain.bias, state[f"{prefix}.to_weight.bias"])


def test_every_layer_has_its_own_weights(release):
    name, module, state = release
    assert not module.training
    transformer = module.transformer if name == "amphion-maskgct-s2a" else module.trunk.transformer
    assert (len(transformer.blocks), transformer.head_dim) == (LAYERS, D // 2)
    assert_norm(transformer.norm, state, "diff_estimator.norm")
    x = torch.randn(3, D)
    torch.testing.assert_close(transformer.time.mlp(x), mlp(state, "diff_step_mlp", x))
    for layer, block in enumerate(transformer.blocks):
        prefix = f"diff_estimator.layers.{layer}"
        assert_norm(block.attention_norm, state, f"{prefix}.input_layernorm")
        assert_norm(block.feed_forward_norm, state, f"{prefix}.post_attention_layernorm")
        for part, projection in zip("qkv", block.attention.qkv.weight.split(D), strict=True):
            assert torch.equal(projection, state[f"{prefix}.self_attn.{part}_proj.weight"])
        assert torch.equal(block.attention.out.weight, state[f"{prefix}.self_attn.o_proj.weight"])
        gate, up, down = (state[f"{prefix}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        expected = F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
        torch.testing.assert_close(block.feed_forward(x), expected)


def test_text_passes_the_network_of_text(release):
    name, module, state = release
    if name == "amphion-maskgct-s2a":
        pytest.skip("it reads no text")
    text_BL = torch.tensor([[0, 6, 3]])
    expected = mlp(
        state, "cond_mlp2" if name.endswith("s2a") else "cond_mlp", state["phone_emb.weight"][text_BL]
    )
    torch.testing.assert_close(module.trunk.embed_text(text_BL), expected)


@pytest.mark.parametrize("name", [name for name in RELEASES if name.endswith("t2s")])
def test_codes_of_one_level_have_their_rows_and_logits(name):
    config, shapes = RELEASES[name]
    state = weights(shapes)
    module = converted(name, config, state)
    n_rows = len(state["cond_emb.weight"])
    codes_BT = torch.arange(n_rows)[None]
    shown_BT = torch.zeros(1, n_rows, dtype=torch.bool)
    assert torch.equal(module.embed_codes(codes_BT, shown_BT)[0], state["cond_emb.weight"])
    hidden_BT = ~shown_BT
    assert torch.equal(module.embed_codes(codes_BT, hidden_BT)[0, 1:2], state["mask_emb.weight"])
    x = torch.randn(2, D)
    torch.testing.assert_close(module.head(x), F.linear(x, state["to_logit.weight"], state["to_logit.bias"]))


@pytest.mark.parametrize("name", [name for name in RELEASES if name.endswith("s2a")])
def test_every_level_has_its_rows_and_logits(name):
    config, shapes = RELEASES[name]
    state = weights(shapes)
    module = converted(name, config, state)
    first = 0 if name.startswith("choi") else 1
    assert (module.n_levels, module.first_level) == (3, first)
    n_rows = len(state["token_emb.0.weight"])
    codes_BT, shown_BT = torch.arange(n_rows)[None], torch.zeros(1, n_rows, dtype=torch.bool)
    x = torch.randn(1, 2, D)
    for level in range(3):
        found = module.embed_level(codes_BT, shown_BT, level)[0]
        assert torch.equal(found, state[f"token_emb.{level}.weight"])
        assert torch.equal(module.embed_level(codes_BT, ~shown_BT, level)[0, :1], state["mask_emb.weight"])
    for level in range(first, 3):
        expected = F.linear(x, state[f"to_logits.{level}.weight"], state[f"to_logits.{level}.bias"])
        torch.testing.assert_close(module.logits(x, level), expected)


def test_the_level_is_told_by_its_vector():
    levels_B = torch.tensor([2, 0])
    for name in ("choihkk-maskgct-s2a", "amphion-maskgct-s2a"):
        config, shapes = RELEASES[name]
        state = weights(shapes)
        module = converted(name, config, state)
        vectors_B1D = state["layer_emb.weight"][levels_B][:, None]
        if name.startswith("choi"):
            torch.testing.assert_close(module.condition(levels_B), mlp(state, "cond_mlp", vectors_B1D))
        else:
            semantic_BT = torch.tensor([[5, 0, 1], [2, 2, 3]])
            expected = mlp(state, "cond_mlp", state["cond_emb.weight"][semantic_BT] + vectors_B1D)
            torch.testing.assert_close(module.condition(semantic_BT, levels_B), expected)


def test_the_network_of_one_level_makes_the_first(tmp_path):
    """Without config.json the weights say how many levels there are; sizes that a config.json names win."""
    for levels, first in ((1, 0), (3, 1)):
        path = tmp_path / f"{levels}.safetensors"
        state = weights(s2a_shapes(levels))
        save_file(state, path)
        config, found = checkpoint_format("amphion-maskgct-s2a").files(path)
        module = converted("amphion-maskgct-s2a", AMPHION_S2A | config, dict(found))
        assert (module.n_levels, module.first_level) == (levels, first)
        head = module.logits(torch.zeros(1, 1, D), first)[0, 0]
        assert torch.equal(head, state[f"to_logits.{first}.bias"])
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(weights(s2a_shapes(3)), folder / "model.safetensors")
    (folder / "config.json").write_text('{"predict_layer_1": true}')
    config, _ = checkpoint_format("amphion-maskgct-s2a").files(folder)
    assert config == {"num_quantizer": 3, "predict_layer_1": True}


def test_a_network_that_reads_no_phones_is_refused():
    config, shapes = RELEASES["amphion-maskgct-t2s"]
    message = "amphion-maskgct-t2s: use_phone_cond is False; it must be true"
    with pytest.raises(ValueError, match=message):
        converted("amphion-maskgct-t2s", config | {"use_phone_cond": False}, weights(shapes))


def test_settings_of_training_are_known_and_change_nothing():
    for name, more in {
        "choihkk-maskgct-t2s": {"cfg_scale": 0.5, "cond_dim": 3},
        "choihkk-maskgct-s2a": {"cfg_scale": 0.5, "mask_layer_schedule": "linear", "predict_layer_1": False},
        "amphion-maskgct-t2s": {"cfg_scale": 0.5, "cond_dim": 3, "use_phone_cond": True},
        "amphion-maskgct-s2a": {"cfg_scale": 0.5, "cond_dim": 3, "mask_layer_schedule": "cosine"},
    }.items():
        config, shapes = RELEASES[name]
        plain, given = (converted(name, one, weights(shapes)) for one in (config, config | more))
        for key, value in plain.state_dict().items():
            assert torch.equal(given.state_dict()[key], value)


@pytest.mark.parametrize("name", RELEASES)
def test_a_setting_that_a_release_does_not_have_is_refused_in_its_name(name):
    config, shapes = RELEASES[name]
    with pytest.raises(ValueError, match=f"^{name}: unknown configuration key 'layers'; known: "):
        converted(name, config | {"layers": 2}, weights(shapes))
