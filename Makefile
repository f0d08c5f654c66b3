# Two commands for a fresh machine that has python3 (3.11 or later) and make:
#
#   make quickstart                       fine-tune a real model on text, in a few minutes on two cores
#   make quickstart ARGS="--help"         what the example can do
#   make test                             run the tests
#
# The first command makes .venv and installs into it; later ones reuse it.

PYTHON     ?= python3
VENV       ?= .venv
ARGS       ?=
JOBS       ?= 2
# Where torch comes from, for machines whose registry offers another build than the one wanted, for example
# TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu".
TORCH_ARGS ?=

BIN        := $(VENV)/bin
PIP        := $(BIN)/python -m pip --disable-pip-version-check
INSTALL    := $(PIP) install --quiet --constraint constraints.txt
PLUGINS    := $(sort $(wildcard plugins/mlclf-*))
TORCH      := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-template lint format types docs clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

quickstart: $(VENV)/.stamp-train  ## Install mlclf and run examples/quickstart.py (ARGS="..." are its arguments).
	$(BIN)/python examples/quickstart.py $(ARGS)

test: $(VENV)/.stamp-dev  ## Run the tests that are not marked slow (ARGS="..." are pytest's arguments).
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: $(VENV)/.stamp-dev  ## Run the tests that are marked slow.
	$(BIN)/python -m pytest -m slow $(ARGS)

test-template: $(VENV)/.stamp-dev  ## Generate a plugin of each kind, install it with pip into a fresh environment, and run its tests.
	$(BIN)/python -m pytest -m slow tests/test_plugins_new.py $(ARGS)

lint: $(VENV)/.stamp-dev  ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-dev  ## Format, and mend what can be mended automatically.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.stamp-dev  ## Check the types of mlclf/ and its plugins strictly.
	$(BIN)/mypy

docs: $(VENV)/.stamp-docs  ## Build the documentation into site/, warnings being errors.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## Remove the environment and everything built.
	rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit("mlclf needs Python 3.11 or later, $(PYTHON) is " + sys.version.split()[0] + ". Use make PYTHON=python3.11." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) pip setuptools
	@touch $@

# torch goes first and alone: asked for by another package, a registry may give a build with gigabytes of CUDA.
$(VENV)/.stamp-torch: $(VENV)/.stamp-venv constraints.txt
	$(PIP) install --quiet $(TORCH_ARGS) "$(TORCH)"
	@touch $@

$(VENV)/.stamp-train: $(VENV)/.stamp-torch pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(INSTALL) --editable '.[train]' $(PLUGINS:%=--editable %)
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-train
	$(INSTALL) --editable '.[onnx]' --group dev
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-dev
	$(INSTALL) --group docs
	@touch $@
