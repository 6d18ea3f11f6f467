"""Every command of the README, run in order in a folder as the demo leaves it (with a smaller corpus and two steps)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import speechmill

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# Run elsewhere: by make itself, by tests/test_ray_job.py, by the test of the MLflow UI below.
ELSEWHERE = ("make demo", "make test", "ray job submit", "ray up", "mlflow ui")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def demo_folder(ray_session: None, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """recordings, held_out, digits.jsonl, dataset, and registered maskgct-t2s, maskgct-s2a."""
    from pipelines.demo.corpus import Voice, make_digit_corpus

    folder = tmp_path / "checkout" / "demo"
    folder.mkdir(parents=True)
    (folder.parent / "configs").symlink_to(REPOSITORY / "configs")
    # The README's `cd demo`: MLflow's default store is then demo/mlflow.db.
    shutil.copy(tmp_path / "mlflow.db", folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.chdir(folder)
    make_digit_corpus(folder / "recordings", (Voice("en-us"),), repeats=3, phrases=10, seed=1)
    make_digit_corpus(folder / "held_out", (Voice("en-us"),), repeats=1, phrases=0, seed=2)
    (folder / "digits.jsonl").write_text('{"id": "a", "text": "one"}\n', encoding="utf-8")
    assert speechmill.main(["prepare", "recordings", "dataset"]) == 0
    for generator in ("t2s", "s2a"):
        config = f"../configs/demo/{generator}.yaml"
        assert speechmill.main(["train", config, "--set", "loop.max_steps=2"]) == 0
    return folder


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_works(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [shlex.split(line) for line in commands() if not line.startswith(ELSEWHERE)]
    assert len(run) >= 9
    for words in run:
        assert words[0] == "speechmill", f"the README has a command that no test runs: {shlex.join(words)}"
        assert speechmill.main(words[1:]) == 0, shlex.join(words)
    made = [
        demo_folder / name
        for name in ("out.wav", "prompted.wav", "spoken/a.wav", "converted.wav", "back/00003.wav")
    ]
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    made.append(demo_folder / "four_two.wav")
    assert all(path.stat().st_size > 1000 for path in made)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("%" in sys.executable, reason="MLflow gives its folder to Alembic unescaped")
def test_mlflow_ui_opens_what_the_readme_names(mlflow_uri: str, tmp_path: Path) -> None:
    line = next(line for line in commands() if line.startswith("mlflow ui"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [
        str(Path(sys.executable).parent / "mlflow"),
        *shlex.split(line)[1:],
        "--port",
        port,
        "--workers",
        "1",
    ]
    server = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout is not None
        # It says so when it listens; that its application is up it says before.
        started = next((text for text in server.stdout if "running on http" in text.lower()), None)
        assert started is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            assert b"MLflow" in page.read()
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_every_figure_of_the_readme_is_a_measured_one() -> None:
    results = {
        name: json.loads((REPOSITORY / f"benchmarks/results/{name}.json").read_text())
        for name in re.findall(r"benchmarks/results/(\w+)\.json", README)
    }
    codec, prepare = results["codec"]["codecs"]["mill-16khz@2"], results["prepare"]
    (cached, *_) = results["autoregressive"]["valle_ar"]
    (recording,) = results["long_recording"].values()
    (batch,) = (r for r in results["synthesize"]["rows"] if r["batch"] == 14 and r["guidance"] == 0)
    figures = {
        "codec": f"{codec['kbit_s']:.0f} kbit/s, {results['codec']['recordings']} held-out recordings | "
        f"STOI {codec['stoi']:.3f}, PESQ-WB {codec['pesq_wb']:.2f}",
        "prepare": f"{prepare['steady']['prepare']:.0f} times real time, "
        f"{prepare['ratio_steady']['bare']['median']:.2f} of a bare loop",
        "chaos": f"killed {results['chaos']['kill']['measured']['kills']} times and continued | 300 of 300 rows",
        "long_recording": f"{recording['audio_s'] / 3600:.0f} hours | {recording['peak_mib'] / 1024:.1f} GB",
        "transcribe": f"{results['transcribe']['ratio']} times WhisperX",
        "autoregressive": f"{cached['cache_speedup']:.0f} times as fast",
        "synthesize": f"real-time factor {batch['real_time_factor']:.2f}",
    }
    assert figures.keys() == results.keys()
    rows = {name: next(line for line in README.splitlines() if f"{name}.json" in line) for name in figures}
    assert [name for name, figure in figures.items() if figure not in rows[name]] == []
    assert results["chaos"]["kill"]["ok"]


def test_every_link_of_the_readme_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    missing = [target for target in targets if "://" not in target and not (REPOSITORY / target).exists()]
    assert not missing


def test_speechmill_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert speechmill.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in speechmill.COMMANDS)
    assert speechmill.main(["prepair"]) == 2
    assert "no command 'prepair'" in capsys.readouterr().err


def test_every_job_is_a_command_of_speechmill() -> None:
    from pipelines.__main__ import JOBS

    commands = {words[0] for package, words, _ in speechmill.COMMANDS.values() if package == "pipelines"}
    assert commands == set(JOBS)
