# make demo, make test, make lint, make bench, make docs, make fuzz. Each installs what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := build

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.tools: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -q --disable-pip-version-check "scikit-build-core>=0.11" "cython>=3.2,<3.4" "cython-cmake>=0.2" cmake ninja click "pytest>=8" "hypothesis>=6.100" "pytest-timeout>=2.3" "mypy>=1.11" "ruff>=0.8"
	touch $@

.PHONY: build
build: $(VENV)/.tools
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e .
