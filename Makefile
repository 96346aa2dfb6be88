# Everything needs only make and Python 3.11 or newer: make run

PYTHON ?= python3
BIN := .venv/bin
# Stamps of what is in .venv: what running needs, what testing needs too, and all the rest.
# Each lock file includes the one before it, so .venv only grows.
RUN := .venv/.run
TEST := .venv/.test
DEVELOPMENT := .venv/.development
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

.DEFAULT_GOAL := help
.PHONY: help install run check check-package audit test test-engines test-newest-aiohttp test-days test-long beacon-table settings-page bench lock clean

help: ## this list; each target installs into .venv what it needs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' Makefile

install: $(DEVELOPMENT) ## only .venv, with what all targets need

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'Python 3.11 or newer is needed and "$(PYTHON)" is not: try PYTHON=python3.12 make run' >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv

$(TEST): $(RUN)
$(DEVELOPMENT): $(TEST)

# Again only when the lock file is newer.
.venv/.%: requirements/%.txt | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $<
	@touch $@

# exec: a signal to make's child reaches Python.
run: $(RUN) ## everything, on servers of its own under .data/; Ctrl-C stops it
	@exec $(BIN)/python -m embedded run

check: $(DEVELOPMENT) check-package ## format, lint, types, import rules, the beacon's npm package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whether front-ends' tools accept the package: publint and arethetypeswrong, locked by hashes.
check-package:
	@if ! npm --version >/dev/null 2>&1 || ! node -e 'process.exit(+(parseInt(process.versions.node) < 20))'; then \
		echo "no npm with a node of 20 or newer: the beacon's package was not checked"; \
	elif [ ! beacon/node_modules/.package-lock.json -nt beacon/package-lock.json ] && \
		! npm ci --prefix beacon --ignore-scripts --no-audit --no-fund --silent; then \
		echo "no index of packages answers: the beacon's package was not checked"; \
	else npm run --prefix beacon --silent check; fi

audit: $(TEST) ## known vulnerabilities of what production installs; asks PyPI
	$(BIN)/python requirements/audit.py

test: $(TEST) ## all tests but those of test-engines and test-long
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long and not engines"

test-engines: $(TEST) ## the beacon's tests in Firefox and WebKit; make test has them in Chromium
	$(BIN)/python -m pytest -n 2 -m engines tests/browser

# In a separate environment, because .venv has what the lock file says. Without an index it says so.
NEWEST := .data/newest-aiohttp
HTTP_TESTS := tests/integration/test_same_answer.py tests/integration/test_listener.py tests/adversity/test_connections.py tests/adversity/test_floods.py tests/unit/test_work.py tests/unit/test_header_fuzz.py
test-newest-aiohttp: $(TEST) ## the HTTP tests with the newest aiohttp that pyproject.toml allows; asks PyPI
	@rm -rf $(NEWEST) && $(BIN)/python -m venv --system-site-packages $(NEWEST)
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$($(NEWEST)/bin/python -c 'import site; print(site.getsitepackages()[0])')/locked.pth"
	@if $(NEWEST)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade \
		"$$($(BIN)/python -c 'import tomllib; print(*[d for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if d.startswith("aiohttp")])')"; then \
		$(NEWEST)/bin/python -c 'import aiohttp; print("aiohttp", aiohttp.__version__)' && \
		$(NEWEST)/bin/python -m pytest -m "not long" $(HTTP_TESTS); \
	else echo "no index of packages answers: the newest aiohttp was not tried"; fi

test-days: $(TEST) ## the tests that depend on the calendar, on other days; DAYS="leap-day ..." for some of them
	$(BIN)/python -m tests.days $(DAYS)

test-long: $(TEST) ## the tests that take a minute or more
	$(BIN)/python -m pytest -n auto --dist worksteal -m long

beacon-table: $(TEST) ## writes beacon/README.md's table of what each engine does
	BEACON_TABLE=write $(BIN)/python -m pytest tests/browser/test_engines.py

settings-page: $(TEST) ## writes the table of docs/settings.md, from contract/settings.py
	SETTINGS_PAGE=write $(BIN)/python -m pytest tests/unit/test_settings_page.py

bench: $(DEVELOPMENT) ## every benchmark of speed; tables and plots go to bench/results/
	$(BIN)/python -m bench all

lock: ## writes the lock files, from pyproject.toml; needs uv
	$(COMPILE) pyproject.toml -o requirements/production.txt
	$(COMPILE) pyproject.toml --extra embedded -o requirements/run.txt
	$(COMPILE) pyproject.toml --extra embedded --extra test -o requirements/test.txt
	$(COMPILE) pyproject.toml --all-extras -o requirements/development.txt
	$(COMPILE) requirements/superset.in -o requirements/superset.txt

clean: ## .venv and caches; the data in .data/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis beacon/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
