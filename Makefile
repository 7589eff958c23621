# make demo      sets up, then runs the whole chain on a simulated plant
# make test      sets up, then runs the tests
# make wheel     builds what a device installs, into dist/
# make docs      sets up, then builds the pages of docs/ into site/ and checks their links
# A Linux machine without an NVIDIA GPU saves gigabytes with an index of CPU wheels:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=
DIST ?= dist

BIN = $(VENV)/bin
STAMP = $(VENV)/.edgekd-installed

.PHONY: setup demo test docs wheel lint format clean

setup: $(STAMP)

# Torch comes first and alone, so that an index given for it serves no other package; the constraints then keep it.
# The build's own leftover goes: the installed package has its metadata inside the environment.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "EdgeKD needs Python 3.11 or newer; name one with: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[workstation,tflite-export,anomalyllm,dev]'
	@rm -rf edgekd.egg-info
	@touch $@

demo: setup
	$(BIN)/python -m examples.demo

test: setup
	$(BIN)/python -m pytest -q -n auto --dist loadfile $(PYTEST_ARGS)

wheel:
	$(PYTHON) -m bench.promises.wheel $(DIST)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo site build dist edgekd.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
