# Two commands matter: `make up` runs the workspace, `make test` passes the tests. Both set up what they need.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first interpreter found that is supported; `make PYTHON=...` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
# Bytecode is compiled on install, ours too: Prefect alone imports in half the time with it, and the API in two thirds,
# also where Python is told to write none, as in many containers.
UV_INSTALL = $(1) pip install --quiet --python $(BIN)/python --compile-bytecode

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "MediSync needs Python 3.11, 3.12 or 3.13; none was found. Try: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up the environment in $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null && uv=$(BIN)/uv; fi; \
	if [ -n "$$uv" ]; then \
		$(call UV_INSTALL,$$uv) --require-hashes -r requirements.lock && \
		$(call UV_INSTALL,$$uv) --no-deps --no-build-isolation --editable .; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@$(BIN)/python -m compileall -q medisync flows
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Create the environment from the lock

.PHONY: up
up: $(STAMP) ## Run the workspace, with the sample loaded; Ctrl-C stops it
	@$(BIN)/medisync up --sample

.PHONY: lab
lab: $(STAMP) ## Run the workspace with JupyterLab
	@$(BIN)/medisync up --sample --lab

.PHONY: down
down: $(STAMP) ## Stop the running workspace
	@$(BIN)/medisync down

.PHONY: status
status: $(STAMP) ## Show what runs and how fresh the numbers are
	@$(BIN)/medisync status

.PHONY: test
test: $(STAMP) ## Run all tests on all cores; those that mostly wait, for servers and browsers, come first
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
		tests/servers tests/browser tests/integration tests/notebooks tests/property tests/unit

.PHONY: check
check: $(STAMP) ## Formatter, linter and type checker
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

.PHONY: lock
lock: $(STAMP) ## Resolve the newest allowed versions into requirements.lock
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml --output-file requirements.lock

.PHONY: clean
clean: ## Remove the environment and caches; data and reports stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
