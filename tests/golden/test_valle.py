"""VALL-E's own numbers: the same weights, inputs and draws give the same logits, losses and codes."""

import pytest
import torch
from torch.nn import functional as F

from models.layers import checkpoint_torchscale
from models.layers.masks import length_mask, pad_rows
from models.layers.retention import Chunkwise, Parallel, Retained
from models.sampling.autoregressive import Limits, Sampler
from models.sampling.token_sampling import TokenSampling
from models.valle import checkpoint_enhuiz
from models.valle.sampling import Conditions, generate_first_level, generate_other_levels


class RecordedRaces:
    """The uniform numbers with which the reference's multinomial was replaced: argmax(p / -log u)."""

    def __init__(self, draws):
        self.draws = draws

    def tokens(self, lengths, candidates_BTk, n_codes):
        n_rows, n_positions = candidates_BTk.shape[:2]
        if n_positions == 1:
            return self.draws.take("uniform", n_rows, n_codes)[:, None]
        rows = [self.draws.take("uniform", length, n_codes) for length in lengths]
        return pad_rows(rows, fill=0.5)[0]


def rows_of(section, name):
    return [section[f"{name}{row}"] for row in range(2)]


def conditions(section):
    return Conditions(*pad_rows(rows_of(section, "text")), *pad_rows(rows_of(section, "prom")))


def sampling_of(section):
    if not section.draws.recorded:
        return TokenSampling(temperature=0)
    return TokenSampling(temperature=section.args["sampling_temperature"])


def watched(section):
    """The input of the trunk; its rows have their padding on the right, as the reference's."""
    module, inputs = section.module, []
    section.hooks.append(
        module.trunk.blocks[0].register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    )
    return {
        "x": inputs,
        "blocks": [section.record(block) for block in module.trunk.blocks],
        "text_emb": section.record(module.text_table),
        "prom_emb": section.record(module.prompt_tables),
        "resp_emb": section.record(module.code_tables),
    }


def forward_results(section, seen, lengths, logits):
    """The recorded outputs; what stands at padding has no influence and is left as it was recorded."""
    valid = length_mask(torch.tensor(lengths), max(lengths))[..., None]
    x = torch.where(valid, seen["x"][0], section.tensors[f"{section.name}.out.x"])
    blocks = torch.stack([block[0] for block in seen["blocks"]]) * valid
    results = {"x": x, "blocks": blocks}
    for name, size in (("text", "text0"), ("prom", "prom0"), ("resp", "resp0")):
        results[f"{name}_emb0"] = seen[f"{name}_emb"][0][0, : len(section[size])]
    for row, length in enumerate(lengths):
        results[f"logits{row}"] = logits[row][:length]
    return results


def ar_forward(section):
    module, given = section.module, conditions(section)
    texts, prompts, codes = (rows_of(section, name) for name in ("text", "prom", "resp"))
    seen = watched(section)
    n_text = given.text_BL.shape[1]
    logits = module(*given.inputs(), *pad_rows(codes), predicts="text_and_codes")
    lengths = [len(t) + len(p) + len(c) + 2 for t, p, c in zip(texts, prompts, codes, strict=True)]
    every = module.head(torch.stack([block[0] for block in seen["blocks"]])[-1])
    results = forward_results(section, seen, lengths, every)
    stop = torch.tensor([module.config.codebook_size])
    found, wanted = [], []
    for row, (text, one) in enumerate(zip(texts, codes, strict=True)):
        # The published loss leaves the first code out: the separator before it has no target.
        found += [logits[row, : len(text) - 1], logits[row, n_text + 1 : n_text + len(one) + 1]]
        wanted += [text[1:], one[1:], stop]
    return results | {"loss": F.cross_entropy(torch.cat(found), torch.cat(wanted))}


def ar_generate(section):
    trace, maximum = section.record(section.module.head), [section.args["max_steps"]] * 2
    limits = Limits(section.module.config.codebook_size, maximum)
    search = Sampler(sampling_of(section), limits, RecordedRaces(section.draws))
    found = generate_first_level(section.module, conditions(section), search, max(maximum))
    results = {f"out{row}": one.tokens_N for row, one in enumerate(found)}
    assert all((one.finish_reason == "stop") == (len(one.tokens_N) < maximum[0]) for one in found)
    return results | {"trace0": torch.stack([logits[0] for logits in trace])}


def nar_train(section):
    module, given = section.module, conditions(section)
    codes_BTQ, mask_BT = pad_rows(rows_of(section, "resp"))
    below_B = section.draws.take("randint", 2)
    seen = watched(section)
    logits = module(*given.inputs(), codes_BTQ, mask_BT, below_B + 1)
    texts, prompts = rows_of(section, "text"), rows_of(section, "prom")
    lengths = [len(t) + len(p) + int(n) + 2 for t, p, n in zip(texts, prompts, mask_BT.sum(1), strict=True)]
    every = module.head(seen["blocks"][-1][0])
    wanted = codes_BTQ.gather(-1, (below_B + 1)[:, None, None].expand(*mask_BT.shape, 1))[..., 0]
    loss = F.cross_entropy(logits[mask_BT], wanted[mask_BT])
    return forward_results(section, seen, lengths, every) | {"levels": below_B, "loss": loss}


def nar_generate(section):
    trace, known = section.record(section.module.head), rows_of(section, "resp")
    lengths, races = [len(one) for one in known], RecordedRaces(section.draws)
    given = conditions(section)
    codes = generate_other_levels(
        section.module, given, pad_rows(known)[0], lengths, sampling_of(section), races
    )
    results = {f"out{row}": codes[row, :length] for row, length in enumerate(lengths)}
    return results | {"logits0": torch.stack([logits[0, : lengths[0]] for logits in trace])}


def retnet_parallel(section):
    blocks = [section.record(block) for block in section.module.blocks]
    hidden = section.module(section["x"], Parallel("published"))
    return {"hidden": hidden, "blocks": torch.stack([section["x"], *(block[0] for block in blocks)])}


def retnet_chunkwise(section):
    form = Chunkwise(section.constructor["recurrent_chunk_size"], "published")
    return {"hidden": section.module(section["x"], form)}


def retnet_recurrent(section):
    x, made = section["x"], []
    state = Retained(len(x), x.device)
    for x_B1D in x.split(1, dim=1):
        state.extend(torch.ones(len(x), dtype=torch.int64), 1)
        made.append(section.module(x_B1D, state))
    return {"hidden": torch.cat(made, dim=1)}


@pytest.mark.golden("enhuiz/vall-e", "vall_e.vall_e.ar.AR", checkpoint_enhuiz.convert_ar)
def test_first_network(section):
    section.run({"forward": ar_forward, "generate": ar_generate})


@pytest.mark.golden("enhuiz/vall-e", "vall_e.vall_e.nar.NAR", checkpoint_enhuiz.convert_nar)
def test_second_network(section):
    section.run({"train": nar_train, "generate": nar_generate})


@pytest.mark.golden(
    "microsoft/torchscale", "torchscale.architecture.retnet.RetNetDecoder", checkpoint_torchscale.convert
)
def test_retnet(section):
    section.run({"parallel": retnet_parallel, "chunkwise": retnet_chunkwise, "recurrent": retnet_recurrent})
