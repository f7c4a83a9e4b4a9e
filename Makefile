# The two commands of a newcomer, each complete in itself (python3 with venv, and make, are all they need):
#     make demo     set up, then watch a simulated night being taken in
#     make test     set up, then run the tests, with a real PostgreSQL
# `make help` lists the rest. ARGS is handed on: make test ARGS="tests/astra -x"

PYTHON ?= python3
VENV   ?= .venv
# Tests run in this many processes: most of their time is spent waiting for each other's processes.
JOBS   ?= 2
BIN    := $(VENV)/bin
LOCK   := requirements.lock
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK)

# Stamps: pip runs again only when what it installs from has changed.
STAMP       := $(VENV)/.stamp-run
STAMP_TEST  := $(VENV)/.stamp-test
STAMP_DEV   := $(VENV)/.stamp-dev
STAMP_BENCH := $(VENV)/.stamp-bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format-check lint types format test-system torture bench docs lock system-deps clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{ printf "  make %-13s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## a simulated night, taken in while it is written; ends by itself within a minute
	$(BIN)/astra demo $(ARGS)

test: $(STAMP_TEST)  ## all tests but the slow ones, on SQLite and PostgreSQL
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

check: format-check lint types test  ## formatter, linter, strict types, tests

format-check: $(STAMP_DEV)
	$(BIN)/ruff format --check .

lint: $(STAMP_DEV)
	$(BIN)/ruff check .

types: $(STAMP_DEV)
	$(BIN)/mypy

format: $(STAMP_DEV)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-system: $(STAMP_TEST)  ## what needs root, a real systemd, or minutes
	$(BIN)/python -m pytest -m system $(ARGS)

torture: $(STAMP_TEST)  ## a thousand kills on each database, or ASTRA_TORTURE_KILLS=n; long races
	$(BIN)/python -m pytest -m torture $(ARGS)

bench: $(STAMP_BENCH)  ## speed, side by side with the plain way and with other queues
	$(BIN)/python bench/run.py $(ARGS)

docs: $(STAMP_DEV)  ## test the documentation's examples and build it into docs/_build/html
	$(BIN)/python -m pytest tests/test_docs.py
	$(BIN)/python -m sphinx -q -W --keep-going -C -D project=Astra -D extensions=myst_parser -D root_doc=index \
		-D myst_heading_anchors=3 -D exclude_patterns=_build -b html docs docs/_build/html

lock: $(STAMP_DEV)  ## write requirements.lock anew, with today's versions
	rm -rf $(VENV)/lock
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --upgrade pip 'setuptools>=77'
	$(VENV)/lock/bin/python -m pip install --quiet '.[bench,dev,sdss]'
	sed -n '/^#/p' $(LOCK) > $(LOCK).new
	$(VENV)/lock/bin/python -m pip freeze --all | grep -E '^[A-Za-z0-9._-]+==' | grep -v '^pip==' >> $(LOCK).new
	mv $(LOCK).new $(LOCK)
	rm -rf $(VENV)/lock

# The extension's package is named after the PostgreSQL that it is built for.
system-deps:  ## what the tests can use beyond Python (root): PostgreSQL of the system with q3c, systemd, strace, Slurm
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv postgresql systemd procps strace util-linux \
		slurm-wlm slurmdbd munge mariadb-server-core mariadb-client-core \
		$$(apt-cache search --names-only '^postgresql-[0-9]+-q3c$$' | cut -d' ' -f1 | sort -V | tail -n 1)

clean:  ## remove the virtual environment and all caches
	rm -rf $(VENV) build dist *.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. Debian and Ubuntu: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is older. PYTHON=python3.12 make ... names another one"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is missing. Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)

# The build tool is installed pinned, then used as it is: nothing outside the lock file decides what is built.
$(STAMP): pyproject.toml $(LOCK) | $(BIN)/python
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable .
	@touch $@

# The survey's description of its tables lies apart: it brings a second driver of PostgreSQL, which peewee would import
# in every process, and the tests start hundreds.
$(STAMP_TEST): $(STAMP)
	@$(PIP) --no-build-isolation --editable '.[test]'
	@$(PIP) --upgrade --target $(VENV)/sdssdb sdssdb
	@touch $@

$(STAMP_DEV): $(STAMP_TEST)
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

# The queues that others use lie apart for the same reason.
$(STAMP_BENCH): $(STAMP_TEST)
	@$(PIP) --upgrade --target $(VENV)/peers huey procrastinate 'psycopg[binary]'
	@touch $@
