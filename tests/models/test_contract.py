"""What every generator family promises: shapes, padding, batches, gradients, a directory that brings it back."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from models.families import FAMILIES, load_generator, save_generator

TEXT_LENGTHS, SPEECH_LENGTHS, LEVELS = [7, 3, 5], [11, 14, 6], [0, 2, 1]
SIZES = {"text_vocab_size": 12, "codebook_size": 9, "hidden_size": 16, "n_layers": 2, "n_heads": 2}
CONFIGS = {
    "maskgct_t2s": SIZES | {"feed_forward_size": 24},
    "maskgct_s2a": SIZES | {"feed_forward_size": 24, "n_codebooks": 3},
}


@dataclass(frozen=True)
class Row:
    """One row's inputs without any padding."""

    text_L: Tensor
    codes_TQ: Tensor
    masked_T: Tensor
    prompt_T: Tensor
    level: int
    time: float


def build(family: str) -> nn.Module:
    """A tiny generator whose every parameter is random, also those that start at 0 or 1."""
    torch.manual_seed(3)
    module = FAMILIES[family].module(FAMILIES[family].config(**CONFIGS[family])).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def rows(family: str) -> list[Row]:
    generator = torch.Generator().manual_seed(4)
    n_levels = CONFIGS[family].get("n_codebooks", 1)
    made = []
    for n_text, n_frames, level in zip(TEXT_LENGTHS, SPEECH_LENGTHS, LEVELS, strict=True):
        text = torch.randint(0, 12, (n_text,), generator=generator)
        codes = torch.randint(0, 9, (n_frames, n_levels), generator=generator)
        prompt = torch.arange(n_frames) < 2
        masked = (torch.rand(n_frames, generator=generator) < 0.6) & ~prompt
        made.append(Row(text, codes, masked, prompt, level, float(torch.rand((), generator=generator))))
    return made


def padded(parts: list[Tensor], size: int, fill: int, side: str = "right") -> Tensor:
    def one(part: Tensor) -> Tensor:
        filling = part.new_full((size - len(part), *part.shape[1:]), fill)
        return torch.cat([part, filling] if side == "right" else [filling, part])

    return torch.stack([one(part) for part in parts])


def run(
    module: nn.Module, family: str, batch: list[Row], extra: int = 0, side: str = "right", junk: int = 0
) -> Tensor:
    """Logits of the batch; `extra` more padding, filled with `junk`, the text's on `side`."""
    n_text = max(len(row.text_L) for row in batch) + extra
    n_frames = max(len(row.codes_TQ) for row in batch) + extra
    inputs = {
        "text_BL": padded([row.text_L for row in batch], n_text, junk, side),
        "text_mask_BL": padded([torch.ones(len(row.text_L)).bool() for row in batch], n_text, 0, side),
        "masked_BT": padded([row.masked_T for row in batch], n_frames, junk % 2),
        "speech_mask_BT": padded([torch.ones(len(row.codes_TQ)).bool() for row in batch], n_frames, 0),
        "times_B": torch.tensor([row.time for row in batch]),
    }
    codes = padded([row.codes_TQ for row in batch], n_frames, junk)
    if family == "maskgct_t2s":
        return module(codes_BT=codes[..., 0], **inputs)
    prompt = padded([row.prompt_T for row in batch], n_frames, junk % 2)
    levels = torch.tensor([row.level for row in batch])
    return module(codes_BTQ=codes, prompt_mask_BT=prompt, levels_B=levels, **inputs)


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    return request.param


def assert_rows_equal(found: Tensor, expected: Tensor) -> None:
    for row, length in enumerate(SPEECH_LENGTHS):
        torch.testing.assert_close(found[row, :length], expected[row, :length], rtol=1e-4, atol=1e-5)


def test_every_family_is_covered():
    assert set(CONFIGS) == set(FAMILIES)


def test_logits_have_one_value_a_code(family):
    assert run(build(family), family, rows(family)).shape == (3, max(SPEECH_LENGTHS), 9)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("junk", [0, 5])
def test_padding_changes_nothing(family, side, junk):
    module, batch = build(family), rows(family)
    assert_rows_equal(run(module, family, batch, 4, side, junk), run(module, family, batch))


def test_a_row_alone_gives_what_it_gives_in_a_batch(family):
    module, batch = build(family), rows(family)
    together = run(module, family, batch)
    for row, (one, length) in enumerate(zip(batch, SPEECH_LENGTHS, strict=True)):
        alone = run(module, family, [one])[0]
        torch.testing.assert_close(alone, together[row, :length], rtol=1e-4, atol=1e-5)


def test_what_is_hidden_is_not_seen(family):
    module, last = build(family), CONFIGS[family].get("n_codebooks", 1) - 1
    batch = [replace(row, level=last) for row in rows(family)]
    changed = [replace(row, codes_TQ=row.codes_TQ.clone()) for row in batch]
    for row in changed:
        row.codes_TQ[row.masked_T, last] = 8 - row.codes_TQ[row.masked_T, last]
    assert torch.equal(run(module, family, changed), run(module, family, batch))


def test_gradients_reach_every_parameter(family):
    module = build(family)
    run(module, family, rows(family)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_new_network_starts_with_plain_norms(family):
    module = FAMILIES[family].module(FAMILIES[family].config(**CONFIGS[family]))
    gains = [(name, p) for name, p in module.named_parameters() if ".gain." in name]
    assert gains
    for name, parameter in gains:
        assert (parameter == (1 if name.endswith("bias") else 0)).all(), name


def test_a_directory_brings_it_back(family, tmp_path):
    module, batch = build(family), rows(family)
    save_generator(module, family, tmp_path / "generator")
    name, loaded = load_generator(tmp_path / "generator")
    assert name == family
    assert loaded.config == module.config
    assert torch.equal(run(loaded, family, batch), run(module, family, batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 18}, "hidden_size is 18 with n_heads 2; it must be a multiple of 2 \\* n_heads = 4"),
        ({"n_layers": 0}, "n_layers is 0; it must be a positive integer"),
        ({"codebook_size": 9.0}, "codebook_size is 9.0; it must be a positive integer"),
    ],
)
def test_sizes_that_cannot_work_are_refused(family, change, message):
    with pytest.raises(ValueError, match=message):
        FAMILIES[family].config(**(CONFIGS[family] | change))
