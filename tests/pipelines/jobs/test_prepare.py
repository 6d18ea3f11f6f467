"""`prepare` as a whole, on Ray: everything accounted for, the same codes however it is spread, kill -9 and go on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.upkeep import verify
from pipelines.__main__ import main
from pipelines.execution.cluster import Claim
from pipelines.execution.ray_stream import RecordingBatch, Stage, Step, stream
from pipelines.prepare.job import RunOptions, prepare
from pipelines.prepare.settings import PrepareSettings

REPOSITORY = Path(__file__).resolve().parents[3]


def pcm(**resources: Any) -> PrepareSettings:
    plain = {"codec": {"name": "pcm-16khz"}, "resources": {"device": "cpu", **resources}}
    return PrepareSettings.model_validate(plain)


def rows(dataset: str | Path) -> dict[str, dict[str, Any]]:
    opened = Dataset.open(dataset)
    tables = [pq.ParquetFile(uri).read() for uri in opened.file_uris()]
    found = [row for table in tables for row in table.to_pylist()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


@pytest.fixture(scope="module")
def corpus(speech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 recordings with transcripts, and one that is rejected and comes first."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "000.wav").write_bytes(b"")
    for take, path in itertools.product(range(6), sorted(speech_folder.iterdir())):
        shutil.copy(path, folder / f"{take}-{path.name}")
    return folder


@pytest.fixture(scope="module")
def reference(corpus: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared by one worker in large batches, nothing going wrong."""
    output = tmp_path_factory.mktemp("reference") / "data"
    result = prepare(str(corpus), str(output), pcm(workers=1, encode_batch_s=1000.0))
    assert (result["recordings"], result["utterances"], result["rejected"]) == (37, 36, 1)
    assert (result["new_recordings"], result["dataset"]) == (37, str(output))
    return output


@pytest.mark.ray
def test_kill_9_and_rerun_give_the_same_rows(
    corpus: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: other batches and more workers give the same codes, byte for byte."""
    import ray

    output = tmp_path / "data"
    small = ["--set", "resources.max_batch_bytes=1", "--set", "codec.name=pcm-16khz", "--workers", "2"]
    command = [sys.executable, "-m", "pipelines", "prepare", str(corpus), str(output), *small]
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = next((line for line in child.stderr if "rejected 000.wav" in line), "")
        child.send_signal(signal.SIGKILL)
    assert said, "the job ended before its first result"
    assert child.returncode == -signal.SIGKILL
    done = len(rows(output))
    assert done < 37
    result = prepare(str(corpus), str(output), pcm(workers=2, max_batch_bytes=200_000))
    assert (result["recordings"], result["new_recordings"]) == (37, 37 - done)
    assert rows(output) == rows(reference)
    assert verify(Dataset.open(output)) == []
    known = {Path(uri) for uri in Dataset.open(output).file_uris()}
    assert set(output.rglob("*.parquet")) == known, "what the killed run left behind is gone"
    again = prepare(str(corpus), str(output), pcm())
    assert (again["new_recordings"], again["version"]) == (0, result["version"])


@pytest.mark.ray
def test_every_awkward_recording_is_accounted_for(
    shared_data: Path, ray_session: None, tmp_path: Path
) -> None:
    folder = tmp_path / "awkward"
    shutil.copytree(shared_data / "awkward", folder)
    names = {path.name for path in folder.iterdir() if path.suffix not in (".txt", ".md")}
    given = {name for name in names if (folder / name).with_suffix(".txt").exists()}
    output = tmp_path / "data"
    result = prepare(str(folder), str(output), pcm(workers=1))
    found = rows(output)
    assert set(found) == names
    assert {name for name, row in found.items() if row["reason"] is None} == given
    reasons = [row["reason"] for row in found.values() if row["reason"]]
    counts = {reason: reasons.count(reason) for reason in set(reasons)}
    assert counts == {"missing_text": 14, "unreadable": 5, "empty": 2, "silent": 1}
    assert result["rejected"] == 22
    # A transcript turns up: only its recording is done again, and its rejection is replaced.
    (folder / "sr_french.txt").write_text("et c'est la dictée numéro un", encoding="utf-8")
    assert prepare(str(folder), str(output), pcm(workers=1))["new_recordings"] == 0
    retried = prepare(str(folder), str(output), pcm(workers=1), RunOptions(retry=["missing_text"]))
    assert (retried["recordings"], retried["utterances"], retried["rejected"]) == (40, 19, 21)
    assert rows(output)["sr_french.aiff"]["text"] == "et c'est la dictée numéro un"


@pytest.mark.ray
def test_results_come_before_the_source_ends(ray_session: None) -> None:
    # Defined in here, so that Ray's workers, which cannot import this file, get them by value.
    def endless() -> Iterator[RecordingBatch]:
        for index in itertools.count():
            yield RecordingBatch(index, str(index), pa.table({"value": [index]}))

    def double() -> Callable[[pa.Table], pa.Table]:
        return lambda table: pa.table({"value": [2 * table["value"][0].as_py()]})

    step = Step(Claim("double", 1, 1.0), (Stage(double, {}),))
    results = stream(endless, [step])
    found = {index: table["value"][0].as_py() for index, _, table in itertools.islice(results, 20)}
    assert found == {index: 2 * index for index in found}
    assert len(found) == 20
    results.close()  # type: ignore[attr-defined]


def run_stage(stage: Callable[[pa.Table], pa.Table], count: int = 4, workers: int = 1) -> list[int]:
    batches = [RecordingBatch(index, str(index), pa.table({"value": [index]})) for index in range(count)]
    step = Step(Claim("test", workers, 1.0), (Stage(lambda: stage, {}),))
    return sorted(table["value"][0].as_py() for _, _, table in stream(lambda: iter(batches), [step]))


@pytest.mark.ray
def test_fewer_batches_than_workers_is_no_warning(ray_session: None) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert run_stage(lambda table: table, count=1, workers=2) == [0]
    assert [str(one.message) for one in said if "concurrent actors" in str(one.message)] == []


@pytest.mark.ray
def test_memory_holds_a_fast_step_back(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waves of many batches would otherwise pile up between decoding and the codec."""
    from ray.data import DataContext, ExecutionResources

    options = DataContext.get_current().execution_options
    monkeypatch.setattr(options, "resource_limits", ExecutionResources(object_store_memory=48_000_000))
    log = tmp_path / "log"

    def note(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word}\n")

    def inflate(table: pa.Table) -> pa.Table:
        note("inflated")
        return pa.table({"value": pa.array([table["value"][0].as_py()] * 1_000_000, pa.int64())})

    def work(table: pa.Table) -> pa.Table:
        total = sum(hash(str(one)) % 7 for one in table["value"].to_pylist())
        note("worked")
        return pa.table({"value": [total]})

    batches = [RecordingBatch(index, str(index), pa.table({"value": [index]})) for index in range(20)]
    steps = [
        Step(Claim("inflate", 1, 1.0), (Stage(lambda: inflate, {}),)),
        Step(Claim("work", 1, 1.0), (Stage(lambda: work, {}),)),
    ]
    assert len(list(stream(lambda: iter(batches), steps))) == 20
    ahead = list(itertools.accumulate(1 if line == "inflated" else -1 for line in log.read_text().split()))
    assert len(ahead) == 40
    assert max(ahead) * 8_000_000 <= 96_000_000, "twice the limit: what runs and what waits"


@pytest.mark.ray
def test_a_killed_worker_costs_nothing_but_time(ray_session: None, tmp_path: Path) -> None:
    flag = tmp_path / "killed"

    def dies_once(table: pa.Table) -> pa.Table:
        if table["value"][0].as_py() == 2 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    assert run_stage(dies_once) == [0, 1, 2, 3]
    assert flag.exists()


@pytest.mark.ray
def test_a_batch_that_always_kills_its_worker_ends_the_job(ray_session: None) -> None:
    def dies(table: pa.Table) -> pa.Table:
        os.kill(os.getpid(), signal.SIGKILL)
        return table

    with pytest.raises(JobError, match="a worker died 4 times on the same batch"):
        run_stage(dies)


@pytest.mark.ray
def test_what_a_worker_raises_arrives_as_one_plain_line(ray_session: None) -> None:
    def fails(table: pa.Table) -> pa.Table:
        raise JobError("/data/x.parquet: No space left on device")

    with pytest.raises(JobError) as caught:
        run_stage(fails)
    assert str(caught.value) == "/data/x.parquet: No space left on device"
    assert "in fails" in caught.value.__notes__[0], "--debug shows where"


@pytest.mark.ray
def test_what_does_not_fit_the_cluster_is_refused(
    corpus: Path, ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "prepare",
        str(corpus),
        str(tmp_path / "data"),
        "--workers",
        "50",
        "--set",
        "codec.name=pcm-16khz",
    ]
    assert main(words) == 1
    assert "holds 2 of 50 prepare workers of 1 CPU and 0 GPU" in capsys.readouterr().err


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["prepare", *words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return code, captured.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent", "out"], 2, "source 'absent' does not exist; give a folder, metadata.csv, manifest.jsonl"),
        (
            ["{corpus}", "out", "--set", "audio.lodness=peak"],
            2,
            "unknown key audio.lodness; did you mean loudness?",
        ),
        (["{corpus}", "out", "--set", "audio.max_duration_s=30s"], 2, "audio.max_duration_s = '30s'"),
        (["{corpus}", "out", "--set", "split.validation=2"], 2, "split.validation = 2"),
        (
            ["{corpus}", "out", "--set", "audio.min_duration_s=99999.0"],
            2,
            "must be below max_duration_s = 14400",
        ),
        (["{corpus}", "{corpus}", "--dry-run"], 1, "is not a dataset; give an empty or new folder"),
        (["{corpus}", "{corpus}/000.wav/data", "--dry-run"], 1, "000.wav is not a folder"),
        (["{corpus}", "out", "--workers", "two"], 2, "argument --workers: invalid int value: 'two'"),
        (["{corpus}", "out", "--config", "no.yaml"], 2, "no.yaml: No such file"),
        (["{corpus}", "out", "--retry-rejected", "silence"], 2, "no such reason; did you mean silent?"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str], code: int, message: str, corpus: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = refused([word.format(corpus=corpus) for word in words], capsys)
    assert found[0] == code
    assert message in found[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_a_directory_with_fewer_levels(
    speech_folder: Path,
    ray_session: None,
    tiny_codec: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Coded in overlapping chunks; named as seen from here, which is not where the workers are."""
    codec = tiny_codec("encodec_48khz")
    monkeypatch.chdir(codec.parent)
    words = [str(speech_folder), str(tmp_path / "data"), "--codec", f"{codec.name}:3", "--workers", "1"]
    assert main(["prepare", *words]) == 0, capsys.readouterr().err
    dataset = Dataset.open(tmp_path / "data")
    identity = dataset.codec
    assert (identity.n_codebooks, identity.chunk_stride) == (3, 2160)
    for row in rows(dataset.uri).values():
        assert row["target_length"] == identity.frames(round(row["duration_s"] * 48_000))
    report = ["report", dataset.uri, "--codec", str(codec), "--output", str(tmp_path / "page.html")]
    assert main(report) == 0, capsys.readouterr().err


@pytest.mark.ray
def test_failures_are_one_line_and_leave_nothing(
    corpus: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, codec = str(tmp_path / "data"), ["--set", "codec.name=pcm-16khz"]
    code, error = refused([str(corpus), output, "--set", "codec.name=nothing"], capsys)
    assert (code, "codec 'nothing' is not known" in error) == (1, True)
    (tmp_path / "empty").mkdir()
    code, error = refused([str(tmp_path / "empty"), output, *codec], capsys)
    assert (code, "holds no recordings" in error) == (2, True)
    (tmp_path / "file").write_text("")
    code, error = refused([str(corpus), str(tmp_path / "file" / "data"), *codec], capsys)
    assert (code, "is not a folder" in error) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
    code, error = refused([str(corpus), str(reference), *codec, "--set", "split.seed=7"], capsys)
    assert (code, "split.seed" in error) == (1, True)


@pytest.mark.ray
def test_a_rerun_with_nothing_new_still_sees_a_changed_recording(
    corpus: Path, reference: Path, tmp_path: Path
) -> None:
    source, output = (Path(shutil.copytree(path, tmp_path / path.name)) for path in (corpus, reference))
    assert prepare(str(source), str(output), pcm())["new_recordings"] == 0
    changed = source / "3-utterance1.wav"
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    with pytest.raises(JobError, match=r"recording '3-utterance1.wav' has changed"):
        prepare(str(source), str(output), pcm())


def test_dry_run_starts_nothing(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "data"
    words = [
        "prepare",
        str(corpus),
        str(output),
        "--dry-run",
        "--set",
        "codec.name=pcm-16khz",
        "--workers",
        "2",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "name: pcm-16khz" in said
    assert "prepare: 2 workers of 1 CPU, 0 GPU" in said
    assert "planned: 37 of 37 recordings" in said
    assert not output.exists()


def test_reconstruct_writes_what_the_codec_keeps(
    speech_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", str(speech_folder), str(tmp_path / "out"), "--codec", "pcm-16khz"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["files"], result["rejected"], result["kbit_per_s"]) == (6, 0, 256.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"utterance{n}.wav" for n in range(6)
    ]
    from pipelines.audio.decode import decode

    before = decode(speech_folder / "utterance0.wav", 16_000).samples
    after = decode(tmp_path / "out" / "utterance0.wav", 16_000).samples
    assert len(before) == len(after)
    assert abs(before - after).max() < 1e-4
    code = main(
        [
            "reconstruct",
            str(speech_folder / "utterance0.txt"),
            str(tmp_path / "x.wav"),
            "--codec",
            "pcm-16khz",
        ]
    )
    assert code == 1
    assert "not a known audio format" in capsys.readouterr().err
