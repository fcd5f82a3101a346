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

.PHONY: install demo test lint bench format clean

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

# Files side by side on all cores; then the end-to-end tests, whose engine wants the machine for itself.
test: install browser
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest -n auto --dist loadfile --ignore tests/e2e
	$(BIN)/pytest tests/e2e
endif

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
