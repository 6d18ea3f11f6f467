"""VALL-E's system: text and a voice prompt -> the first level until it stops -> the other levels -> waveform.

After e-c-k-e-r/vall-e (2023-08). Differences: keys and values are kept; rows have their own lengths, prompts and
random streams, and say why they end.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints import Json
from models.codecs.interface import Codec, Codes, Wave
from models.layers.masks import pad_rows
from models.manifest import Parts
from models.prompt import PerPrompt, Prompt, check_prompt, codes_of, prompt_codes, prompt_samples
from models.sampling.autoregressive import Continuation
from models.sampling.draws import RowDraws, row_seeds
from models.settings import replaced
from models.system import Capability, ConvertRequest, SpeakRequest, Speech, System, rows_of
from models.tasks import EDITING, SPEAK, TASK_TOKENS, TASKS, VOICED, check_tokens, task_prompt
from models.text.front_ends import TextFrontEnd
from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR
from models.valle.options import ValleOptions
from models.valle.sampling import Conditions, generate_first_level, generate_other_levels


class ValleSystem(System):
    """Text, with or without a voice prompt, to speech."""

    name = "valle"

    def __init__(
        self,
        codec: Codec,
        front_end: TextFrontEnd,
        ar: ValleAR,
        nar: ValleNAR | None,
        options: ValleOptions,
    ) -> None:
        """ValueError for parts that do not fit together. Without `nar` the first level is all that is heard."""
        self.codec, self.front_end, self.options = codec, front_end, options
        self.ar, self.nar = ar.eval(), None if nar is None else nar.eval()
        self.device = ar.separator_D.device
        for role, network in {"ar": ar, "nar": nar}.items():
            if network is not None:
                self._check(role, network)
        tokens = min(one.config.n_task_tokens for one in (ar, nar) if one is not None)
        can: list[Capability] = ["speak", "convert"] if tokens >= len(TASK_TOKENS) else ["speak"]
        self.capabilities = frozenset(can)
        if nar is not None and nar.config.n_codebooks > codec.n_codebooks:
            raise ValueError(f"nar has {nar.config.n_codebooks} codebooks; the codec has {codec.n_codebooks}")

    def speak(self, options: Mapping[str, Json]) -> SpeakTask:
        """Text to speech with `options` in place of the system's own; ValueError for one that it does not have."""
        bound = replaced(self.options, options, "the options of valle")
        for network in (self.ar, self.nar):
            if network is not None:
                check_tokens(bound.task, network.config.n_task_tokens)
        return SpeakTask(self, bound)

    def convert(self, options: Mapping[str, Json]) -> ConvertTask:
        """Voice conversion, the task svc. ValueError as `speak`, and for networks without its token."""
        if "convert" not in self.capabilities:
            raise ValueError(self._cannot("convert", options))
        return ConvertTask(self.speak({**options, "task": "svc"}))

    def _check(self, role: str, network: ValleAR | ValleNAR) -> None:
        config, codec, front_end = network.config, self.codec, self.front_end
        if config.codebook_size != codec.codebook_size:
            raise ValueError(
                f"{role} has codebooks of {config.codebook_size}; the codec's have {codec.codebook_size}"
            )
        # Published text tables have as many rows as a codebook.
        if config.text_vocab_size < front_end.vocab_size:
            raise ValueError(
                f"{role} has a text table of {config.text_vocab_size} rows; "
                f"the text front end needs {front_end.vocab_size}"
            )


def build(parts: Parts) -> ValleSystem:
    """Put the loaded parts together. ValueError for parts that do not fit."""
    ar, nar = parts.generators["ar"], parts.generators.get("nar")
    assert isinstance(ar, ValleAR)
    assert nar is None or isinstance(nar, ValleNAR)
    assert parts.text is not None
    options = replaced(ValleOptions(), parts.options, "the options of valle")
    return ValleSystem(parts.codec, parts.text, ar, nar, options)


@dataclass(frozen=True, eq=False)
class TaskSource:
    """The recording that a task works on, at the codec's rate."""

    wave_T: Tensor
    edit: tuple[int, int] | None
    """Frames that are to be said anew."""
    n_frames: int

    def prompt(self, task: str, codec: Codec) -> Tensor:
        """The task's prompt (P, Q); what is to be said anew is silence when the rest is encoded."""
        wave_T = self.wave_T.clone()
        if self.edit is not None:
            first, last = (frame * codec.hop_length for frame in self.edit)
            wave_T[first:last] = 0.0
        return task_prompt(task, codes_of(wave_T, codec), codec.codebook_size, self.edit).T


@dataclass(frozen=True)
class PreparedSpeech:
    """A checked request."""

    tokens: tuple[int, ...]
    first_level_tokens: tuple[int, ...]
    """What the first network reads: the same, or with the prompt's text before it."""
    max_frames: int
    prompt: Prompt | None
    source: TaskSource | None = None


class SpeakTask:
    """Text to speech with its options bound."""

    def __init__(self, system: ValleSystem, options: ValleOptions) -> None:
        self._system, self._options = system, options
        self._prompt_codes = PerPrompt(lambda prompt: prompt_codes(prompt, system.codec).T)
        self._frame_rate = system.codec.identity.frame_rate
        self.options: Mapping[str, Json] = dataclasses.asdict(options)

    def prepare(self, request: SpeakRequest) -> PreparedSpeech:
        """Tokenise and bound the length. ValueError with one line for a request that cannot be spoken."""
        options, prompt = self._options, request.prompt
        source = self._source(request)
        if not request.text.strip() and (source is None or source.edit is not None):
            raise ValueError("text is empty; there is nothing to speak")
        if prompt is not None:
            check_prompt(prompt, options.max_prompt_s, needs_text=options.prompt_use == "continue")
        elif options.prompts == "required":
            raise ValueError("there is no prompt; a recording of the voice is required (prompts)")
        tokens = self._system.front_end.encode(request.text, request.language, request.phones)
        first = self._with_prompt_text(request) if options.prompt_use == "continue" and prompt else tokens
        if len(first) > options.max_text_tokens:
            raise ValueError(
                f"text {_start(request.text)!r} has {len(first)} tokens; "
                f"the most is {options.max_text_tokens} (max_text_tokens)"
            )
        most = self._max_frames(request, len(tokens), source)
        return PreparedSpeech(tuple(tokens), tuple(first), most, prompt, source)

    @torch.no_grad()
    def run(self, prepared: Sequence[PreparedSpeech], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Speak prepared sentences together; the prompt is not part of the result."""
        system = self._system
        nothing = torch.zeros(0, system.codec.n_codebooks, dtype=torch.int64, device=system.device)
        prompts = [
            torch.cat(
                [
                    nothing if one.prompt is None else self._prompt_codes(one.prompt).to(system.device),
                    nothing
                    if one.source is None
                    else one.source.prompt(self._options.task, system.codec).to(system.device),
                ]
            )
            for one in prepared
        ]
        draws = RowDraws([row_seeds(one, 1)[0] for one in generators], system.device)
        first = self._first_level(prepared, prompts, draws)
        codes_BTQ, lengths_B, levels = self._other_levels(
            prepared, prompts, [one.tokens_N for one in first], draws
        )
        wave = system.codec.decode(Codes(codes_BTQ.transpose(1, 2), lengths_B))
        return [
            Speech(_without_padding(row, len(one.tokens_N)), one.finish_reason, one.evaluations + levels)
            for row, one in zip(rows_of(wave), first, strict=True)
        ]

    def _first_level(
        self, prepared: Sequence[PreparedSpeech], prompts: Sequence[Tensor], draws: RowDraws
    ) -> list[Continuation]:
        ar, maximum = self._system.ar, [one.max_frames for one in prepared]
        given = self._conditions(
            [one.first_level_tokens for one in prepared], prompts, ar.config.prompt_levels
        )
        search = self._options.search(ar.config.codebook_size, maximum, self._frame_rate, draws)
        before_BT, mask_BT = None, None
        if self._options.prompt_use == "continue":
            before_BT, mask_BT = pad_rows([prompt_PQ[:, 0] for prompt_PQ in prompts])
        return generate_first_level(
            ar, given, search, max(maximum), before_BT, mask_BT, run=self._options.step
        )

    def _other_levels(
        self,
        prepared: Sequence[PreparedSpeech],
        prompts: Sequence[Tensor],
        known: Sequence[Tensor],
        draws: RowDraws,
    ) -> tuple[Tensor, Tensor, int]:
        """Codes (B, T, Q), frames (B,) of at least 1, and the passes that it took."""
        nar = self._system.nar
        one_more = [row if len(row) else row.new_zeros(1) for row in known]
        known_BT, mask_BT = pad_rows(one_more)
        lengths_B = mask_BT.sum(1)
        if nar is None:
            return known_BT[..., None], lengths_B, 0
        given = self._conditions([one.tokens for one in prepared], prompts, nar.config.prompt_levels)
        codes_BTQ = generate_other_levels(
            nar, given, known_BT[..., None], lengths_B.tolist(), self._options.levels(), draws
        )
        return codes_BTQ, lengths_B, nar.config.n_codebooks - 1

    def _conditions(
        self, texts: Sequence[Sequence[int]], prompts: Sequence[Tensor], prompt_levels: int
    ) -> Conditions:
        text_BL, text_mask_BL = pad_rows(
            [torch.tensor(tokens, dtype=torch.int64, device=self._system.device) for tokens in texts]
        )
        prompt_BPQ, prompt_mask_BP = pad_rows([prompt_PQ[:, :prompt_levels] for prompt_PQ in prompts])
        return Conditions(text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP)

    def _with_prompt_text(self, request: SpeakRequest) -> list[int]:
        assert request.prompt is not None
        if request.phones is not None:
            raise ValueError(
                "phones are given with a voice prompt to continue, whose phones are not known; give the text alone"
            )
        language = request.language or request.prompt.language
        if request.prompt.language and language != request.prompt.language:
            raise ValueError(
                f"the prompt is in {request.prompt.language!r} and the text in {language!r}; "
                "only a prompt of the same language can be continued"
            )
        return self._system.front_end.encode(f"{request.prompt.text} {request.text}", language)

    def _source(self, request: SpeakRequest) -> TaskSource | None:
        """Check what the task asks for. ValueError with one line for what is missing, or too much."""
        task, codec = self._options.task, self._system.codec
        if task == SPEAK:
            if request.source is not None or request.edit_s is not None:
                raise ValueError(
                    f"a source is given, but the task is {SPEAK}; tasks with one: {', '.join(TASKS)}"
                )
            return None
        if request.source is None:
            raise ValueError(f"task {task} needs a source: the recording that it works on")
        if (request.prompt is not None) != (task in VOICED):
            raise ValueError(f"task {task} {'needs a' if task in VOICED else 'has no'} voice prompt")
        if (request.edit_s is not None) != (task in EDITING):
            raise ValueError(
                f"task {task} {'needs a' if task in EDITING else 'has no'} part to edit (edit_s)"
            )
        if request.edit_s is not None and codec.identity.chunk_frames:
            raise ValueError(f"task {task}: {codec.name} codes overlapping chunks, which are not edited")
        source = Prompt(request.source)
        check_prompt(source, self._options.max_prompt_s, needs_text=False, what="source")
        wave_T = prompt_samples(source, codec.sample_rate).to(self._system.device)
        n_frames = -(-len(wave_T) // codec.hop_length)
        if request.edit_s is None:
            return TaskSource(wave_T, None, n_frames)
        first, last = (round(at * self._frame_rate) for at in request.edit_s)
        if not 0 <= first < last <= n_frames:
            raise ValueError(
                f"edit_s is {list(request.edit_s)}; it must be two times within the source, which has "
                f"{n_frames / self._frame_rate:.2f} s"
            )
        return TaskSource(wave_T, (first, last), n_frames)

    def _max_frames(self, request: SpeakRequest, n_tokens: int, source: TaskSource | None) -> int:
        """The most frames: those of the given length, else of the source, else by the text."""
        options = self._options
        if request.duration_s is None and source is not None:
            first, last = source.edit or (0, 0)
            frames = source.n_frames - (last - first) + (options.frames(n_tokens) if source.edit else 0)
            if source.n_frames > options.max_ar_steps:
                raise ValueError(
                    f"source has {source.n_frames} frames; the most is {options.max_ar_steps} (max_ar_steps)"
                )
            return min(frames, options.max_ar_steps)
        if request.duration_s is None:
            return options.frames(n_tokens)
        frames = round(request.duration_s * self._frame_rate)
        if not 1 <= frames <= options.max_ar_steps:
            raise ValueError(
                f"duration_s is {request.duration_s:g}, which is {frames} frames; "
                f"allowed are 1 to {options.max_ar_steps} (max_ar_steps)"
            )
        return frames


class ConvertTask:
    """Voice conversion as a speech task: the source's words in the voice of the reference."""

    def __init__(self, task: SpeakTask) -> None:
        self._task, self.options = task, task.options

    def prepare(self, request: ConvertRequest) -> PreparedSpeech:
        """See `SpeakTask.prepare`."""
        return self._task.prepare(SpeakRequest("", prompt=request.reference, source=request.source))

    def run(self, prepared: Sequence[PreparedSpeech], generators: Sequence[torch.Generator]) -> list[Speech]:
        """See `SpeakTask.run`."""
        return self._task.run(prepared, generators)


def _without_padding(wave: Wave, frames: int) -> Wave:
    """Nothing where the network stopped at once."""
    return wave if frames else Wave(wave.wave_BT[:, :0], torch.zeros_like(wave.lengths_B), wave.sample_rate)


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
