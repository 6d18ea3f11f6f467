# Two commands on a fresh machine with Python 3.11+ and make: `make demo`, `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# uv ends without a folder for its cache that it can write, as under a home that is read-only.
UV = $(BIN)/uv $(shell mkdir -p "$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/uv}" 2>/dev/null && test -w "$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/uv}" || echo --no-cache)

.PHONY: demo test check setup bench lock mutants
.DEFAULT_GOAL := demo
# Container images often set it, and then each of Ray's processes compiles all that it imports, every time: `prepare` was
# ready after 57 s instead of 22.
unexport PYTHONDONTWRITEBYTECODE

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "speechmill needs Python 3.11 or later, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/speechmill demo

# In two processes, for two cores: the tests that need Ray, which mostly wait for its processes, and all others.
test: setup
	$(BIN)/python -m pytest -m ray & ray=$$!; \
	$(BIN)/python -m pytest -m "not ray"; rest=$$?; \
	wait $$ray && exit $$rest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not ray"

# After `make demo`, which leaves the system that is measured. SPEECH: a folder with the recordings that benchmarks/bench_codec.py names; without it the codec's bench is left out.
bench: setup
	$(UV) pip install --quiet --python $(BIN)/python --no-deps pesq
	$(BIN)/python -m benchmarks.bench_prepare
	$(BIN)/python -m benchmarks.bench_synthesize
	$(BIN)/python -m benchmarks.bench_phrases
	$(if $(SPEECH),$(BIN)/python -m benchmarks.bench_codec $(SPEECH))

# Small wrong changes to a file or folder, and which of them no test notices: make mutants WHAT=models/sampling/masked.py TESTS=tests/models/sampling
mutants: setup
	$(UV) pip install --quiet --python $(BIN)/python --no-deps mutmut==3.8.1 coverage libcst linkify-it-py mdit-py-plugins setproctitle textual
	$(BIN)/python -m benchmarks.mutants $(WHAT) --tests $(or $(TESTS),tests) $(if $(SAMPLE),--sample $(SAMPLE))

# Compiled without addresses, for every platform; run it after changing a dependency.
lock:
	$(UV) pip compile pyproject.toml --extra dev --extra evaluation --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header -o requirements.lock
