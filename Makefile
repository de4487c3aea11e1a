# boxdrop's commands for its checkout. Each may be run again at any time:
#   make demo    run the whole system on this machine: sample images in a bucket, boxes to verify in Label Studio
#   make quick   check what you changed, in about a minute: lint, types of changed files, unit tests; no torch
#   make test    run the gate: lint, types, documentation, all tests
# Everything stays in this folder: .venv (Python packages) and .boxdrop (the system and its data).

PYTHON ?= python3
TORCH ?= torch==2.13.0
TRAINER := accelerate==1.15.0
BIN := .venv/bin
export BOXDROP_HOME := $(CURDIR)/.boxdrop
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Processes that run tests at the same time; 0 runs them one by one in this one.
WORKERS ?= 2

.PHONY: help demo quick test lint types check judge loop docs format pictures requirements chromium clean
.DELETE_ON_ERROR:

help:
	@sed -n '2,4s/^# //p' Makefile
	@echo "  make lint | types | docs | check   parts of make test: ruff, mypy, mkdocs, pytest"
	@echo "  make check PYTEST_ARGS=… WORKERS=… some tests; processes that run them (default: 2)"
	@echo "  make judge SEED=… MINUTES=…        attack a system of its own, and judge it from outside (default: 30 minutes)"
	@echo "  make loop SEED=… EPOCHS=…          verify, teach, train, compare, promote: the whole loop, measured"
	@echo "  make format                        format the code"
	@echo "  make requirements                  compile requirements/*.txt from pyproject.toml"
	@echo "  make pictures                      take all pictures of docs/images again (a few minutes)"
	@echo "  make clean                         stop the system; remove .venv and caches (.boxdrop with your work stays)"

demo: .venv/demo
	@echo "== Starting the system on this machine (the first time, Label Studio is installed: about a minute, 1 GB)"
	@$(BIN)/boxdrop local up >/dev/null
	@echo "== Uploading sample images to the bucket"
	@$(BIN)/boxdrop local demo $(if $(DETECTOR),--detector '$(DETECTOR)')

quick: .venv/quick
	@echo "== Lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== Types of changed files"
	@scripts/check_changed_types.sh
	@echo "== Unit tests"
	@$(BIN)/pytest -q -n $(WORKERS) -m "not slow" tests/unit

# The tests come last, so that the output ends with their count.
test: lint types docs check

lint: .venv/test
	@echo "== Lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/test
	@echo "== Types (a minute and a half the first time)"
	@$(BIN)/mypy

docs: .venv/test
	@echo "== Documentation (build/site); a broken link is an error"
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

check: .venv/test chromium
	@echo "== Tests, in $(WORKERS) processes"
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Not part of make test, which runs a short mix of the same attacks.
judge: .venv/test
	@$(BIN)/python -m tests.judge.rounds $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),30)

# Minutes on two cores. From scenes that the demo detector finds badly to a detector of one's own.
loop: .venv/test
	@$(BIN)/python -m benchmarks.loop $(if $(SEED),--seed $(SEED)) $(if $(EPOCHS),--epochs $(EPOCHS))

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A system of its own, in a temporary folder; the one that runs is left alone.
pictures: .venv/test chromium
	@$(BIN)/python -m scripts.pictures

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

.venv/quick: requirements/test.txt pyproject.toml | .venv/bin/uv
	@echo "== Installing boxdrop and what its tests need into .venv, without torch"
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/test.txt
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@ .venv/demo

# pip takes PyPI's build, which on Linux has CUDA; TORCH_BACKEND=cpu is 5 GB smaller.
.venv/torch: | .venv/bin/uv
	@echo "== Installing $(TORCH), to compare exported detectors with their source"
	$(if $(TORCH_BACKEND),$(BIN)/uv pip install --torch-backend $(TORCH_BACKEND),$(BIN)/pip install) --quiet '$(TORCH)'
	@touch $@

.venv/test: .venv/torch .venv/quick
	$(BIN)/uv pip install --quiet --no-deps '$(TRAINER)'
	@touch $@

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
