"""toktts' own numbers: the same weights and texts give the same logits and tokens, code for code."""

import pytest
import torch
from torch.nn import functional as F

from models.sampling.autoregressive import Limits, Sampler
from models.sampling.beam import Beams, BeamSearch
from models.sampling.draws import RowDraws
from models.sampling.token_sampling import TokenSampling
from models.toktts.checkpoint_hugging_face import convert
from models.toktts.patterns import Interleaved
from models.toktts.sampling import generate_tokens

START, STOP = 1024, 1025


def forward(section):
    module, labels = section.module, section["labels"]
    encoded, hidden = section.record(module.encoder), section.record(module.decoder)
    known = labels.masked_fill(labels == -100, STOP)
    tokens = torch.cat([torch.full_like(known[:, :1], START), known[:, :-1]], dim=1)
    logits = module(section["input_ids"], section["attention_mask"].bool(), tokens[..., None])[:, :, 0]
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    results = {"loss": loss}
    # At padding, which nothing depends on, transformers counts positions and hides the stop token from itself.
    for name, found, valid in (
        ("encoder", encoded[0], section["attention_mask"].bool()),
        ("decoder_hidden", hidden[0], labels != -100),
        ("logits", logits, labels != -100),
    ):
        recorded = section.tensors[f"{section.name}.out.{name}"]
        results[name] = torch.where(valid[..., None], found, recorded)
    return results


def generated(section):
    """Sequences as transformers gives them: the start token first, then filled with the stop token."""
    texts, n_beams = section["input_ids"], section.args["num_beams"]
    most = section.args["max_length"] - 1
    limits = Limits(STOP, [most] * len(texts))
    if n_beams > 1:
        search = BeamSearch(Beams(n_beams), limits)
    else:
        search = Sampler(TokenSampling(temperature=0), limits, RowDraws([0] * len(texts), "cpu"))
    found = generate_tokens(section.module, texts, section["attention_mask"].bool(), search, most)
    ended = [len(one.tokens_N) + (one.finish_reason == "stop") for one in found]
    sequences = torch.full((len(texts), 1 + max(ended)), STOP)
    sequences[:, 0] = START
    for row, one in zip(sequences, found, strict=True):
        row[1 : 1 + len(one.tokens_N)] = one.tokens_N
    return {"generated": sequences}


def interleaved(section):
    pattern = Interleaved(2, 1024, "shared")
    flat = pattern.write(section["codes"])[:, 0]
    results = {"flat": flat, "unflat_a": pattern.read(flat[:, None])}
    # The reference drops the first id, whatever it is.
    for name in "bc":
        results[f"unflat_{name}"] = pattern.read(section[f"list_{name}"][1:, None])
    return results


@pytest.mark.golden(
    "alexeyrodriguez/toktts",
    "model.make_model -> transformers.EncoderDecoderModel (GPT2Model + GPT2LMHeadModel with cross attention)",
    convert,
)
def test_toktts(section):
    section.run({"forward": forward, "generate": generated, "interleave": interleaved})
