# `make help` lists the targets. Everything is installed into .venv; nothing outside the checkout is needed but Python and make.

PYTHON ?= python3
VENV := .venv
UV_VERSION := 0.13.9
# DVC runs `python stages/...`: the environment's own must come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
PORT ?= 5000
TRACKER = http://127.0.0.1:$(PORT)/\#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=models
# Of what DVC prints, stages say themselves what they did; errors and progress bars go to standard error.
QUIET := -E -e '/^(Running stage|> |Updating lock|Generating lock|Use `dvc push`|$$)/d' -e "/^Stage '.*skipping$$/d" \
	-e '/^To track the changes with git/,/core.autostage/d'
SHELL := bash
.SHELLFLAGS := -o pipefail -c
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup repro test lint format types docs bench fuzz kills ui lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## create .venv with the pinned dependencies

# An environment has the checkout's folder written into it: one that was moved or copied along is made anew.
ifneq ($(shell cat $(VENV)/.ready 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.ready
CLEAR := --clear
endif

$(VENV)/.ready: requirements.lock pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "emofuse needs Python 3.11 or later; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode --no-deps --require-hashes \
		--requirements requirements.lock
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p data/raw
	@echo "$(CURDIR)" > $@

repro: setup  ## rebuild what changed of the pipeline and print the results
	@emofuse heal
	@dvc repro | sed -u $(QUIET)
	@emofuse leaderboard
	@for page in data/scores/*/*/report.html; do echo "report   file://$(CURDIR)/$$page"; done
	@echo "tracker  $(TRACKER), once \`make ui\` runs"

test: setup  ## run the whole test suite (COVERAGE=--cov: with its coverage)
	python -m pytest --numprocesses logical --maxprocesses 4 $(COVERAGE)

lint: setup  ## check style and spelling
	ruff check .
	ruff format --check .
	codespell

format: setup  ## fix style
	ruff check --fix .
	ruff format .
	@for each in corpora/*/; do cp dvc.yaml $$each; done

types: setup  ## check types
	mypy

docs: setup  ## build the documentation, strictly and offline, into docs/_build/html
	python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env \
		--doctree-dir docs/_build/doctrees --builder html docs docs/_build/html
	@echo "file://$(CURDIR)/docs/_build/html/index.html"

bench: setup  ## measure speed; prints the tables of benchmarks/
	@for each in extraction ingest levels predict scoring shards training whisper; do python benchmarks/$$each.py; done

fuzz: setup  ## read damaged inputs of all kinds for a while (SECONDS=600 for ten minutes)
	python benchmarks/fuzz.py $(SECONDS)

kills: setup  ## kill a small pipeline forty times, and see that it heals
	python benchmarks/kills.py

ui: setup  ## show the runs at http://127.0.0.1:5000 (PORT=... for another port)
	emofuse track --port $(PORT)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

lock: setup  ## resolve the dependencies again and write requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev \
		--upgrade pyproject.toml --output-file requirements.lock

clean:  ## remove everything that can be made again, the environment and the tracker's database excepted
	rm -rf data/corpora data/corrupted data/digests data/features data/models data/scores data/sound .emofuse
