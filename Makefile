# `make demo` and `make test` each set up everything they need, from nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests never ask a hub for weights; a library that tries fails at once instead of hanging.
test check: export HF_HUB_OFFLINE := 1
# What is not wanted on a loaded machine: threads that spin while they wait.
export OMP_WAIT_POLICY := passive

.PHONY: setup demo test check wheel clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Safelight needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check pip==26.3
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]' --group dev
	touch $(READY)

# SAFELIGHT_CONFIG=harmless make demo: under a policy that forbids teapots, so that everything can be tried on them.
demo: setup
	$(BIN)/safelight demo

# Two at a time, a file to one of them: many tests wait for servers and databases, and a module shares its own.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: setup
	rm -rf dist
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
