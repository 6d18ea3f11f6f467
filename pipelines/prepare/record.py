"""The record of a run of `prepare` in `_settings` of the dataset: for people, for `repair` and for training."""

from __future__ import annotations

from catalog.datasets import Dataset
from catalog.outward import say
from catalog.runs import newest_record
from catalog.strict_yaml import format_yaml
from models.text import espeak
from models.text.verbalize import EDITION
from pipelines.prepare.settings import PrepareSettings
from pipelines.sources.licence import stated_licence


def record(dataset: Dataset, source: str, settings: PrepareSettings, run_id: str, holds_rows: bool) -> None:
    """Write source and settings, the source's licence, and the versions of what makes normalised text and phonemes.

    Says in one line if numbers in the rows of earlier runs were written out by another edition of the spoken forms.
    """
    found: dict[str, object] = {"source": source, "settings": settings.model_dump(mode="json")}
    if licence := stated_licence(source):
        found["licence"] = licence
    if settings.text.phonemes:
        found["espeak_ng"] = espeak.version()
    if settings.text.normalize:
        found["spoken_forms"] = EDITION
        earlier = newest_record(dataset).get("spoken_forms", "1")
        if holds_rows and earlier != EDITION:
            say(
                f"numbers in new rows are written out by edition {EDITION} of the spoken forms, "
                f"in those of earlier runs by edition {earlier}"
            )
    dataset.storage.write(f"_settings/{run_id}.yaml", format_yaml(found).encode())
