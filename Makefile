# make demo   trains a small CLIP on real handwriting and opens the way to a report (about ten minutes, mostly installing)
# make test   runs the tests            make check   runs the linter, the formatter and the type checker
# make test-lowest   runs the tests with the lowest versions that pyproject.toml allows, in an environment of its own
# make docs   builds the site of docs/ into site/; with search: python -m http.server -d site
# Each works alone on a fresh machine that has Python 3.11 or newer. Another Python than the first one found:
# `make clean`, then `make test PYTHON=python3.13`.

PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
BIN := .venv/bin

.PHONY: demo test test-lowest check bench docs clean

demo: .venv/installed
	$(BIN)/diptych demo

# Three on two cores, since many wait for processes that they started. In their own order: with those
# of few tests last, as xdist has it, the slowest files would end a run on one core while the other
# has nothing left.
SPREAD := -n 3 --dist loadfile --no-loadscope-reorder

# Compiled modules are kept even where the machine says that they shouldn't be: tests start hundreds of
# processes, and each would compile torch and transformers anew, 15 seconds long.
RUN := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1

test: .venv/installed-test
	$(RUN) $(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-lowest: .venv-lowest/installed
	DIPTYCH_LOWEST=1 $(RUN) .venv-lowest/bin/python -m pytest $(SPREAD) $(ARGS)

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/installed-test
	$(BIN)/python -m benchmarks

# The pictures are committed. `python -m docs._make.pictures` draws them anew; `python -m docs._make.screenshots demo`
# takes those of the app, of heat maps and of a report, after `diptych demo`.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-lowest site

.venv/bin/uv:
	@test -n "$(PYTHON)" || { echo "Diptych needs Python 3.11 or newer (with venv); none was found."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# uv installs several times faster; pip stands in where only pip knows how to reach the package index.
define install
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '$(1)' \
		|| $(BIN)/python -m pip install -c constraints.txt -e '$(1)'
endef

.venv/installed: pyproject.toml constraints.txt | .venv/bin/uv
	$(call install,.[app])
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/uv
	$(call install,.[test])
	@touch $@ .venv/installed

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/uv
	$(call install,.[docs])
	@touch $@

.venv-lowest/installed: pyproject.toml | .venv/bin/uv
	$(BIN)/uv venv --quiet --clear --seed --python 3.11 .venv-lowest
	$(BIN)/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct -e '.[test]'
	@touch $@
