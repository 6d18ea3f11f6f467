"""The families of bench_digits: how each is trained within the budget, assembled, and asked for a digit.

A new family is one entry of FAMILIES and its sparse configurations in configs/digits/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from benchmarks.digits_corpus import Recording, Request
from models.checkpoints import Json
from models.codecs.interface import Wave
from models.prompt import Prompt
from models.system import ConvertRequest, SpeakRequest
from pipelines.audio.containers import Samples
from pipelines.demo.classifier import SAMPLE_RATE


@dataclass(frozen=True)
class Network:
    """One network of a family."""

    config: str
    """File in configs/digits/."""
    share: float
    """Of the budget; those of a family add up to 1."""


@dataclass(frozen=True)
class DigitsFamily:
    """One family of the benchmark."""

    name: str
    system: str
    """The kind of system that its networks make."""
    networks: Mapping[str, Network]
    """By role; trained in this order."""
    task: Literal["speak", "convert"] = "speak"
    options: Mapping[str, Json] = field(default_factory=dict)
    """Of the task, in place of the system's own."""
    units: bool = False
    """Content is `semantic_codes`, the cells of the work folder, and not codebook 0."""
    borrowed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Networks of other families, which must be trained already: role -> family and role there."""
    prompted: bool = True
    """False: the system takes no voice prompt, so only its digits are judged."""
    longest_s: float | None = None
    """The longest row that the options allow, where a runaway ends. None: lengths are asked for."""

    def __post_init__(self) -> None:
        total = sum(network.share for network in self.networks.values())
        if self.networks and abs(total - 1) > 1e-6:
            raise ValueError(f"{self.name}: the shares of its networks add up to {total:g}; they must to 1")

    def ask(self, request: Request, waves: Mapping[Recording, Samples]) -> SpeakRequest | ConvertRequest:
        """The system's request; a voice prompt comes with the word that is said in it."""
        prompt = Prompt(wave_of(waves[request.prompt]), request.prompt.digit, "en")
        if self.task == "convert":
            return ConvertRequest(wave_of(waves[request.source]), prompt)
        return SpeakRequest(request.digit, "en", prompt=prompt if self.prompted else None)


def wave_of(samples: Samples) -> Wave:
    """One row at the classifiers' rate."""
    return Wave(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), SAMPLE_RATE)


UNGUIDED: Mapping[str, Json] = {"guidance": 0.0, "t2s_steps": 16}
"""For content tokens, whose guidance costs words (docs/log.md)."""
FAMILIES = {
    family.name: family
    for family in (
        DigitsFamily(
            "maskgct",
            "maskgct",
            {"t2s": Network("maskgct_t2s.yaml", 0.5), "s2a": Network("maskgct_s2a.yaml", 0.5)},
        ),
        DigitsFamily(
            "valle",
            "valle",
            {"ar": Network("valle_ar.yaml", 0.6), "nar": Network("valle_nar.yaml", 0.4)},
            options={"max_ar_steps": 150, "max_length_ratio": 100.0},
            longest_s=3.0,
        ),
        DigitsFamily(
            "toktts",
            "toktts",
            {"toktts": Network("toktts.yaml", 1.0)},
            options={"max_s": 3.0, "guidance": 1.0},
            prompted=False,
            longest_s=3.0,
        ),
        DigitsFamily(
            "soundstorm",
            "soundstorm",
            {"soundstorm": Network("soundstorm.yaml", 1.0)},
            task="convert",
        ),
        DigitsFamily(
            "flow_matching",
            "flow_matching",
            {"flow_matching": Network("flow_matching.yaml", 1.0)},
            task="convert",
        ),
        # The same from content tokens, which carry less of the voice than codebook 0.
        DigitsFamily(
            "soundstorm_units",
            "soundstorm",
            {"soundstorm": Network("soundstorm_units.yaml", 1.0)},
            task="convert",
            units=True,
        ),
        DigitsFamily(
            "flow_matching_units",
            "flow_matching_hierarchical",
            {"flow_matching": Network("flow_matching_units.yaml", 1.0)},
            task="convert",
            units=True,
        ),
        DigitsFamily(
            "maskgct_semantic",
            "maskgct_semantic",
            {
                "t2s": Network("maskgct_semantic_t2s.yaml", 0.4),
                "s2a": Network("maskgct_semantic_s2a.yaml", 0.6),
            },
            units=True,
            options={"guidance": 0.0, "s2a_steps": [8, 4, 1], "text": UNGUIDED},
        ),
        # Text to speech by the same networks, behind a first stage of MaskGCT that makes their content.
        *(
            DigitsFamily(
                f"{name}_text",
                system,
                {},
                borrowed={"t2s": (stage, "t2s"), role: (name, role)},
                units=units,
                options={"text": UNGUIDED} if units else {},
            )
            for name, system, role, stage, units in (
                ("soundstorm", "soundstorm", "soundstorm", "maskgct", False),
                ("flow_matching", "flow_matching", "flow_matching", "maskgct", False),
                ("soundstorm_units", "soundstorm", "soundstorm", "maskgct_semantic", True),
                (
                    "flow_matching_units",
                    "flow_matching_hierarchical",
                    "flow_matching",
                    "maskgct_semantic",
                    True,
                ),
            )
        ),
    )
}
