# Everything runs in .venv, which `make install` makes from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA ?= cpu

# uv does not read pip's settings: a folder of wheels given to pip is passed on; otherwise a CPU
# build of torch comes from PyTorch's own index.
ifeq ($(EXTRA),cpu)
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND := cpu
endif
endif

.PHONY: install demo test unit e2e lint bench format clean

install: $(VENV)/.installed-$(EXTRA)

$(VENV)/.installed-$(EXTRA): pyproject.toml constraints-$(EXTRA).txt
	@# One environment holds either build of vLLM, never both.
	@for other in $(filter-out $(EXTRA),cpu gpu); do \
		if test -e $(VENV)/.installed-$$other; then \
			echo "$(VENV) holds the $$other build: run 'make clean' first"; exit 1; fi; done
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints-$(EXTRA).txt uv
	@# vLLM is three processes of some 3,000 modules each: without bytecode each start compiles them all.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints-$(EXTRA).txt -e '.[$(EXTRA),dev]'
	touch $@

demo: install
	$(BIN)/hub demo $(ARGS)

# Both at once: while the end-to-end tests wait for an engine to start, the others use the cores.
# What each prints comes when it is done.
test: install browser
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target unit e2e
endif

unit: install browser
	$(BIN)/pytest -n auto --dist loadfile --ignore tests/e2e

e2e: install browser
	$(BIN)/pytest tests/e2e

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One benchmark: make bench BENCH=overhead. Some know ARGS=--short, which keeps no results.
bench: install
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

.PHONY: browser
browser: install
	$(BIN)/python -m tests.browser

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
