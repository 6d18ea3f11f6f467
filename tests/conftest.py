"""Fixtures that every package's tests share: one local Ray, one migrated MLflow store, small espeak-ng recordings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_AUTH_WARNING", "1")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the session's Ray is marked so: `make test` runs those tests in a process of their own."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech that lies beside a developer's checkout; absent on a user's machine."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder of real speech beside the checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def tiny_codec(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a tiny codec (`models.families.codec_examples`) -> its directory, made once."""
    from models.families import codec_examples

    place, made = tmp_path_factory.mktemp("codecs"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in made:
            codec_examples()[name](place / name)
            made[name] = place / name
        return made[name]

    return make


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for the whole session: 2 CPUs, its own temp dir and HOME."""
    import ray

    from pipelines.execution.cluster import start

    home = tmp_path_factory.mktemp("home")
    previous = os.environ.get("HOME")
    os.environ["HOME"] = str(home)
    # Unix socket paths are limited to 107 bytes, which pytest's own temp dirs exceed.
    temp = Path("/tmp") / f"ray-{os.getpid()}"
    start({"num_cpus": 2, "include_dashboard": False, "_temp_dir": str(temp)})
    try:
        yield
    finally:
        ray.shutdown()
        if previous is not None:
            os.environ["HOME"] = previous
        shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture(scope="session")
def _mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store: migrating takes ten seconds, copying none."""
    from catalog.tracking_store import client_of

    path = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(_mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh SQLite tracking URI; artifacts go to the test's own folder."""
    path = tmp_path / "mlflow.db"
    shutil.copy(_mlflow_template, path)
    uri = f"sqlite:///{path}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return uri


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short espeak-ng recordings (WAV, 22.05 kHz) with their transcripts beside them."""
    from pipelines.demo.corpus import Voice, speak

    folder = tmp_path_factory.mktemp("speech")
    words = ["one two three", "four five", "six seven eight", "nine zero", "two two", "seven one nine"]
    for index, text in enumerate(words):
        speak(text, Voice("en-us", speed=150 + 5 * index), folder / f"utterance{index}.wav")
        (folder / f"utterance{index}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def _tiny_whispers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from pipelines.speech.transcription.example import build

    return build(tmp_path_factory.mktemp("tiny-whisper"))


@pytest.fixture(scope="session")
def tiny_whisper(_tiny_whispers: tuple[Path, Path]) -> Path:
    """A multilingual Whisper of one layer with random weights, as a CTranslate2 directory."""
    return _tiny_whispers[1]


@pytest.fixture(scope="session")
def tiny_whisper_hf(_tiny_whispers: tuple[Path, Path]) -> Path:
    """The weights of `tiny_whisper` as a transformers directory."""
    return _tiny_whispers[0]


@pytest.fixture(scope="session")
def w2vbert_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A w2v-BERT of 4 layers and 32 channels with random weights, as users have it."""
    import torch
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("semantic") / "w2vbert"
    config = Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48,
        conv_depthwise_kernel_size=5, left_max_position_embeddings=4, right_max_position_embeddings=2,
    )  # fmt: skip
    Wav2Vec2BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def semantic_parts(w2vbert_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parts of a tiny MaskGCT tokenizer (`models.semantic.source.TokenizerSource`): 16 codes, 4 latents."""
    import torch

    from models.generators import save_generator
    from models.semantic.repcodec import RepCodec, RepCodecConfig

    torch.manual_seed(0)
    network = RepCodec(RepCodecConfig(32, 16, 4, 12, 16, 2))
    for name, parameter in network.named_parameters():
        if "weight" in name and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    folder = tmp_path_factory.mktemp("repcodec")
    save_generator(network, "repcodec", folder / "repcodec")
    statistics = {"mean": torch.linspace(-0.1, 0.1, 32), "var": torch.linspace(0.5, 2.0, 32)}
    torch.save(statistics, folder / "statistics.pt")
    return {
        "tokenizer": str(folder / "repcodec"),
        "features": str(w2vbert_directory),
        "statistics": str(folder / "statistics.pt"),
        "layer": 2,
    }


@pytest.fixture(scope="session")
def maskgct_parts(semantic_parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Directories of the parts of a tiny MaskGCT with random weights: 16 semantic tokens, 3 codebooks of 20 codes."""
    import torch

    from models.codecs.maskgct_acoustic.codec import save_directory
    from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig, MaskGCTAcousticNetwork
    from models.generators import load_generator, save_generator
    from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
    from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S
    from models.semantic import directory as semantic
    from models.semantic.source import TokenizerSource

    folder = tmp_path_factory.mktemp("maskgct")
    torch.manual_seed(0)
    sizes = MaskGCTAcousticConfig(24_000, (3, 4, 5, 8), 4, 8, 3, 20, 4, 8, 12, 1, 960)
    acoustic = MaskGCTAcousticNetwork(sizes)
    # Quiet enough not to be clipped.
    acoustic.head.spectrum.weight.data.mul_(0.1)
    acoustic.head.spectrum.bias.data.sub_(3.0)
    save_directory(acoustic, folder / "codec")
    _, repcodec = load_generator(Path(semantic_parts["tokenizer"]))
    semantic.save_directory(repcodec, TokenizerSource(**semantic_parts), folder / "semantic")
    networks = {
        "t2s": MaskGCTT2S(MaskGCTSemanticT2SConfig(512, 16, 16, 1, 2, 24)),
        "s2a_first": MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(16, 1, 20, 16, 1, 2, 24)),
        "s2a": MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(16, 3, 20, 16, 1, 2, 24, first_level=1)),
    }
    for role, network in networks.items():
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        save_generator(network, f"maskgct_semantic_{role[:3]}", folder / role)
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="session")
def _s3_endpoint() -> Iterator[str]:
    """moto's server as a process of its own: deltalake holds the interpreter's lock while it waits for an answer."""
    pytest.importorskip("moto.server")
    command = [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stderr is not None
            found = (re.search(r"Running on (http://\S+)", line) for line in server.stderr)
            address = next(match[1] for match in found if match)
            # It logs every request: once nobody reads that, it stops answering.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield address
        finally:
            server.kill()


@pytest.fixture
def s3_bucket(_s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """An empty boto3 bucket on a local S3, which the environment names to every client."""
    boto3 = pytest.importorskip("boto3")
    settings = {
        "AWS_ENDPOINT_URL": _s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    name = f"{request.node.module.__name__.rpartition('.')[2]}-{request.node.name}"
    allowed = re.sub("[^a-z0-9-]+", "-", name.lower())[:60].strip("-")
    made = boto3.resource("s3", endpoint_url=_s3_endpoint, region_name="us-east-1").Bucket(allowed)
    made.create()
    return made
