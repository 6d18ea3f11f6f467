"""MaskGCT without semantic tokens: text -> codebook 0 -> all codebooks -> waveform.

After choiHkk/maskgct@6048485. Differences: rows have their own lengths, prompts and random streams; a row without a
voice prompt has no prompt at all (`no_prompt: pad_frame` gives it the reference's one frame of padding).
Shapes: B rows, L text tokens, P prompt frames, T frames, Q codebooks.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.codecs.interface import Codec, Codes, Wave
from models.families import load_generator
from models.layers.masks import length_mask
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.sampling import Conditions, generate_s2a, generate_t2s
from models.maskgct.t2s import MaskGCTT2S
from models.prompt import Prompt, check_prompt, prompt_length, prompt_samples
from models.sampling.draws import RowDraws, row_seeds
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice
from models.text.front_ends import TextFrontEnd, text_front_end


@dataclass(frozen=True)
class MaskGCTOptions:
    """How a system speaks; the sampling defaults are those of the published example."""

    frames_per_token: float = 8.0
    """Length of a sentence without a prompt: published are 8 to 16; an assembled system has its dataset's mean."""
    speed: float = 1.0
    """Above 1 speaks faster. Not used with an explicit length."""
    t2s_steps: int = 50
    s2a_steps: tuple[int, ...] = (20, 10, 1)
    """Steps of each codebook, the last one for all that follow; the entry of codebook 0 is not used."""
    temperature: float = 0.5
    filter_threshold: float = 0.98
    guidance: float = 1.0
    """0 switches it off, which is twice as fast."""
    rescale: float = 1.0
    no_prompt: Literal["none", "pad_frame"] = "none"
    max_prompt_s: float = 30.0
    max_text_tokens: int = 4096
    """Of one sentence and its prompt's text."""
    max_frames: int = 4096
    """Of one sentence."""

    def __post_init__(self) -> None:
        positive = ("frames_per_token", "speed", "t2s_steps", "max_prompt_s", "max_text_tokens", "max_frames")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not self.s2a_steps or min(self.s2a_steps) < 1:
            raise ValueError(
                f"s2a_steps is {list(self.s2a_steps)}; it needs at least one entry, each at least 1"
            )
        if self.no_prompt not in ("none", "pad_frame"):
            raise ValueError(f"no_prompt is {self.no_prompt!r}; it must be 'none' or 'pad_frame'")
        self.choice()
        self.guide()

    def choice(self) -> TokenChoice:
        """How codes are drawn."""
        return TokenChoice(self.temperature, self.filter_threshold)

    def guide(self) -> Guidance:
        """How guidance acts."""
        return Guidance(self.guidance, self.rescale)

    def steps_of(self, n_codebooks: int) -> list[int]:
        """Steps of every codebook."""
        given = list(self.s2a_steps[:n_codebooks])
        return given + [given[-1]] * (n_codebooks - len(given))


def options_from(values: Mapping[str, Any], base: MaskGCTOptions | None = None) -> MaskGCTOptions:
    """`base` (default: the published ones) with `values` in place; ValueError for a name it does not have."""
    known = [field.name for field in dataclasses.fields(MaskGCTOptions)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of maskgct; known: {', '.join(known)}")
    cleaned: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return dataclasses.replace(base or MaskGCTOptions(), **cleaned)


class MaskGCTSystem:
    """Text, with or without a voice prompt, to speech."""

    def __init__(
        self, codec: Codec, front_end: TextFrontEnd, t2s: MaskGCTT2S, s2a: MaskGCTS2A, options: MaskGCTOptions
    ) -> None:
        self.codec, self.front_end, self.t2s, self.s2a, self.options = (
            codec,
            front_end,
            t2s.eval(),
            s2a.eval(),
            options,
        )
        self.device = next(t2s.parameters()).device
        for name, config in (("t2s", t2s.config), ("s2a", s2a.config)):
            if config.codebook_size != codec.codebook_size:
                raise ValueError(
                    f"{name} has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
                )
            # Published text tables are padded to round sizes.
            if config.text_vocab_size < front_end.vocab_size:
                raise ValueError(
                    f"{name} has a text table of {config.text_vocab_size} rows; "
                    f"the text front end needs {front_end.vocab_size}"
                )
        if s2a.config.n_codebooks != codec.n_codebooks:
            raise ValueError(f"s2a has {s2a.config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")

    @classmethod
    def load(
        cls, directory: Path, description: Mapping[str, Any], codec: Codec, device: torch.device
    ) -> "MaskGCTSystem":
        """Build it from a system directory."""
        parts: dict[str, Any] = {}
        for name, kind in (("t2s", MaskGCTT2S), ("s2a", MaskGCTS2A)):
            if name not in description["generators"]:
                raise ValueError(f"{directory}: a maskgct system needs the generator {name!r}")
            family, module = load_generator(directory / description["generators"][name])
            if not isinstance(module, kind):
                raise ValueError(f"{directory}: generator {name} is a {family}; it must be a maskgct_{name}")
            parts[name] = module.to(device)
        front_end = text_front_end(description["text"], directory)
        return cls(codec, front_end, parts["t2s"], parts["s2a"], options_from(description["options"]))

    def check(
        self, text: str, prompt: Prompt | None, target_length: int | None = None, **sampling: Any
    ) -> None:
        """Raise ValueError with one line if `synthesize` would refuse this row."""
        options = options_from(sampling, self.options)
        if not text.strip():
            raise ValueError("text is empty; there is nothing to speak")
        if prompt is not None:
            check_prompt(prompt, options.max_prompt_s)
        n_tokens = len(self.front_end.encode(_spoken(text, prompt)))
        if n_tokens > options.max_text_tokens:
            raise ValueError(
                f"text {_start(text)!r} has {n_tokens} tokens with its prompt's; "
                f"the most is {options.max_text_tokens} (max_text_tokens)"
            )
        self._length(text, prompt, target_length, options)

    @torch.no_grad()
    def synthesize(
        self,
        texts: Sequence[str],
        prompts: Sequence[Prompt | None] | None = None,
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        target_lengths: Sequence[int | None] | None = None,
        **sampling: Any,
    ) -> list[Wave]:
        """Speak `texts`, each in the voice of its prompt if it has one.

        `generator` is one for all rows (each takes one seed from it) or one a row. `target_lengths` are frames;
        None follows the duration rule. `sampling` overrides `MaskGCTOptions`. ValueError for a row that cannot be
        spoken. Returns one Wave of one row for each text, the prompt not included.
        """
        options = options_from(sampling, self.options)
        given = list(prompts) if prompts is not None else [None] * len(texts)
        wanted = list(target_lengths) if target_lengths is not None else [None] * len(texts)
        rows = list(zip(texts, given, wanted, strict=True))
        for text, prompt, target_length in rows:
            self.check(text, prompt, target_length, **sampling)
        lengths = [self._length(*row, options) for row in rows]
        prompt_codes = self._prompt_codes(given)
        codes = self._codes(texts, given, prompt_codes, lengths, _seeds(generator, len(texts)), options)
        wave = self.codec.decode(codes)
        return [
            Wave(
                wave.wave_BT[row : row + 1, : int(samples)].cpu(),
                wave.lengths_B[row : row + 1].cpu(),
                wave.sample_rate,
            )
            for row, samples in enumerate(wave.lengths_B)
        ]

    def _codes(
        self,
        texts: Sequence[str],
        prompts: Sequence[Prompt | None],
        prompt_codes: Sequence[Tensor],
        lengths: list[int],
        seeds: list[int],
        options: MaskGCTOptions,
    ) -> Codes:
        spoken = [_spoken(text, prompt) for text, prompt in zip(texts, prompts, strict=True)]
        tokens = [torch.tensor(self.front_end.encode(text)) for text in spoken]
        text_BL, text_mask_BL = _padded(tokens, self.device)
        prompt_BPQ, prompt_mask_BP = _padded(
            [self._no_prompt(options) if not len(codes) else codes for codes in prompt_codes], self.device
        )
        conditions = Conditions(text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, lengths)
        draws = RowDraws(seeds, self.device)
        choice, guidance = options.choice(), options.guide()
        first_BT = generate_t2s(self.t2s, conditions, options.t2s_steps, choice, guidance, draws)
        steps = options.steps_of(self.codec.n_codebooks)
        codes_BTQ = generate_s2a(self.s2a, conditions, first_BT[..., None], steps, choice, guidance, draws)
        return Codes(codes_BTQ.transpose(1, 2), torch.tensor(lengths, device=self.device))

    def _prompt_codes(self, prompts: Sequence[Prompt | None]) -> list[Tensor]:
        """Codes (P, Q) of each prompt, empty without one; rows that share a prompt share its codes."""
        known: dict[int, Tensor] = {}
        for prompt in prompts:
            if prompt is not None and id(prompt) not in known:
                samples_T = prompt_samples(prompt, self.codec.sample_rate).to(self.device)
                codes = self.codec.encode(samples_T[None], torch.tensor([len(samples_T)], device=self.device))
                known[id(prompt)] = codes.codes_BQT[0, :, : int(codes.lengths_B[0])].T
        empty = torch.zeros(0, self.codec.n_codebooks, dtype=torch.int64)
        return [empty if prompt is None else known[id(prompt)] for prompt in prompts]

    def _no_prompt(self, options: MaskGCTOptions) -> Tensor:
        frames = 1 if options.no_prompt == "pad_frame" else 0
        return torch.full((frames, self.codec.n_codebooks), self.codec.codebook_size)

    def _length(
        self, text: str, prompt: Prompt | None, target_length: int | None, options: MaskGCTOptions
    ) -> int:
        """Frames to generate: the wanted ones, else as long a byte as in the prompt, else a constant a token."""
        if target_length is not None:
            frames = float(target_length)
        elif prompt is not None:
            prompt_frames = math.ceil(prompt_length(prompt, self.codec.sample_rate) / self.codec.hop_length)
            frames = prompt_frames / len((prompt.text or "").encode()) * len(text.encode()) / options.speed
        else:
            frames = len(self.front_end.encode(text)) * options.frames_per_token / options.speed
        if not 1 <= frames < options.max_frames + 1:
            raise ValueError(
                f"text {_start(text)!r} asks for {int(frames)} frames; allowed are 1 to {options.max_frames}"
            )
        return int(frames)


def _spoken(text: str, prompt: Prompt | None) -> str:
    return text if prompt is None else f"{prompt.text} {text}"


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def _seeds(generator: torch.Generator | Sequence[torch.Generator], n_rows: int) -> list[int]:
    if isinstance(generator, torch.Generator):
        return row_seeds(generator, n_rows)
    if len(generator) != n_rows:
        raise ValueError(f"{len(generator)} generators for {n_rows} texts; give one, or one a text")
    return [row_seeds(one, 1)[0] for one in generator]


def _padded(rows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (n, ...) of different n as (B, N, ...) and their mask (B, N)."""
    padded = pad_sequence([row.to(device) for row in rows], batch_first=True)
    return padded, length_mask(torch.tensor([len(row) for row in rows], device=device), padded.shape[1])
