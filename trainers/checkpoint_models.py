"""One MLflow LoggedModel for each checkpoint that is kept, so that checkpoints compare by their figures in the UI."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PATH, _BEST = "checkpoint", "best"


class CheckpointModels:
    """Keeps the logged models of a run in step with its checkpoints; the files stay where they are."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def saved(self, step: int, path: Path, best: bool, figures: Mapping[str, float]) -> None:
        """Log the checkpoint at `path` with its validation figures, and delete the models of those that are gone.

        The best one so far stays, also where only `best.pt` still links to it.
        """
        from mlflow.entities import Metric

        experiment = self._client.get_run(self._run_id).info.experiment_id
        tags = {_PATH: str(path), "step": str(step), _BEST: str(best).lower()}
        model = self._client.create_logged_model(
            experiment, f"step-{step:08d}", source_run_id=self._run_id, tags=tags
        )
        now_ms = int(time.time() * 1000)
        found = [Metric(name, value, now_ms, step, model.model_id) for name, value in figures.items()]
        self._client.log_batch(self._run_id, metrics=found)
        self._client.finalize_logged_model(model.model_id, "READY")
        self._delete_dropped(experiment, model.model_id if best else None)

    def _delete_dropped(self, experiment: str, best: str | None) -> None:
        """`best` is the newest model if it is the best one; otherwise an earlier one still is."""
        query = f"source_run_id = '{self._run_id}'"
        for model in self._client.search_logged_models([experiment], query):
            path = model.tags.get(_PATH)
            if path is None or model.model_id == best:
                continue
            was_best = model.tags.get(_BEST) == "true"
            if was_best and best is not None:
                self._client.set_logged_model_tags(model.model_id, {_BEST: "false"})
            if not Path(path).exists() and (best is not None or not was_best):
                self._client.delete_logged_model(model.model_id)
