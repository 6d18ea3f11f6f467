"""The fit command: from a dataset version to a registered version, and every refusal in words."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from catalog.columns import declare
from catalog.datasets import Dataset
from catalog.identity import COLUMNS_PROPERTY, columns_to_json
from models.identity import TokenIdentity
from trainers.__main__ import main
from trainers.fit import resolve
from trainers.objectives import DataInfo, objective_class
from trainers.plan import Needs
from trainers.settings import DataSettings

pytestmark = pytest.mark.usefixtures("bigram_family")
MakeDataset = Callable[..., str]
Fit = Callable[..., tuple[int, Any, str]]


def test_fit_exports_the_best_weights_with_what_they_learned_from(
    fit: Fit, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    uri = make_dataset()
    code, result, _ = fit(uri)
    assert code == 0
    assert result["stopped"] == "max_epochs"
    assert result["epoch"] == 2
    assert Path(result["checkpoint"]).name == "best.pt"
    record = json.loads((tmp_path / "run" / "export" / "training.json").read_text())
    assert record["dataset"]["uri"] == uri
    assert record["dataset"]["version"] == 2
    assert record["data"]["codec"] == "toy@1"
    assert record["validation_loss"] == result["validation_loss"]
    rows = record["data"]["frames_per_byte"]
    assert 1 < rows < 10
    assert (tmp_path / "run" / "export" / "weights.pt").exists()
    again, same, _ = fit(uri)
    assert (again, same["steps"]) == (0, result["steps"])


def test_dry_run_starts_nothing(fit: Fit, make_dataset: MakeDataset, tmp_path: Path) -> None:
    code, plan, _ = fit(make_dataset(), words=("--dry-run",))
    assert code == 0
    assert (plan["rows"], plan["validation_rows"], plan["rows_left_out"]) == (40, 10, 0)
    assert plan["parameters"] == 16 * 8 + 8 * 16 + 16
    assert not (tmp_path / "run").exists()


def test_start_from_the_weights_of_another_run(fit: Fit, make_dataset: MakeDataset, tmp_path: Path) -> None:
    uri = make_dataset()
    _, first, _ = fit(uri, "loop.max_epochs=20")
    settings = (f"init={tmp_path / 'run' / 'export'}", f"output={tmp_path / 'second'}", "loop.max_steps=1")
    code, second, _ = fit(uri, *settings, "loop.optim.lr=1e-6")
    assert code == 0
    assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["loop.max_step=3"], 2, "unknown key loop.max_step; did you mean max_steps?"),
        (["model.hiden_size=3"], 2, "unknown key model.hiden_size; did you mean hidden_size?"),
        (["objective.dropout=many"], 2, "objective.dropout"),
        (["family=bigrams"], 2, "unknown model family 'bigrams'; known: bigram, "),
        (["data.batch.max_samples=0"], 2, "max_samples is 0: must be at least 1"),
        (["loop.max_epochs=null"], 2, "one of max_steps, max_epochs and max_minutes must be given"),
        (["model.codebook_size=99"], 2, "model.codebook_size is 99, but the dataset (codec toy@1) needs 16"),
        (["data.dataset=null"], 2, "data: give either dataset or files"),
        (["data.dataset=null", "data.files=[a.parquet]"], 2, "data.codec is required with data.files"),
        (["workers=2"], 2, "loop.batches_per_step is 1: must be a multiple of the 2 workers"),
        (["loop.sharding=fsdp"], 2, "loop.sharding is fsdp with 0 workers: needs at least 2"),
        (["data.version=7"], 1, "no version 7; the newest is 2"),
        (["device=abacus"], 1, "device is 'abacus': must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_refusals(fit: Fit, make_dataset: MakeDataset, overrides: list[str], code: int, message: str) -> None:
    found, _, error = fit(make_dataset(), *overrides)
    assert found == code
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_run_directory_inside_its_dataset_is_refused(fit: Fit, make_dataset: MakeDataset) -> None:
    uri = make_dataset()
    code, _, error = fit(uri, f"output={uri}/run")
    assert code == 2
    assert f"output {uri}/run is inside the dataset {uri}; give another place" in error
    assert not Path(uri, "run").exists()


def test_a_missing_dataset_is_named(fit: Fit, tmp_path: Path) -> None:
    code, _, error = fit(str(tmp_path / "nothing"))
    assert code == 1
    assert f"{tmp_path / 'nothing'}: no dataset there" in error
    assert not (tmp_path / "run").exists()


def write_texts(path: Path, texts: list[str | None]) -> dict[str, Any]:
    """Rows of these texts, and the configuration of a MaskGCT that trains on them."""
    codes = np.random.default_rng(0).integers(0, 1024, (len(texts), 8, 5)).tolist()
    ids = [f"row{row}" for row in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string()), "codes": codes}), path)
    sizes = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 32}
    return {
        "family": "maskgct_t2s",
        "model": sizes,
        "data": {"files": [str(path)], "codec": "mill-16khz@1", "batch": {"max_samples": 2}},
        "loop": {"max_steps": 2, "samples": 0},
        "output": str(path.with_name("run")),
        "tracking": {"enabled": False},
    }


def test_rows_without_text_are_left_out_and_counted(fit: Fit, tmp_path: Path) -> None:
    config = write_texts(tmp_path / "rows.parquet", ["a", None, "", "b", None])
    left_out = {"rows_left_out": 2, "left_out": {"no text": 2}}
    code, plan, error = fit(None, config=config, words=("--dry-run",))
    assert code == 0, error
    assert {**plan, **left_out, "rows": 5, "batches_per_epoch": 2} == plan
    code, result, error = fit(None, config=config)
    assert code == 0, error
    assert {**result, **left_out} == result
    config = write_texts(tmp_path / "rows.parquet", [None, None])
    code, _, error = fit(None, config=config)
    assert code == 1
    assert error == "trainers: no row can be used: of 2 rows, 2 have no text\n"


def test_rows_without_companions_are_left_out_and_counted(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_texts(tmp_path / "rows.parquet", ["a"] * 5)
    kind = objective_class("maskgct_t2s")
    monkeypatch.setattr(kind, "needs", lambda *_: Needs(companions=1, companion_frames=4))
    code, _, error = fit(None, config=config, words=("--dry-run",))
    assert code == 1
    assert f"{tmp_path / 'rows.parquet'} has no column speaker, which this training reads" in error
    table = pq.read_table(tmp_path / "rows.parquet")
    speakers = pa.array(["x", "y", None, "x", "x"])
    pq.write_table(table.append_column("speaker", speakers), tmp_path / "rows.parquet")
    code, plan, error = fit(None, config=config, words=("--dry-run",))
    assert code == 0, error
    assert (plan["rows_left_out"], plan["left_out"]) == (2, {"too few companions": 2})


def test_a_run_is_not_continued_without_rows_it_had(fit: Fit, tmp_path: Path) -> None:
    """A checkpoint from when rows without text were trained on: the order would be another one."""
    config = write_texts(tmp_path / "rows.parquet", ["a", None])
    assert fit(None, config=config)[0] == 0
    path = next((tmp_path / "run" / "checkpoints").glob("step-*.pt"))
    state = torch.load(path)
    del state["identity"]["data"]["left_out"]
    torch.save(state, path)
    code, _, error = fit(None, config=config)
    assert code == 1
    assert "made with other settings: data.left_out.no text was null, is 1" in error


def test_a_continued_run_treats_text_as_it_began(fit: Fit, tmp_path: Path) -> None:
    """New runs normalise transcripts; those from before that was a setting do not."""
    config = write_texts(tmp_path / "rows.parquet", ["“a”", "b"])
    assert fit(None, config=config)[0] == 0
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-*.pt")
    state = torch.load(path)
    assert state["identity"]["objective"]["text"]["normalize"] == "transcript"
    state["identity"]["objective"]["text"] = {"kind": "bytes"}
    torch.save(state, path)
    config["loop"]["max_steps"] = 3
    config["objective"] = {"text": {"kind": "bytes", "normalize": "transcript"}}
    code, _, error = fit(None, config=config)
    assert code == 1
    assert 'objective.text.normalize was "none", is "transcript"' in error
    del config["objective"]
    code, _, error = fit(None, config=config)
    assert code == 0, error
    assert "normalize: none" in (tmp_path / "run" / "config.yaml").read_text()
    assert json.loads((tmp_path / "run" / "export" / "text.json").read_text()) == {"kind": "bytes"}


def test_rows_that_contradict_the_codec_are_refused(
    fit: Fit, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    uri = make_dataset(validation=0)
    file = next(Path(uri).glob("split=train/*.parquet"))
    unsigned = tmp_path / "unsigned.parquet"
    pq.write_table(pq.read_table(file, partitioning=None).replace_schema_metadata(None), unsigned)
    config = {
        "family": "bigram",
        "data": {"files": [str(unsigned)], "codec": "pcm-16khz"},
        "loop": {"max_steps": 1},
        "output": str(tmp_path / "run"),
        "tracking": {"enabled": False},
    }
    code, _, error = fit(None, config=config)
    assert code == 1
    assert "holds rows of 2 codebooks, but its codec pcm-16khz@1 has 1" in error
    config["data"] = {"files": [str(unsigned)], "validation_files": [str(file)], "codec": "pcm-16khz"}
    code, _, error = fit(None, config=config)
    assert code == 1
    assert (
        f"{file} holds codes of toy@1 (weights none, levels 2), but data.codec pcm-16khz is pcm-16khz@1"
        in error
    )


def semantic(edition: str) -> TokenIdentity:
    return TokenIdentity("repcodec", edition, "ab" * 32, 16000, 320, 1, 8192)


def test_makers_of_token_columns_reach_the_objective(make_dataset: MakeDataset, tmp_path: Path) -> None:
    declare(Dataset.open(make_dataset()), "semantic_codes", semantic("1"))
    info = resolve(DataSettings(dataset=str(tmp_path / "dataset"))).info
    assert info.columns == {"semantic_codes": semantic("1")}
    assert DataInfo.from_record(json.loads(json.dumps(asdict(info)))) == info


def test_files_whose_token_columns_have_other_makers_are_refused(fit: Fit, tmp_path: Path) -> None:
    paths = []
    for edition in ("1", "2"):
        config = write_texts(tmp_path / f"{edition}.parquet", ["a"])
        table = pq.read_table(tmp_path / f"{edition}.parquet")
        metadata = {COLUMNS_PROPERTY: columns_to_json({"semantic_codes": semantic(edition)})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{edition}.parquet")
        paths.append(str(tmp_path / f"{edition}.parquet"))
    config["data"]["files"] = paths
    code, _, error = fit(None, config=config)
    assert code == 1
    assert f"semantic_codes of {paths[1]} was made by repcodec@2, that of {paths[0]} by repcodec@1" in error


def test_files_that_cannot_be_read_are_skipped_and_counted(fit: Fit, tmp_path: Path) -> None:
    good, damaged, text, absent = (
        tmp_path / f"{name}.parquet" for name in ("good", "damaged", "text", "absent")
    )
    codes = np.random.default_rng(0).integers(0, 1024, (20, 8, 30)).tolist()
    pq.write_table(pa.table({"text": ["x"] * 20, "codes": codes}), good)
    content = bytearray(good.read_bytes())
    content[4:400] = bytes(396)  # the first pages; the footer stays whole
    damaged.write_bytes(content)
    text.write_text("no Parquet")
    config = {
        "family": "bigram",
        "data": {"files": [str(path) for path in (damaged, good, text, absent)], "codec": "mill-16khz@1"},
        "loop": {"max_steps": 1},
        "output": str(tmp_path / "run"),
        "tracking": {"enabled": False},
    }
    code, result, error = fit(None, config=config)
    assert (code, result["steps"], result["files_skipped"]) == (0, 1, 3), error
    told = [line.split(":")[0] for line in error.splitlines() if line.startswith("skipped")]
    assert told == [f"skipped {path}" for path in (damaged, text, absent)]
    assert "not a readable Parquet file" in error
    config["data"] = {"files": [str(text), str(absent)], "codec": "mill-16khz@1"}
    code, _, error = fit(None, config=config)
    assert code == 1
    assert "none of 2 files can be read" in error.splitlines()[-1]


def test_a_continued_run_keeps_its_dataset_version(fit: Fit, make_dataset: MakeDataset) -> None:
    uri = make_dataset(validation=0)
    first = fit(uri)[1]
    make_dataset(rows=0, validation=10)
    code, longer, error = fit(uri, "loop.max_epochs=4")
    assert (code, longer["steps"]) == (0, 2 * first["steps"]), error
    code, _, error = fit(uri, "loop.max_epochs=4", "data.version=2")
    assert code == 1
    assert "data.version was 1, is 2" in error


def test_two_trainings_do_not_share_a_run_directory(
    fit: Fit, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, error = fit(make_dataset())
    assert code == 1
    assert f"{tmp_path / 'run'}: another training is running there" in error


def test_a_run_is_not_continued_with_other_settings(fit: Fit, make_dataset: MakeDataset) -> None:
    uri = make_dataset()
    assert fit(uri)[0] == 0
    code, _, error = fit(uri, "loop.optim.lr=0.01", "model.hidden_size=4")
    assert code == 1
    assert "made with other settings: loop.optim.lr was 0.05, is 0.01; model.hidden_size was 8, is 4" in error


def test_a_submitted_job_needs_an_absolute_tracking_uri(
    fit: Fit, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the registry would lie in Ray's temporary copy of the directory, and vanish with it."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, error = fit(make_dataset(), "tracking.enabled=true")
    assert code == 2
    assert "tracking uri 'sqlite:///mlflow.db' is relative, but a submitted Ray job runs" in error
    assert main(["assemble", "--t2s", "a", "--s2a", "b", "--codec", "c", "--name", "d"]) == 2
    assert main(["import", "choihkk-maskgct-t2s", "a", "--name", "d"]) == 2


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*/maskgct_??[sa].yaml")) + sorted(
    (Path(__file__).parents[2] / "configs").glob("*/??[sa].yaml")
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_configurations_that_come_with_it_can_be_run(
    path: Path, make_dataset: MakeDataset, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = make_dataset(rows=4, validation=2, n_codebooks=8, codebook_size=1024)
    folder = path.parent.name
    words = ["--set", f"data.dataset={uri}", "--set", f"output={tmp_path / 'run'}"]
    words += (
        ["--set", "objective.text.kind=bytes"] if folder == "voice" else []
    )  # these rows have no phonemes
    code = main(["fit", str(path), *words, "--dry-run"])
    out, error = capfd.readouterr()
    assert code == 0, error
    plan = json.loads(out.strip().splitlines()[-1])
    assert (plan["rows"], plan["rows_left_out"]) == (4, 0)
    millions = {"maskgct": (200, 1000), "voice": (10, 30)}.get(folder, (0, 5))
    assert millions[0] * 1_000_000 < plan["parameters"] < millions[1] * 1_000_000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mill-16khz", "mill-16khz-decoder", "mill-16khz-head"])
def test_the_codecs_configurations_can_be_run(
    name: str, make_dataset: MakeDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    identity = {"name": "pcm-16khz", "hop_length": 1, "n_codebooks": 1, "codebook_size": 65536}
    config = CONFIGS[0].parents[1] / "codec" / f"{name}.yaml"
    code = main(["fit", str(config), "--set", f"data.dataset={make_dataset(**identity)}", "--dry-run"])
    out, error = capfd.readouterr()
    assert code == 0, error
    assert json.loads(out.strip().splitlines()[-1])["parameters"] > 1_000_000


def test_a_codebook_of_65536_is_read_as_codes(fit: Fit, make_dataset: MakeDataset) -> None:
    """Samples, which as many different values of 16 bits are, are no indices."""
    wide = make_dataset(name="xcodec2-16khz", n_codebooks=1, codebook_size=65_536)
    code, result, error = fit(wide, "loop.max_epochs=1")
    assert code == 0, error
    assert result["epoch"] == 1


SEMANTIC = sorted((Path(__file__).parents[2] / "configs").glob("*/*semantic*.yaml"))
CONVERSION = SEMANTIC + sorted(
    path
    for kind in ("soundstorm", "flow_matching")
    for place in (f"{kind}/*", f"*/{kind}*")
    for path in (Path(__file__).parents[2] / "configs").glob(f"{place}.yaml")
)


@pytest.mark.parametrize("path", CONVERSION, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_configurations_that_read_semantic_tokens_can_be_run(
    path: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """On codes of the embedded codec with semantic tokens of half their rate."""
    codes = np.random.default_rng(0).integers(0, 1024, (3, 8, 6)).tolist()
    units = TokenIdentity("units", "1", "", 16000, 640, 1, 500)
    columns = {"semantic_codes": [[1, 2, 3]] * 3, "phonemes": [["a", "b"]] * 3}
    rows = pa.table({"text": ["x"] * 3, "codes": codes, **columns})
    said = {COLUMNS_PROPERTY: columns_to_json({"semantic_codes": units})}
    pq.write_table(rows.replace_schema_metadata(said), tmp_path / "rows.parquet")
    data = ["data.dataset=null", f"data.files=[{tmp_path / 'rows.parquet'}]", "data.codec=mill-16khz@1"]
    sets = [word for one in (*data, f"output={tmp_path / 'run'}") for word in ("--set", one)]
    code = main(["fit", str(path), *sets, "--dry-run"])
    out, error = capfd.readouterr()
    assert code == 0, error
    plan = json.loads(out.strip().splitlines()[-1])
    assert (plan["rows"], plan["rows_left_out"]) == (3, 0)
    published = path.parent.name in ("soundstorm", "flow_matching", "maskgct")
    assert (plan["parameters"] > 300_000_000) == published
    assert (plan["parameters"] < 5_000_000) != published
    assert not (tmp_path / "run").exists()


def test_all_configurations_of_generators_are_covered() -> None:
    assert {(path.parent.name, path.stem) for path in CONVERSION} == {
        ("digits", "flow_matching_units"),
        ("digits", "soundstorm_units"),
        ("digits", "maskgct_semantic_s2a"),
        ("digits", "maskgct_semantic_t2s"),
        ("digits", "flow_matching"),
        ("digits", "soundstorm"),
        ("flow_matching", "coig"),
        ("flow_matching", "hierarchical"),
        ("maskgct", "semantic_s2a_1layer"),
        ("maskgct", "semantic_s2a_full"),
        ("maskgct", "semantic_t2s"),
        ("soundstorm", "coig"),
        ("soundstorm", "hierarchical"),
        ("tiny", "flow_matching"),
        ("tiny", "flow_matching_hierarchical"),
        ("tiny", "maskgct_semantic_s2a"),
        ("tiny", "maskgct_semantic_t2s"),
        ("tiny", "soundstorm"),
    }
    assert {(path.parent.name, path.stem) for path in CONFIGS} == {
        ("demo", "s2a"),
        ("demo", "t2s"),
        ("digits", "maskgct_s2a"),
        ("digits", "maskgct_t2s"),
        ("maskgct", "s2a"),
        ("maskgct", "t2s"),
        ("tiny", "maskgct_s2a"),
        ("tiny", "maskgct_t2s"),
        ("voice", "s2a"),
        ("voice", "t2s"),
    }
