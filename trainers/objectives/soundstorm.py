"""SoundStorm's objective: the codes of one level at masked frames, given semantic tokens and the levels below.

After arXiv 2305.09636 and ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd: exactly as many frames are masked as the
schedule says, and the loss is the cross-entropy there, at one level. Differences: prompt lengths and levels are drawn
for each row; logits are made only where the loss is taken; codes come from the data instead of a codec in the loop.
Shapes: B rows, T frames, M masked frames, Q levels that are generated, V codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch

from models.checkpoints import Json, Record
from models.codecs.interface import Codes
from models.content import Voice
from models.identity import TokenIdentity
from models.layers.checks import check_choice, check_positive
from models.layers.initialisation import projected
from models.layers.masks import length_mask
from models.sampling.draws import GeneratorDraws, RowDraws, row_seeds
from models.soundstorm.corruption import CorruptionConfig, DrawPer, LevelSchedule, Schedule, corrupt
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.soundstorm.sampling import SoundStormOptions, generate
from models.soundstorm.stages import conditions_of
from trainers.data import Collator
from trainers.objectives import DataInfo, Loss, Objective, Sample
from trainers.objectives.network import NetworkObjective, codebooks_of, cross_entropy, frame_mask
from trainers.objectives.semantic_tokens import Semantic, SemanticBatch, SemanticTokens, codes_identity
from trainers.plan import Needs

Start = Literal["random", "codebooks"]


@dataclass(frozen=True)
class SoundStormSettings:
    """Semantic level and corruption; see `models.soundstorm.corruption.CorruptionConfig`."""

    semantic: Semantic = "codebook_0"
    """`codebook_0`: the levels above it are generated; `semantic_codes`: all levels of the codes are."""
    schedule: Schedule = "cosine"
    draw_per: DrawPer = "row"
    level_schedule: LevelSchedule = "uniform"
    embeddings: Start = "random"
    """`codebooks`: embeddings start as the vectors of the codec's codes (semantic ones only of `codebook_0`)."""
    sample_steps: int = 8
    """Sampler steps of the first level in the audio made at a validation."""

    def __post_init__(self) -> None:
        check_choice(self, "semantic", get_args(Semantic))
        check_choice(self, "embeddings", get_args(Start))
        check_positive(self, ["sample_steps"])
        self.corruption()

    @property
    def first_level(self) -> int:
        """The codes' first level that is generated."""
        return 1 if self.semantic == "codebook_0" else 0

    def corruption(self) -> CorruptionConfig:
        """The settings of `models.soundstorm.corruption.corrupt`."""
        return CorruptionConfig(self.schedule, self.draw_per, self.level_schedule)


class SoundStormObjective(NetworkObjective[SemanticBatch]):
    """Semantic tokens and coarser levels -> one level."""

    legacy: ClassVar[Mapping[str, Json]] = {"level_schedule": "uniform"}
    family = "soundstorm"
    model_config = SoundStormConfig
    settings = SoundStormSettings
    network: SoundStorm

    def __init__(self, model: SoundStormConfig, settings: SoundStormSettings, data: DataInfo) -> None:
        super().__init__(SoundStorm(model), data)
        self.choices = settings
        self._warm = False

    @classmethod
    def derive(cls, settings: SoundStormSettings, data: DataInfo) -> Record:
        """Numbers of semantic tokens, levels and codes."""
        if data.n_codebooks <= settings.first_level:
            raise ValueError(
                f"the codec {data.codec} has one level; semantic: codebook_0 needs another one to generate"
            )
        return {
            "n_semantic_tokens": SemanticTokens(settings.semantic, data).identity.codebook_size,
            "n_codebooks": data.n_codebooks - settings.first_level,
            "codebook_size": data.codebook_size,
        }

    @classmethod
    def needs(cls, settings: SoundStormSettings, data: DataInfo) -> Needs:
        """The column of semantic tokens, if they are not the first codebook."""
        return SemanticTokens(settings.semantic, data).needs

    @classmethod
    def collator(cls, settings: SoundStormSettings, data: DataInfo) -> Collator[SemanticBatch]:
        """Codes and semantic tokens."""
        return SemanticTokens(settings.semantic, data).batch

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The semantic tokenizer, if it is another one."""
        if self.choices.semantic == "codebook_0":
            return {}
        semantic = SemanticTokens(self.choices.semantic, self.data).identity
        return {"codec": codes_identity(self.data), "semantic": semantic}

    def warm_start(self, directory: Path) -> None:
        """See NetworkObjective."""
        super().warm_start(directory)
        self._warm = True

    def initialise(self, batches: Iterable[SemanticBatch], generator: torch.Generator) -> None:  # noqa: ARG002
        """Start from the codec's vectors, if the settings say so and the weights are new."""
        if self.choices.embeddings == "random" or self._warm:
            return
        device = next(self.network.parameters()).device
        dim = self.network.config.hidden_size
        embeddings_QVD = projected(codebooks_of(self.data).to(device), dim, generator)
        if self.choices.semantic == "codebook_0":
            self.network.set_semantic_embeddings(embeddings_QVD[0])
        self.network.set_code_embeddings(embeddings_QVD[self.choices.first_level :])

    def loss(self, batch: SemanticBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the masked codes of each row's level."""
        codes_BTQ = batch.codes_BQT[:, self.choices.first_level :].transpose(1, 2)
        n_rows, n_frames, n_levels = codes_BTQ.shape
        draws = GeneratorDraws(generator, codes_BTQ.device)
        drawn = corrupt(batch.lengths_B, n_frames, n_levels, self.choices.corruption(), draws)
        logits_MV = self.network(
            batch.semantic_BT,
            codes_BTQ,
            drawn.masked_BT,
            length_mask(drawn.prompt_lengths_B, n_frames),
            frame_mask(batch),
            drawn.levels_B,
            drawn.masked_BT,
        )
        codes_BT = codes_BTQ[torch.arange(n_rows, device=codes_BTQ.device), :, drawn.levels_B]
        return cross_entropy(logits_MV, codes_BT[drawn.masked_BT])

    def samples(self, batch: SemanticBatch, generator: torch.Generator) -> list[Sample]:
        """The rows made again from their semantic tokens and their own first third, and the recordings."""
        first_level = self.choices.first_level
        tokens, voices = [], []
        rows = zip(batch.semantic_BT, batch.codes_BQT.transpose(1, 2), batch.lengths_B.tolist(), strict=True)
        for semantic_T, codes_TQ, frames in rows:
            prompt = frames // 3
            voices.append(Voice(semantic_T[:prompt], codes_TQ[:prompt, first_level:]))
            tokens.append(semantic_T[prompt:frames])
        options = SoundStormOptions(self.choices.sample_steps)
        draws = RowDraws(row_seeds(generator, len(tokens)), batch.codes_BQT.device)
        made = generate(self.network, conditions_of(self.network, tokens, voices), options, draws)
        generated_BQT = batch.codes_BQT.clone()
        for row_QT, codes_TQ, target_T, voice in zip(
            generated_BQT, made.codes_BTQ, tokens, voices, strict=True
        ):
            start, frames = len(voice.content_S), len(target_T)
            row_QT[first_level:, start : start + frames] = codes_TQ[:frames].T
        return [
            *self.heard(batch.ids, "generated", Codes(generated_BQT, batch.lengths_B)),
            *self.heard(batch.ids, "recorded", Codes(batch.codes_BQT, batch.lengths_B)),
        ]


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {"soundstorm": SoundStormObjective}
