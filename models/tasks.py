"""Speech tasks besides plain speaking, and the prompts that ask for them (SpeechX, arXiv 2308.06873).

A prompt is a matrix of codes, some of whose frames are task tokens: ids behind those of the codebook, the same on all
levels. The numbering is that of e-c-k-e-r/vall-e (2023-08). Preparation, training and speaking build it here.
Shapes: Q levels, P prompt frames, V codes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

SPEAK: Literal["tts"] = "tts"
"""The plain task, which has no token."""
TaskName = Literal["ns", "sr", "tse", "cse", "nse", "svc"]
TASKS: dict[TaskName, str] = {
    "ns": "noise suppression: a noisy recording -> its speech",
    "sr": "speech removal: a noisy recording -> its noise",
    "tse": "target speaker extraction: two voices at once -> the one of the voice prompt",
    "cse": "clean editing: a recording without a part, and the text of the whole -> the whole",
    "nse": "noisy editing: the same with noise, which stays",
    "svc": "voice conversion: a recording -> the same in the voice of the voice prompt",
}
EDITING = ("cse", "nse")
"""Tasks whose recording lacks a part."""
VOICED = ("tse", "svc")
"""Tasks that also need a voice prompt; it stands before the task's own."""

TASK_TOKENS = {
    "ns": "noise suppression",
    "sr": "speech removal",
    "tse": "target speaker extraction",
    "soe": "start of the part to edit",
    "mask": "the part to edit",
    "eoe": "end of the part to edit",
    "svc": "voice conversion",
}
"""Their ids are V, V + 1, ...; plain speech has none."""


def task_frame(name: str, codebook_size: int, n_task_tokens: int, n_levels: int) -> Tensor:
    """The prompt frame (1, Q) of a task token: its id at every level.

    ValueError for a token that is unknown, or for which the network has no row.
    """
    if name not in TASK_TOKENS:
        raise ValueError(f"unknown task token {name!r}; known: {', '.join(TASK_TOKENS)}")
    number = list(TASK_TOKENS).index(name)
    if number >= n_task_tokens:
        raise ValueError(
            f"the task token {name!r} is number {number + 1}; the network has {n_task_tokens} (n_task_tokens)"
        )
    return torch.full((1, n_levels), codebook_size + number)


def task_prompt(
    task: str, codes_QP: Tensor, codebook_size: int, edit: tuple[int, int] | None = None
) -> Tensor:
    """The prompt (Q, P) of a task: its token and the recording's codes.

    With `edit`, frames (first, behind the last) of the part that is to be said anew, which is left out: codes before
    it, three tokens, codes behind it. ValueError for an unknown task, and an edit where there is none to make.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; it must be one of {', '.join(TASKS)}")
    n_levels, n_frames = codes_QP.shape

    def token(name: str) -> Tensor:
        frame = task_frame(name, codebook_size, len(TASK_TOKENS), n_levels)
        return frame.T.to(codes_QP.device, codes_QP.dtype)

    if (edit is not None) != (task in EDITING):
        raise ValueError(f"task {task} {'needs a' if task in EDITING else 'has no'} part to edit")
    if edit is None:
        return torch.cat([token(task), codes_QP], dim=1)
    first, last = edit
    if not 0 <= first < last <= n_frames:
        raise ValueError(f"the part to edit is frames {first} to {last}; the recording has {n_frames}")
    tokens = [token(name) for name in ("soe", "mask", "eoe")]
    return torch.cat([codes_QP[:, :first], *tokens, codes_QP[:, last:]], dim=1)


def check_tokens(task: str, n_task_tokens: int) -> None:
    """ValueError for a task whose tokens a network with so many lacks; `tts` needs none."""
    if task == SPEAK:
        return
    if task not in get_args(TaskName):
        raise ValueError(f"task is {task!r}; it must be one of {SPEAK}, {', '.join(TASKS)}")
    for name in ("soe", "mask", "eoe") if task in EDITING else (task,):
        task_frame(name, 0, n_task_tokens, 1)
