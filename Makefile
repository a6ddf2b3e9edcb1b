# make demo       on a fresh machine: the environment, the embedded model, a long document, questions and answers
# make test       on a fresh machine: the environment and all fast tests, on two cores
# make lint types audit docs-check site    what CI checks beside the tests; `make docs` renews what is generated
# make wheel      the wheel outside the repository, with the newest and with the lowest version of every dependency: read,
#                 search, ask, train, predict
# make slow       tests that take minutes, and five of fuzzing;  make mutations: faults that a test must find
# make matrix     the fast tests with the lowest and with the newest declared version of every dependency, each in its own
#                 environment under build/matrix, where a library's warning is no failure; TORCH=2.11.0 takes another torch
# make browser    the pages that memspan writes in Chromium (apt-get install chromium): console, requests, axe, keyboard, small
#                 screens
# make bench      the benchmarks of the README that need no data set but those in MEMSPAN_DATA
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BUILD ?= build
PIP = -m pip install --quiet --disable-pip-version-check
# The extractor of `html` needs newer versions than the core does, so the matrix leaves it out; `gguf`, `watch`, `monitor` and `serve` have
# one release line each. `ray` and `ocr` take 240 and 310 MB on disk: no target needs them, and their tests are skipped.
TRIED = train,tasks,tune,explain
EXTRAS = $(TRIED),html,gguf,watch,monitor,mcp,langchain,llm,serve
MATRIX ?= lowest newest
TORCH ?= $(patsubst torch==%,%,$(filter torch==%,$(file < constraints.txt)))
# Compiled files are kept, whatever the environment says: the tests start hundreds of processes, each of which imports memspan.
KEPT = PYTHONDONTWRITEBYTECODE=
FAST = -m pytest -m "not slow" -q -n 2 --dist worksteal
GENERATED = README.md README.zh-CN.md docs/benchmarks.md docs/cli.md docs/cookbook.md docs/mechanisms.md docs/monitor.md docs/recommend.md docs/safety.md docs/support.md docs/tasks.md docs/trained-memory.md

.PHONY: demo test slow lint types audit docs docs-check site wheel matrix mutations browser bench clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) 'pip>=25.1'
	$(BIN)/python $(PIP) -c constraints.txt torch
	$(BIN)/python $(PIP) -c constraints.txt -e '.[$(EXTRAS)]' --group dev
	touch $@

$(BUILD)/logbook.md: $(shell find examples/logbook -type f -not -name '*.pyc') $(VENV)/.installed
	mkdir -p $(BUILD)
	$(BIN)/python -m examples.logbook.generate $@ --words 30000 --seed 7

demo: $(BUILD)/logbook.md
	$(BIN)/python examples/demo.py $(BUILD)/logbook.md $(BUILD)/logbook.mem

test: $(VENV)/.installed
	$(KEPT) OMP_NUM_THREADS=1 $(BIN)/python $(FAST)

slow: $(VENV)/.installed
	$(KEPT) $(BIN)/python -m pytest -m slow -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

audit: $(VENV)/.installed
	$(BIN)/bandit --quiet --recursive memspan --configfile pyproject.toml

docs: $(VENV)/.installed
	$(BIN)/cog -r $(GENERATED)

docs-check: $(VENV)/.installed
	$(BIN)/cog --check $(GENERATED)

site: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(BUILD))/site

wheel: $(VENV)/.installed $(BUILD)/newest.txt $(BUILD)/lowest.txt
	rm -rf $(BUILD)/dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(BUILD)/dist .
	.ci/wheel $(BUILD)/dist/memspan-*.whl $(BIN)/python $(BUILD)/newest.txt
	.ci/wheel $(BUILD)/dist/memspan-*.whl $(BIN)/python $(BUILD)/lowest.txt

$(BUILD)/newest.txt: constraints.txt
	mkdir -p $(BUILD)
	echo torch==$(TORCH) > $@

$(BUILD)/lowest.txt: .ci/lowest pyproject.toml constraints.txt
	mkdir -p $(BUILD)
	.ci/lowest $(TORCH) > $@

matrix: $(MATRIX:%=$(BUILD)/%.txt)
	for end in $(MATRIX); do \
	  venv=$(BUILD)/matrix/$$end-torch-$(TORCH) && \
	  $(PYTHON) -m venv $$venv && \
	  $$venv/bin/python $(PIP) 'pip>=25.1' && \
	  $$venv/bin/python $(PIP) torch==$(TORCH) && \
	  $$venv/bin/python $(PIP) -c $(BUILD)/$$end.txt -e '.[$(TRIED)]' --group test && \
	  OMP_NUM_THREADS=1 $$venv/bin/python $(FAST) -W default || exit 1; \
	done

mutations: $(VENV)/.installed
	$(BIN)/python -m benchmarks.mutations

browser: $(VENV)/.installed
	$(BIN)/python $(PIP) -c constraints.txt --group browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_pages.py -q -n 0

bench: $(VENV)/.installed
	for name in parity reading flat_memory needles decoding; do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.recall --answers
	$(BIN)/python -m benchmarks.recall --data cmrc
	$(BIN)/python -m benchmarks.durability --kills 500
	$(BIN)/python -m benchmarks.killed_training --kills 60
	$(BIN)/python -m benchmarks.flips --flips 1000 --save
	$(BIN)/python -m benchmarks.threads --minutes 10
	$(BIN)/python -m benchmarks.bookkeeping --save
	$(BIN)/python -m benchmarks.injections

clean:
	rm -rf $(BUILD) .pytest_cache .mypy_cache .ruff_cache
