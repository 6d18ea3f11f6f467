"""Directories of transformers are read and written; its own `generate` says the same as ours."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints import StateReader
from models.sampling.beam import Beams
from models.toktts import checkpoint_hugging_face as hub
from models.toktts import example
from models.toktts.network import TokTTS
from models.toktts.sampling import Decoding, generate_codes

PUBLISHED = {"code_ids": "shared", "encoder_attention": "causal", "n_codebooks": 2}


def build(**changes):
    torch.manual_seed(2)
    given = example.toktts()
    config = type(given.config)(**(vars(given.config) | PUBLISHED | changes))
    module = TokTTS(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return module


def loaded(folder, change=None):
    config, state = hub.files(folder)
    return hub.convert(config, StateReader("toktts", state if change is None else change(dict(state))))


@pytest.mark.parametrize("changes", [{}, {"encoder_size": 16, "encoder_heads": 4}])
def test_what_is_written_is_read_back(changes, tmp_path):
    module = build(**changes)
    hub.save(module, tmp_path)
    found = loaded(tmp_path)
    assert found.config == module.config
    for name, tensor in module.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@torch.no_grad()
@pytest.mark.parametrize("n_beams", [1, 3])
def test_transformers_reads_it_and_generates_the_same(n_beams, tmp_path):
    transformers = pytest.importorskip("transformers")
    module = build()
    hub.save(module, tmp_path)
    theirs = transformers.EncoderDecoderModel.from_pretrained(tmp_path).eval()
    text = torch.tensor([[3, 4, 5, 1], [7, 1, 0, 0], [9, 8, 1, 0]])
    mask = text != 0
    tokens = torch.randint(0, 9, (3, 6))
    theirs_logits = theirs(input_ids=text, attention_mask=mask.long(), decoder_input_ids=tokens).logits
    torch.testing.assert_close(
        module(text, mask, tokens[..., None])[:, :, 0], theirs_logits, rtol=1e-4, atol=1e-5
    )
    args = {"max_length": 21, "num_beams": n_beams, "do_sample": False, "early_stopping": False}
    expected = theirs.generate(input_ids=text, attention_mask=mask.long(), **args)[:, 1:]
    decoding = Decoding(beams=Beams(n_beams) if n_beams > 1 else None, ids="any")
    found = generate_codes(module, text, mask, [10] * 3, decoding, [0] * 3)
    for row, one in zip(expected, found, strict=True):
        assert torch.equal(one.codes_QT, module.pattern.read(row[:, None]))
    assert max(one.codes_QT.shape[1] for one in found) > 1


def test_old_directories_bring_their_masks_and_the_tied_head(tmp_path):
    module = build()
    hub.save(module, tmp_path)

    def older(state):
        masks = {
            "encoder.h.0.attn.bias": torch.ones(1, 1, 4, 4),
            "decoder.transformer.h.1.attn.masked_bias": torch.tensor(0),
        }
        return state | masks | {"decoder.lm_head.weight": state["decoder.transformer.wte.weight"].clone()}

    assert torch.equal(loaded(tmp_path, older).token_tables_KVD, module.token_tables_KVD)

    def untied(state):
        return state | {"decoder.lm_head.weight": state["decoder.transformer.wte.weight"] + 1}

    with pytest.raises(ValueError, match=r"lm_head\.weight differs from decoder\.transformer\.wte\.weight"):
        loaded(tmp_path, untied)


def test_every_key_must_be_known(tmp_path):
    hub.save(build(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.wpe.weight"]
    save_file(state | {"more": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"encoder\.wpe\.weight is missing; more is not consumed"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "decoder",
            {"activation_function": "relu"},
            "decoder: activation_function is 'relu'; only 'gelu_new'",
        ),
        ("encoder", {"n_inner": 7}, "encoder: n_inner is 7; it must be four times n_embd"),
        ("encoder", {"model_type": "bert"}, r"config\.json describes no GPT-2 as 'encoder'"),
    ],
)
def test_other_networks_are_refused(part, change, message, tmp_path):
    hub.save(build(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config[part] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder_attention": "bidirectional"},
            "encoder_attention is 'bidirectional'; transformers' model needs 'causal'",
        ),
        ({"pattern": "delay"}, "pattern is 'delay'; transformers' model needs 'interleave'"),
        ({"code_ids": "separate"}, "code_ids is 'separate'; transformers' model needs 'shared'"),
    ],
)
def test_what_transformers_cannot_build_is_not_written(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        hub.save(build(**changes), tmp_path)
    assert not list(tmp_path.iterdir())
