# Everything needs only make and Python 3.11 or newer: make run

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILE := uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

.DEFAULT_GOAL := help
.PHONY: help install run check test test-days test-long bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## only .venv, from the lock file

# Again only when the lock file is newer.
$(INSTALLED): requirements/development.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'Python 3.11 or newer is needed and "$(PYTHON)" is not: try PYTHON=python3.12 make install' >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/development.txt
	@touch $@

# exec: what is sent to make's child reaches Python.
run: $(INSTALLED) ## everything, on servers of its own under .data/; Ctrl-C stops it
	@exec $(BIN)/python -m embedded run

check: $(INSTALLED) ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(INSTALLED) ## the test suite, but for the tests of test-long
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long"

test-days: $(INSTALLED) ## what looks at a calendar, on other days; DAYS="leap-day ..." for some of them
	$(BIN)/python -m tests.days $(DAYS)

test-long: $(INSTALLED) ## the tests that take minutes
	$(BIN)/python -m pytest -n auto --dist worksteal -m long

bench: $(INSTALLED) ## every benchmark of speed; tables and plots go to bench/results/
	$(BIN)/python -m bench all

lock: ## the lock files, from pyproject.toml; needs uv
	$(COMPILE) -o requirements/production.txt
	$(COMPILE) --all-extras -o requirements/development.txt

clean: ## .venv and caches; the data in .data/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
