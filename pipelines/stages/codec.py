"""Waves -> codec codes, in batches of similar length."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catalog.codes import Matrix, stored
from pipelines.audio.containers import Samples
from pipelines.rows import EDIT, PROMPT_SAMPLES, waves, with_column


class CodecStage:
    """Rows in flight -> the same rows with `codes` and `target_length` in the place of `samples`, in the same order.

    A codec's codes for a row depend neither on its batch nor on its padding, so batching is a matter of speed only.
    """

    def __init__(self, name: str, device: str = "cpu", batch_s: float = 10.0, threads: int = 1) -> None:
        """Load the codec; `batch_s` bounds the padded seconds of audio in one call of it."""
        import torch

        from models.codec_sources import load_codec

        if device == "cpu":
            torch.set_num_threads(threads)
        self._codec = load_codec(name, device)
        self._device = device
        self._batch_s = batch_s

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encode every row that has samples; prompts of speech tasks become `prompt_codes`."""
        codes = self._encoded(waves(table))
        frames = [None if one is None else one.shape[1] for one in codes]
        result = with_column(table.drop_columns(["samples"]), "codes", stored(codes))
        result = with_column(result, "target_length", frames)
        return self._with_prompts(result) if PROMPT_SAMPLES in table.column_names else result

    def _with_prompts(self, table: pa.Table) -> pa.Table:
        import torch

        from models.tasks import task_prompt

        prompts: list[Matrix | None] = []
        encoded = self._encoded(waves(table, PROMPT_SAMPLES))
        for codes, task, edit in zip(
            encoded, table["task"].to_pylist(), table[EDIT].to_pylist(), strict=True
        ):
            if codes is None:
                prompts.append(None)
                continue
            codes_QP = torch.from_numpy(np.array(codes))
            part = None if edit is None else (edit[0], edit[1])
            prompts.append(task_prompt(task, codes_QP, self._codec.codebook_size, part).numpy())
        return with_column(table.drop_columns([PROMPT_SAMPLES, EDIT]), "prompt_codes", stored(prompts))

    def _encoded(self, rows: list[Samples | None]) -> list[Matrix | None]:
        codes: list[Matrix | None] = [None] * len(rows)
        for group in buckets(
            [0 if wave is None else len(wave) for wave in rows],
            round(self._batch_s * self._codec.sample_rate),
        ):
            present = [wave for index in group if (wave := rows[index]) is not None]
            for index, encoded in zip(group, self._encode(present), strict=True):
                codes[index] = encoded
        return codes

    def _encode(self, waves: list[Samples]) -> list[Matrix]:
        import torch

        lengths = torch.tensor([len(wave) for wave in waves])
        batch_BT = torch.zeros(len(waves), int(lengths.max()))
        for row, wave in zip(batch_BT, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.array(wave, dtype=np.float32))
        with torch.inference_mode():
            encoded = self._codec.encode(batch_BT.to(self._device), lengths.to(self._device))
        codes_BQT = encoded.codes_BQT.to(torch.int16).cpu().numpy()
        return [
            codes[:, :frames] for codes, frames in zip(codes_BQT, encoded.lengths_B.tolist(), strict=True)
        ]


def buckets(lengths: list[int], limit: int) -> list[list[int]]:
    """Indices of the non-zero lengths, grouped by length so that rows x longest stays within `limit` samples.

    A row longer than `limit` is a group of its own.
    """
    order = sorted(
        (index for index, length in enumerate(lengths) if length), key=lambda index: -lengths[index]
    )
    groups: list[list[int]] = []
    for index in order:
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= limit:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
