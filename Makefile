# make demo    a fresh machine: environment, embedded model, a long document, questions and answers
# make test    a fresh machine: environment and all tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BUILD ?= build

.PHONY: demo test lint types docs docs-check slow bench clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(BUILD)/logbook.md: examples/make_logbook.py $(VENV)/.installed
	mkdir -p $(BUILD)
	$(BIN)/python examples/make_logbook.py $@ --words 30000 --seed 7

demo: $(BUILD)/logbook.md
	$(BIN)/python examples/demo.py $(BUILD)/logbook.md $(BUILD)/logbook.mem

test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" -q

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/cog -r README.md README.zh-CN.md docs/cli.md docs/mechanisms.md

docs-check: $(VENV)/.installed
	$(BIN)/cog --check README.md README.zh-CN.md docs/cli.md docs/mechanisms.md

bench: $(VENV)/.installed
	for name in parity reading flat_memory needles decoding; do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.recall --answers
	$(BIN)/python -m benchmarks.recall --data cmrc
	$(BIN)/python benchmarks/durability.py --kills 200

clean:
	rm -rf $(BUILD) .pytest_cache .mypy_cache .ruff_cache
