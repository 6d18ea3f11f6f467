"""Long rows in pieces: each piece is run with its neighbours as context, so that pieces joined equal the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor


def in_pieces(
    run: Callable[[Tensor], Tensor],
    values: Tensor,
    *,
    piece: int,
    context: int,
    values_per_frame: int = 1,
    outputs_per_frame: int = 1,
    frames: int | None = None,
    lead: int = 0,
) -> Iterator[Tensor]:
    """Yield what `run` makes of consecutive frames, `piece` of them at a time.

    `values` (..., T) hold `values_per_frame` a frame, the outputs (..., T') `outputs_per_frame`. `run` gets `context`
    more frames on either side, fewer only where the values end, so edges are as if all had been run at once. `frames`
    bounds the frames wanted, what lies behind is context; None: all, the last piece's outputs to their very end.
    `lead` frames before the first one are context too.
    """
    wanted = -(-values.shape[-1] // values_per_frame) - lead if frames is None else frames
    for start in range(0, wanted, piece):
        stop = min(wanted, start + piece)
        begin, end = max(-lead, start - context), stop + context
        given = values[..., (begin + lead) * values_per_frame : (end + lead) * values_per_frame]
        last = None if frames is None and stop == wanted else (stop - begin) * outputs_per_frame
        yield run(given)[..., (start - begin) * outputs_per_frame : last]
