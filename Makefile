# Two commands are enough: `make run` and `make test`. `make help` lists the others.
PYTHON ?= python3
VENV   ?= .venv
# A package index with the torch build you want (CPU, CUDA); empty takes pip's own configuration.
TORCH_INDEX_URL ?=
PORT_BASE ?= 8000
JOBS ?= 4
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
or_say = || { echo "$(1)" >&2; exit 1; }
.DEFAULT_GOAL := help
.PHONY: help run up test lint format bench protos protos-check clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
run: $(VENV)/.run ## Start the mesh, label a photo through four processes, stop
	@$(BIN)/stagemesh up --models classify --port-base 0 -- infer classify examples/photos/coffee.png
up: $(VENV)/.run ## Start the mesh and keep it up until Ctrl-C
	@$(BIN)/stagemesh up --port-base $(PORT_BASE)
test: $(VENV)/.dev ## Run all tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup
lint: $(VENV)/.dev protos-check ## ruff, mypy --strict, import-linter, generated code up to date
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
bench: $(VENV)/.dev ## Measure a hop and the pipeline beside their references
	@$(BIN)/python -m bench
protos: $(VENV)/.dev ## Generate the protocol's descriptors again
	@$(BIN)/python protos/generate.py
protos-check: $(VENV)/.dev
	@$(BIN)/python protos/generate.py --check
clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  $(call or_say,stagemesh needs Python 3.11 or newer: make PYTHON=/path/to/python3.11)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  $(call or_say,no virtual environment could be made: install the package python3-venv)
	@echo "installing torch (the one large download) ..."
	@$(PIP) install -r constraints.txt $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) \
	  $(call or_say,torch could not be installed: is a package index within reach? see TORCH_INDEX_URL)
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	@echo "installing stagemesh and its services ..."
	@$(PIP) install -c constraints.txt -e '.[gateway,preprocess,infer,postprocess]' && touch $@
$(VENV)/.dev: $(VENV)/.run
	@echo "installing what tests and linters need ..."
	@$(PIP) install -c constraints.txt -e '.[dev]' && touch $@
