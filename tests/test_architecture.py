"""The import arrows of docs/architecture.md, read from every module's syntax tree, function bodies included."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OURS = ("catalog", "models", "pipelines", "trainers")
ALLOWED = {
    "models": {"models"},
    "catalog": {"catalog", "models.identity"},
    "pipelines": {"pipelines", "models", "catalog"},
    "trainers": {"trainers", "models", "catalog"},
}
FORBIDDEN = {
    "models": {"ray", "mlflow", "deltalake", "pydantic", "soundfile", "whisperx", "dac"},
    "catalog": {"torch", "ray"},
    "trainers": {"ray", "mlflow"},
    "pipelines": {"mlflow"},
}
# The files that may import what their package otherwise may not.
EXCEPTIONS = {
    "trainers.ray_backend": {"ray"},
    "trainers.checkpoint_models": {"mlflow"},
    "trainers.tracking": {"mlflow"},
    "trainers.pyfunc": {"mlflow"},
}
# Top to bottom: a module imports lower layers, and its own unit of its own layer.
PIPELINES = (
    ("__main__",),
    ("jobs",),
    ("prepare", "demo", "evaluation"),
    ("execution",),
    ("stages",),
    ("datasets", "speech"),
    ("rows",),
    ("audio",),
    ("sources",),
)
FAMILIES = ("maskgct", "valle", "soundstorm", "flow_matching", "toktts")
MODELS = (
    ("systems", "interop"),
    ("system_files",),
    ("tokenizer_sources", "shared_weights"),
    ("adapters",),
    ("generators", "codec_sources"),
    ("families",),
    # No networks of its own: it stands on those of MaskGCT, RepCodec and the acoustic codec.
    ("autoencoder8d",),
    (*FAMILIES, "codecs/", "semantic"),
    ("manifest",),
    ("cascade", "content", "windows"),
    ("system",),
    ("prompt",),
    ("sampling", "text", "metrics"),
    ("codecs",),
    ("layers",),
    ("building", "checkpoints", "settings", "identity", "tasks"),
)
# Plain values that both sides of an arrow use: anyone may import them, they import the standard library only.
STANDARD_LIBRARY_ONLY = ("models.identity", "catalog.files")
# What the loop takes from the catalog; it needs no more than the loop.
LEAN_CATALOG = ("catalog.files", "catalog.codes")
# What a GPU machine with torch, torchaudio, transformers, safetensors, pyarrow and numpy can run.
LEAN = (
    "models",
    "trainers.loop",
    "trainers.data",
    "trainers.plan",
    "trainers.companions",
    "trainers.store",
    "trainers.store_build",
    "trainers.store_cache",
    "trainers.parquet_rows",
    "trainers.optim",
    "trainers.checkpoint",
    "trainers.objectives",
    *LEAN_CATALOG,
)
LEAN_TOP_LEVEL = {
    "torch",
    "torchaudio",
    "transformers",
    "safetensors",
    "pyarrow",
    "numpy",
    "models",
    "trainers",
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in (path for package in OURS for path in (REPOSITORY / package).rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> set[str]:
    """Modules that a statement imports: ours with their full name, `from package import module` included."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in modules() else node.module for name in names}
    return set()


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that a module imports, in function bodies, too."""
    return frozenset(name for node in ast.walk(tree(module)) for name in imported(node))


def top(names: frozenset[str] | set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def each_of(*packages: str) -> pytest.MarkDecorator:
    chosen = [name for name in modules() if any(is_below(name, package) for package in packages)]
    return pytest.mark.parametrize("module", chosen)


@each_of(*OURS)
def test_arrows(module: str) -> None:
    package = module.partition(".")[0]
    for name in imports(module):
        if name.partition(".")[0] in OURS:
            assert any(is_below(name, allowed) for allowed in ALLOWED[package]), f"{module} imports {name}"
    forbidden = (FORBIDDEN[package] - EXCEPTIONS.get(module, set())) & top(imports(module))
    assert not forbidden, f"{module} imports {forbidden}"


def test_there_is_no_cycle() -> None:
    graph = {
        module: {name for name in imports(module) if name in modules()} - {module} for module in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def place(module: str, layers: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """Layer and unit of a module. A unit is a file or folder of the package, or a folder of codecs."""
    folder = modules()[module].parent.relative_to(REPOSITORY).parts
    unit = layer = module.split(".")[1]
    if folder[:2] == ("models", "codecs") and len(folder) > 2:
        unit, layer = f"codecs/{folder[2]}", "codecs/"
    for number, names in enumerate(layers):
        if layer in names:
            return number, unit
    raise AssertionError(f"{module} is in none of the layers {layers}")


@each_of("pipelines", "models")
def test_imports_run_downwards(module: str) -> None:
    package = module.partition(".")[0]
    layers = {"pipelines": PIPELINES, "models": MODELS}[package]
    if module == package:
        assert not imports(module)
        return
    layer, unit = place(module, layers)
    for name in imports(module):
        if is_below(name, package):
            below, other = place(name, layers)
            assert below > layer or other == unit, f"{module} imports {name}, which is not below it"


def test_jobs_do_not_import_each_other() -> None:
    jobs = {name for name in modules() if name.startswith("pipelines.jobs.")}
    assert not {(job, name) for job in jobs for name in imports(job) & jobs}


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_shared_values_need_the_standard_library_only(module: str) -> None:
    assert top(imports(module)) <= sys.stdlib_module_names


@each_of(*LEAN)
def test_models_and_loop_run_on_a_lean_machine(module: str) -> None:
    statements = [name for node in tree(module).body for name in imported(node)]
    extra = [name for name in statements if name not in LEAN_CATALOG]
    assert top(set(extra)) <= LEAN_TOP_LEVEL | sys.stdlib_module_names


def test_the_registry_of_families_imports_no_transformers() -> None:
    script = "import sys, models.families; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode == 0
