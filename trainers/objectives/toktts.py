"""Teacher forcing of toktts: every token is learned from the text and the tokens before it.

After alexeyrodriguez/toktts@8d67e39. Differences: recordings are whole unless they are clipped, any codec and any of
its levels, and every row counts as many tokens as it has.
Shapes: B rows, L text tokens, Q codebooks, T frames, S steps, K streams, V ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from models.checkpoints import Json, Record, Values
from models.codecs.interface import Codes
from models.layers.masks import pad_rows
from models.sampling.draws import row_seeds
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS
from models.toktts.options import TokTTSOptions
from models.toktts.patterns import Pattern
from models.toktts.sampling import generate_codes
from models.toktts.system import codes_of
from trainers.data import Collator
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric
from trainers.objectives.generator import GeneratorObjective, TextBatch, collate_text
from trainers.plan import Item, Position
from trainers.store import Store
from trainers.text_tokens import LEGACY, TextTokens

NOT_LEARNED = -100
"""The target where the pattern leaves no choice, and at padding."""


@dataclass(frozen=True)
class TokTTSSettings:
    """Settings of training on a recording."""

    text: Values = field(default_factory=lambda: {"kind": "byt5"})
    """The text front end; see `models.text.settings.TextSettings`."""
    levels: int | None = None
    """The first levels of the codec, which are spoken; None: all. Published are 2 of EnCodec's."""
    clip_audio_secs: float | None = None
    """Only the beginning of a recording is learned, and that it ends there, with its whole text; published are 2 s.
    Batches are still filled by the length of the whole recording."""
    level_weights: tuple[float, ...] = ()
    """Weight of each level in the loss; a stop token counts as one of the first level. Empty: all are alike, as
    published, and the first level, which holds most of the words, is one of many."""
    hidden_tokens: float = 0.0
    """Share of the codes that training hides from the decoder, so that it must read the text (word dropout, arXiv
    1511.06349); published is none."""
    textless: float = 0.0
    """Share of the rows whose text training hides, so that the system can speak with `guidance`; published is none."""
    sample_temperature: float = 1.0
    """Of the audio made at a validation."""
    sample_top_k: int = 50

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 1:
            raise ValueError(f"levels is {self.levels}; it must be at least 1")
        if self.clip_audio_secs is not None and not self.clip_audio_secs > 0:
            raise ValueError(f"clip_audio_secs is {self.clip_audio_secs}; it must be above 0")
        if self.level_weights and not (min(self.level_weights) >= 0 < max(self.level_weights)):
            raise ValueError(
                f"level_weights is {list(self.level_weights)}; none may be negative, and one must be above 0"
            )
        for name in ("hidden_tokens", "textless"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        self.options()

    def options(self) -> TokTTSOptions:
        """Options of the audio made at a validation."""
        return TokTTSOptions(temperature=self.sample_temperature, top_k=self.sample_top_k)

    def frames(self, data: DataInfo) -> int | None:
        """The most frames of a row; None: all."""
        if self.clip_audio_secs is None:
            return None
        return max(1, int(self.clip_audio_secs * data.sample_rate / data.hop_length))


@dataclass(frozen=True)
class Taught:
    """Tokens of a batch with what is to follow each."""

    tokens_BSK: Tensor
    """int64; each row begins with the start token."""
    targets_BSK: Tensor
    """int64; NOT_LEARNED where nothing is to be learned."""


def taught(pattern: Pattern, codes_BQT: Tensor, lengths_B: Tensor) -> Taught:
    """Tokens and targets of padded codes; frames at or after a row's length have no influence.

    A stop token is learned once per row, of the first stream; the other streams end with it.
    """
    tokens, targets = [], []
    for codes_QT, n_frames in zip(codes_BQT, lengths_B.tolist(), strict=True):
        written_SK = pattern.write(codes_QT[:, :n_frames])
        learned_SK = written_SK < pattern.start
        learned_SK[pattern.steps(n_frames), 0] = True
        start_1K = torch.full_like(written_SK[:1], pattern.start)
        tokens.append(torch.cat([start_1K, written_SK[:-1]]))
        targets.append(written_SK.masked_fill(~learned_SK, NOT_LEARNED))
    return Taught(pad_rows(tokens, 0, pattern.stop)[0], pad_rows(targets, 0, NOT_LEARNED)[0])


class TokTTSObjective(GeneratorObjective[TextBatch]):
    """Text -> codes."""

    legacy: ClassVar[Mapping[str, Json]] = {
        **LEGACY,
        "level_weights": [],
        "hidden_tokens": 0.0,
        "textless": 0.0,
    }
    family = "toktts"
    model_config = TokTTSConfig
    settings = TokTTSSettings
    network: TokTTS

    def __init__(self, model: TokTTSConfig, settings: TokTTSSettings, data: DataInfo) -> None:
        super().__init__(TokTTS(model), settings, data)
        self._settings = settings

    @classmethod
    def derive(cls, settings: TokTTSSettings, data: DataInfo) -> Record:
        """The text table's size, the number of codebooks and their size. ValueError for levels that there are not."""
        levels = data.n_codebooks if settings.levels is None else settings.levels
        if levels > data.n_codebooks:
            raise ValueError(f"levels is {levels}; the codes have {data.n_codebooks}")
        if len(settings.level_weights) not in (0, levels):
            raise ValueError(
                f"level_weights has {len(settings.level_weights)} numbers; there are {levels} levels"
            )
        sizes = {"n_codebooks": levels, "codebook_size": data.codebook_size}
        return TextTokens(settings.text, data.text).sizes | sizes

    @classmethod
    def collator(cls, settings: TokTTSSettings, data: DataInfo) -> Collator[TextBatch]:
        """Codes of the levels that are spoken, clipped if the settings say so, and tokens of the texts."""
        tokens_of, most = TextTokens(settings.text, data.text), settings.frames(data)
        levels = data.n_codebooks if settings.levels is None else settings.levels

        def collate(rows: Store, items: Sequence[Item], position: Position) -> TextBatch:
            clipped = [
                item if most is None else item._replace(frames=min(item.frames, most)) for item in items
            ]
            batch = collate_text(tokens_of, rows, clipped, position)
            n_tokens = batch.n_tokens // rows.n_codebooks * levels
            return replace(batch, codes_BQT=batch.codes_BQT[:, :levels], n_tokens=n_tokens)

        return collate

    def loss(self, batch: TextBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the tokens by the weights of their levels, and how many were guessed right."""
        frames, most = batch.codes_BQT.shape[2], self.network.config.most_frames
        if frames > most:
            raise ValueError(
                f"a row has {frames} frames; the network takes at most {most} (token_positions): "
                f"set data.batch.max_token_length to {most}, or clip_audio_secs"
            )
        given = taught(self.network.pattern, batch.codes_BQT, batch.lengths_B)
        seen_BSK, said_B = self._hidden(given.tokens_BSK, generator)
        with _dropout_from(generator, batch.codes_BQT.device):
            logits_BSKV = self.network(
                batch.text_BL, batch.text_mask_BL, given.tokens_BSK, seen_BSK=seen_BSK, said_B=said_B
            )
        learned_BSK = given.targets_BSK != NOT_LEARNED
        logits_NV, targets_N = logits_BSKV[learned_BSK].float(), given.targets_BSK[learned_BSK]
        levels_N = self._levels_of(learned_BSK)
        right, first_N = logits_NV.detach().argmax(-1) == targets_N, levels_N == 0
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        metrics = {
            "accuracy": mean_metric(right.sum(), len(targets_N)),
            "loss_first_level": mean_metric(losses_N[first_N].sum(), first_N.sum()),
        }
        if not self._settings.level_weights:
            return Loss(losses_N.sum(), learned_BSK.sum(), metrics)
        weights_N = losses_N.new_tensor(self._settings.level_weights)[levels_N]
        return Loss((weights_N * losses_N).sum(), weights_N.sum(), metrics)

    def _levels_of(self, learned_BSK: Tensor) -> Tensor:
        """The codebook (N,) of each token that is learned."""
        levels_SK = self.network.pattern.levels(learned_BSK.shape[1]).to(learned_BSK.device)
        return levels_SK.expand_as(learned_BSK)[learned_BSK]

    def _hidden(self, tokens_BSK: Tensor, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Masks of what the decoder sees in training: codes (B, S, K) and texts (B,), bool; None: all of them."""

        def kept(share: float, *shape: int) -> Tensor | None:
            if not (self.training and share):
                return None
            return (torch.rand(shape, generator=generator) >= share).to(tokens_BSK.device)

        seen_BSK = kept(self._settings.hidden_tokens, *tokens_BSK.shape)
        if seen_BSK is not None:
            seen_BSK = seen_BSK | (tokens_BSK >= self.network.pattern.start)
        return seen_BSK, kept(self._settings.textless, len(tokens_BSK))

    def samples(self, batch: TextBatch, generator: torch.Generator) -> list[Sample]:
        """The batch's texts spoken, at most twice as long as the recordings, and the recordings."""
        limit = self.network.config.most_frames
        most = [max(1, min(2 * frames, limit)) for frames in batch.lengths_B.tolist()]
        decoding = self._settings.options().decoding(
            self.network.pattern, self.data.sample_rate / self.data.hop_length
        )
        seeds = row_seeds(generator, len(most))
        spoken = generate_codes(self.network, batch.text_BL, batch.text_mask_BL, most, decoding, seeds)
        recorded = Codes(batch.codes_BQT, batch.lengths_B)
        return [
            *self.heard(batch.ids, "generated", codes_of(spoken)),
            *self.heard(batch.ids, "recorded", recorded),
        ]


@contextmanager
def _dropout_from(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed dropout, which draws from torch's own state: a continued training draws what a straight one does."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {"toktts": TokTTSObjective}
