"""Reading a directory that transformers' `save_pretrained` wrote, with nothing missing and nothing left over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from models.building import no_larger_than
from models.codecs import files


def read_pretrained(
    model_class: str, directory: Path, unused: Callable[[str], bool] = lambda _name: False, **changes: Any
) -> tuple[Any, str]:
    """The model in eval mode, float32 and without gradients, and the sha256 of model.safetensors.

    `changes` replace values of config.json; weights whose names are `unused` may be left over. Weights kept as
    direction and length are multiplied out. FileNotFoundError or ValueError names the file that is missing or wrong.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    refusals = (SafetensorError, StrictDataclassError, RuntimeError, OSError, TypeError, ValueError)
    weights = directory / files.WEIGHTS
    files.require(directory / files.CONFIG)
    files.require(weights)
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        with _quiet(), no_larger_than(weights.stat().st_size):
            model, report = getattr(transformers, model_class).from_pretrained(
                directory, **options, **changes
            )
    except refusals as error:
        raise ValueError(f"{directory} cannot be read: {' '.join(str(error).split())}") from error
    _check(report, unused, weights)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return plain(model), digest


def plain(model: nn.Module) -> nn.Module:
    """The model in eval mode, float32 and without gradients, directions and lengths of weights multiplied out."""
    for module in model.modules():
        convolution = isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
        if convolution and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return model.float().eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no report of what did not fit, which is an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check(report: dict[str, Any], unused: Callable[[str], bool], weights: Path) -> None:
    wrong = {
        name: sorted(map(str, report[f"{name}_keys"])) for name in ("missing", "unexpected", "mismatched")
    }
    wrong["unexpected"] = [key for key in wrong["unexpected"] if not unused(key)]
    if any(wrong.values()):
        described = "; ".join(f"{name} keys {', '.join(keys)}" for name, keys in wrong.items() if keys)
        raise ValueError(f"{weights} does not fit its {files.CONFIG}: {described}")
