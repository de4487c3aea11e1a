# Two commands set everything up, and may be run again at any time:
#   make demo   the whole system on a fresh machine: sample images into a bucket, boxes to verify in Label Studio
#   make test   everything the gate checks: lint, types, tests
# All of it stays in this folder: .venv (Python packages) and .boxdrop (the system and its data).

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
export BOXDROP_HOME := $(CURDIR)/.boxdrop
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint types check format requirements chromium clean
.DELETE_ON_ERROR:

help:
	@sed -n '2,4s/^# //p' Makefile
	@echo "  make lint | types | check   parts of make test: ruff, mypy, pytest"
	@echo "  make format                 put the code into its format"
	@echo "  make requirements           compile requirements/*.txt anew from pyproject.toml"
	@echo "  make clean                  stop the system; remove .venv and caches (.boxdrop with your work stays)"

demo: .venv/demo
	@echo "== Starting the system on this machine (the first time, Label Studio is installed: about a minute, 1 GB)"
	@$(BIN)/boxdrop local up >/dev/null
	@echo "== Dropping sample images into the bucket"
	@$(BIN)/boxdrop local demo

test: lint types check

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

check: .venv/test chromium
	$(BIN)/pytest $(PYTEST_ARGS)

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "boxdrop needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "== Making .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv

.venv/demo: requirements/demo.txt pyproject.toml | .venv/bin/uv
	@echo "== Installing boxdrop into .venv"
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/demo.txt
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

# torch goes first and by pip: it picks the build that suits the machine.
.venv/torch: | .venv/bin/uv
	@echo "== Installing $(TORCH), to compare exported detectors with their source"
	$(BIN)/pip install --quiet '$(TORCH)'
	@touch $@

.venv/test: requirements/test.txt pyproject.toml .venv/torch
	@echo "== Installing boxdrop and what its tests need into .venv"
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/test.txt
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@ .venv/demo

chromium:
	@scripts/install_chromium.sh

# The larger set first: what it settles holds for the smaller one, too.
requirements: | .venv/bin/uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --generate-hashes \
	  --custom-compile-command "make requirements" \
	  --extra dev pyproject.toml -o requirements/test.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --generate-hashes \
	  --custom-compile-command "make requirements" \
	  --extra heic --extra functions -c requirements/test.txt pyproject.toml -o requirements/demo.txt
	$(BIN)/uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_28 \
	  --no-emit-index-url --generate-hashes --custom-compile-command "make requirements" --no-emit-package onnxruntime \
	  --extra job -c requirements/test.txt pyproject.toml -o requirements/job.txt
	@for package in small tracking; do $(MAKE) --no-print-directory requirements/functions-$$package.txt; done
	$(MAKE) --no-print-directory requirements/functions-label-studio.txt OMIT="$(NEVER_IMPORTED)"

# What the deployed functions import; the versions are those of the tests.
FUNCTIONS_COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
	  --no-emit-index-url --generate-hashes --custom-compile-command "make requirements" -c requirements/test.txt
# Of Label Studio's SDK: what its client never imports. OpenCV alone is 145 MB, and a package may have 250.
NEVER_IMPORTED := opencv-python-headless black isort datamodel-code-generator nltk regex joblib watchfiles ijson typer \
	shellingham genson inflect more-itertools typeguard mypy-extensions pathspec platformdirs pytokens tqdm ujson \
	cloudpickle doclang requests-mock defusedxml

requirements/functions-%.txt: infra/packages/%.in requirements/test.txt | .venv/bin/uv
	$(FUNCTIONS_COMPILE) $(addprefix --no-emit-package ,$(OMIT)) $< -o $@

clean:
	-[ ! -x $(BIN)/boxdrop ] || $(BIN)/boxdrop local down
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
