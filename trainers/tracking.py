"""The MLflow run of a fit: made once, continued on restart, written by rank 0 without holding up a step."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from catalog.command import JobError
from catalog.files import write_text
from catalog.models import experiment_id, tracking_uri
from catalog.outward import say, without_secrets
from catalog.tracking_store import check_place, client_of, make_store, sqlite_file
from models.checkpoints import Record, Values
from trainers.checkpoint_models import CheckpointModels
from trainers.loop_config import Hooks
from trainers.objectives import Sample
from trainers.settings import TrackingSettings
from trainers.speech_quality import pairs
from trainers.wav import wav_bytes

RECORD = "mlflow_run.json"
_PARAMETERS_PER_CALL = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReference:
    """Location of a run: enough for another process to write to it."""

    uri: str
    run_id: str


def open_run(
    settings: TrackingSettings, directory: Path, name: str, saved_run_id: str | None
) -> RunReference:
    """The run of this run directory: the one noted there or in its checkpoint, otherwise a new one. Raises JobError."""
    uri = tracking_uri(settings.uri)
    check_place(uri)
    with _refusals_named(uri):
        return _opened(uri, settings, directory, name, saved_run_id)


@contextmanager
def _refusals_named(uri: str) -> Iterator[None]:
    """JobError with the store's URI and its reason for what it refuses before a training begins."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise JobError(f"tracking URI {without_secrets(uri)!r}: {_reason(error)}") from error


def _opened(
    uri: str, settings: TrackingSettings, directory: Path, name: str, saved_run_id: str | None
) -> RunReference:
    from mlflow.exceptions import MlflowException

    with _alone(uri):
        make_store(uri)
        client = client_of(uri)
        client.get_experiment_by_name(settings.experiment)
    record = directory / RECORD
    known = json.loads(record.read_text())["run_id"] if record.exists() else saved_run_id
    if known is not None:
        try:
            client.update_run(known, status="RUNNING")
            return RunReference(uri, known)
        except MlflowException as error:
            _log.warning(
                "MLflow run %s is not in %s, a new one is made: %s",
                known,
                without_secrets(uri),
                without_secrets(error.message),
            )
    experiment = experiment_id(client, settings.experiment)
    run = client.create_run(experiment, run_name=settings.run_name or name)
    write_text(record, json.dumps({"tracking_uri": without_secrets(uri), "run_id": run.info.run_id}))
    return RunReference(uri, run.info.run_id)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Two trainings that start together must not both migrate a fresh SQLite store."""
    store = sqlite_file(uri)
    if store is None:
        yield
        return
    lock = store.with_name(f"{store.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def close_run(run: RunReference, status: str) -> None:
    """Set the run's status: FINISHED, FAILED or KILLED. A server that is away is a warning."""
    try:
        client_of(run.uri).set_terminated(run.run_id, status)
    except Exception as error:  # noqa: BLE001 - the training is over, and its result must not be lost
        say(f"MLflow run {run.run_id}: {_reason(error)}")


class Tracker:
    """Writes to one run from a thread of its own; a tracking failure is a warning, never the end of a training."""

    def __init__(self, run: RunReference) -> None:
        self.run = run
        self._client = client_of(run.uri)
        self._models = CheckpointModels(self._client, run.run_id)
        self._failed = 0
        self._figures: tuple[int, Mapping[str, float]] = (-1, {})
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def hooks(self) -> Hooks:
        """Metrics at each log entry; WAV files and spectrograms (pairs together) at each validation; a logged model
        with the validation's metrics at each checkpoint.
        """
        return Hooks(on_log=self.log_metrics, on_validate=self._validated, on_checkpoint=self._saved)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """All metrics of one step in one call."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        found = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        self._tasks.put(lambda: self._client.log_batch(self.run.run_id, metrics=found))

    def log_settings(self, settings: Values, text: str) -> None:
        """The resolved configuration, flattened to parameters and as `config.yaml`; parameters are written once.

        Raises JobError.
        """
        from mlflow.entities import Param

        with _refusals_named(self.run.uri):
            known = self._client.get_run(self.run.run_id).data.params
            found = [
                Param(key, str(value)[:500]) for key, value in _flat(settings).items() if key not in known
            ]
            for at in range(0, len(found), _PARAMETERS_PER_CALL):
                self._client.log_batch(self.run.run_id, params=found[at : at + _PARAMETERS_PER_CALL])
            self._client.log_text(self.run.run_id, text, "config.yaml")

    def log_dataset(self, uri: str, version: int | None, digest: str, profile: Values) -> None:
        """The dataset version as an input of the run. Raises JobError."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name = uri.rstrip("/").rsplit("/", 1)[-1]
        source = json.dumps({"uri": uri, "version": version})
        dataset = Dataset(name, digest[:36], "delta_table", source, profile=json.dumps(profile))
        tags = [InputTag("mlflow.data.context", "training"), InputTag("version", str(version))]
        noted = {"dataset": uri, "dataset_version": str(version), "dataset_digest": digest}
        with _refusals_named(self.run.uri):
            self._client.log_inputs(self.run.run_id, [DatasetInput(dataset, tags)])
            for key, value in noted.items():
                self._client.set_tag(self.run.run_id, key, value)

    def close(self) -> None:
        """Write what is waiting."""
        self._tasks.put(None)
        self._thread.join()
        if self._failed > 1:
            say(f"MLflow run {self.run.run_id}: {self._failed} of its entries could not be written")

    def _validated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        # Logged with the checkpoint, which is saved at once.
        self._figures = (step, dict(metrics))
        kept = [Sample(sample.name, sample.wave_T.detach().cpu(), sample.sample_rate) for sample in samples]
        self._tasks.put(lambda: self._log_samples(step, kept))

    def _saved(self, step: int, path: Path, best: bool) -> None:
        validated, figures = self._figures
        found = figures if validated == step else {}
        self._tasks.put(lambda: self._models.saved(step, path, best, found))

    def _log_samples(self, step: int, samples: Sequence[Sample]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for sample in samples:
                path = Path(folder) / f"{_file_name(sample.name)}.wav"
                path.write_bytes(wav_bytes(sample.wave_T, sample.sample_rate))
            for name, shown in pictures(samples).items():
                (Path(folder) / f"{_file_name(name)}.png").write_bytes(spectrogram_png(shown))
            if samples:
                self._client.log_artifacts(self.run.run_id, folder, f"samples/step-{step:08d}")

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._guarded(task)

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - a tracking server that is away must not end a training
            if not self._failed:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                say(
                    f"MLflow run {self.run.run_id}: {reason}; the training goes on, what fails is not in the run"
                )
            self._failed += 1


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong; SQLAlchemy begins with how it came about."""
    lines = [line for line in str(error).splitlines() if not line.startswith("(raised as a result")]
    return (lines or [type(error).__name__])[0]


def pictures(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Pictures by name: an original above its reconstruction as `pair-...`, others alone."""
    together = pairs(samples)
    paired = {sample.name for pair in together.values() for sample in pair}
    alone = {sample.name: [sample] for sample in samples if sample.name not in paired}
    return {**{f"pair-{key}": list(pair) for key, pair in together.items()}, **alone}


def spectrogram_png(samples: Sequence[Sample]) -> bytes:
    """Log-magnitude spectrograms, one below the other, 80 dB deep from the loudest of the first; time in s, kHz."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(samples)), layout="constrained")
    FigureCanvasAgg(figure)
    spectra = [_spectrum(sample.wave_T) for sample in samples]
    for at, (sample, spectrum_FT) in enumerate(zip(samples, spectra, strict=True)):
        level_FT = 20 * torch.log10(spectrum_FT / spectra[0].max().clamp(min=1e-9) + 1e-9)
        axes = figure.add_subplot(len(samples), 1, at + 1)
        extent = (0.0, len(sample.wave_T) / sample.sample_rate, 0.0, sample.sample_rate / 2000)
        axes.imshow(level_FT.numpy(), origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0)
        axes.set_title(sample.name)
        axes.set_xlabel("time (s)")
        axes.set_ylabel("frequency (kHz)")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _spectrum(wave_T: Tensor) -> Tensor:
    """Magnitudes of a 1024-point window every 256 samples."""
    padded_T = torch.nn.functional.pad(wave_T.float().cpu(), (0, max(0, 1024 - len(wave_T))))
    return torch.stft(padded_T, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _flat(mapping: Values, prefix: str = "") -> Record:
    found: Record = {}
    for key, value in mapping.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
