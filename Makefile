# make quickstart | test | test-all | chaos | lint | format | docs, with PYTHON=python3.12 for another interpreter (3.11
# or newer).

PYTHON ?= python3
ARGS ?=
N ?= 200
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error PYTHON=$(PYTHON) cannot be run: name a Python of 3.11 or newer)
endif
CONSTRAINTS := $(addprefix -c ,$(wildcard constraints/py$(VERSION).txt))
BIN := .venv/bin
# uv installs what pip does in a quarter of the time.
INSTALL := $(BIN)/uv pip install -q --python $(BIN)/python $(CONSTRAINTS)

.PHONY: quickstart test test-all chaos lint format docs clean

quickstart: .venv/run-$(VERSION)
	$(BIN)/python -m jaxgan train --config=numerals $(ARGS)
	@echo 'The commands of the README work in a shell after: source $(BIN)/activate'

test: .venv/dev-$(VERSION)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not slow and not long and not chaos" $(ARGS)

test-all: .venv/dev-$(VERSION)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not chaos" $(ARGS)

chaos: .venv/dev-$(VERSION)
	$(BIN)/python -m tests.chaos --disturbances=$(N)
	$(BIN)/python -m pytest -q -m chaos tests

lint: .venv/dev-$(VERSION)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/dev-$(VERSION)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages as a site, into site/. Its generator would speak of its own successors.
docs: .venv/docs-$(VERSION)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf .venv site

# A stamp says what .venv holds and for which Python; another Python starts it anew.
.venv/run-$(VERSION): pyproject.toml $(wildcard constraints/py$(VERSION).txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxgan needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -e $@ || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(INSTALL) -e .
	touch $@

.venv/dev-$(VERSION): .venv/run-$(VERSION)
	$(INSTALL) -e '.[dev]'
	touch $@

.venv/docs-$(VERSION): .venv/run-$(VERSION)
	$(INSTALL) -e '.[docs]'
	touch $@
