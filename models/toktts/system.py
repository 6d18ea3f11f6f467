"""toktts as a system: text -> codes of the codec's first levels -> waveform. It has one voice, that of its data.

Shapes: B rows, L text tokens, Q levels, T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes
from models.layers.masks import pad_rows
from models.manifest import Parts
from models.sampling.draws import row_seeds
from models.settings import replaced
from models.system import Capability, SpeakRequest, Speech, System, refuse_source, rows_of
from models.text.front_ends import TextFrontEnd
from models.toktts.network import TokTTS
from models.toktts.options import TokTTSOptions
from models.toktts.sampling import SpokenCodes, generate_codes


class TokTTSSystem(System):
    """Text to speech without a voice prompt."""

    name = "toktts"
    capabilities: frozenset[Capability] = frozenset({"speak"})

    def __init__(
        self, codec: Codec, front_end: TextFrontEnd, toktts: TokTTS, options: TokTTSOptions | None = None
    ) -> None:
        """ValueError for parts that do not fit together."""
        config = toktts.config
        if config.codebook_size != codec.codebook_size:
            raise ValueError(
                f"toktts has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
            )
        if config.n_codebooks > codec.n_codebooks:
            raise ValueError(f"toktts has {config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")
        if config.text_vocab_size < front_end.vocab_size:
            raise ValueError(
                f"toktts has a text table of {config.text_vocab_size} rows; "
                f"the text front end needs {front_end.vocab_size}"
            )
        self.codec, self.front_end, self.toktts = codec, front_end, toktts.eval()
        self.options = options or TokTTSOptions()
        self.speak({})

    def speak(self, options: Mapping[str, Json]) -> SpeakTask:
        """Text to speech with `options` in place of the system's own; ValueError for one that it does not have."""
        return SpeakTask(self, replaced(self.options, options, "the options of toktts"))


def build(parts: Parts) -> TokTTSSystem:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    toktts = parts.generators["toktts"]
    assert isinstance(toktts, TokTTS)
    assert parts.text is not None
    options = replaced(TokTTSOptions(), parts.options, "the options of toktts")
    return TokTTSSystem(parts.codec, parts.text, toktts, options)


@dataclass(frozen=True)
class Sentence:
    """A checked request."""

    tokens: tuple[int, ...]


class SpeakTask:
    """Text to speech with its options bound."""

    def __init__(self, system: TokTTSSystem, options: TokTTSOptions) -> None:
        """ValueError for options that do not fit the network."""
        codec, network = system.codec, system.toktts
        frame_rate = codec.identity.frame_rate
        self._system = system
        self._decoding = options.decoding(network.pattern, frame_rate)
        self._max_frames = options.max_frames(network.pattern, frame_rate, network.config.most_frames)
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def prepare(self, request: SpeakRequest) -> Sentence:
        """Tokenise. ValueError with one line for a request that cannot be spoken."""
        refuse_source(request, "toktts")
        if request.prompt is not None:
            raise ValueError("toktts has one voice, that of its data; it takes no voice prompt")
        if request.duration_s is not None:
            raise ValueError(
                f"duration_s is {request.duration_s:g}; toktts ends a sentence itself, max_s bounds it"
            )
        if not request.text.strip() and not request.phones:
            raise ValueError("text is empty; there is nothing to speak")
        tokens = self._system.front_end.encode(request.text, request.language, request.phones)
        most = self._system.toktts.config.text_positions
        if len(tokens) > most:
            start = request.text if len(request.text) <= 40 else request.text[:40] + "..."
            raise ValueError(f"text {start!r} has {len(tokens)} tokens; the most is {most} (text_positions)")
        return Sentence(tuple(tokens))

    @torch.no_grad()
    def run(self, prepared: Sequence[Sentence], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Speak prepared sentences together."""
        network = self._system.toktts
        device = network.token_tables_KVD.device
        text_BL, mask_BL = pad_rows([torch.tensor(one.tokens, device=device) for one in prepared])
        seeds = [row_seeds(one, 1)[0] for one in generators]
        most = [self._max_frames] * len(prepared)
        spoken = generate_codes(network, text_BL, mask_BL, most, self._decoding, seeds)
        waves = rows_of(self._system.codec.decode(codes_of(spoken)))
        return [
            Speech(wave, one.finish_reason, one.evaluations) for wave, one in zip(waves, spoken, strict=True)
        ]


def codes_of(spoken: Sequence[SpokenCodes]) -> Codes:
    """Spoken codes as a batch for a codec; a row may have no frames."""
    rows = [one.codes_QT.T for one in spoken]
    # A codec may not take a batch without any frame.
    codes_BTQ, _ = pad_rows(rows, extra=int(not any(len(row) for row in rows)))
    lengths_B = torch.tensor([len(row) for row in rows], device=codes_BTQ.device)
    return Codes(codes_BTQ.transpose(1, 2), lengths_B)
