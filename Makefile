# Two commands do everything on a fresh machine with Python >= 3.11: `make demo` and `make test`.

PYTHON ?= python3
# A second index for torch, such as https://download.pytorch.org/whl/cpu for the CPU build.
TORCH_INDEX ?=
# The versions to install; constraints-oldest.txt has the oldest that are tested.
CONSTRAINTS ?= constraints.txt

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c $(CONSTRAINTS)

.PHONY: demo test slow lint docs clean

demo: .venv/ready            ## Distil a digit classifier and compare it honestly
	$(BIN)/limbeck demo

# One process a core, one thread a process: the tests are many and small.
test: .venv/ready-dev        ## The suite, doctests and the code of README and docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

slow: .venv/ready-dev        ## Longer proofs, and the commands of README and docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses logical --maxprocesses 8 --dist worksteal

lint: .venv/ready-dev        ## Style, types and the law of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

docs: .venv/ready-dev        ## The pages, into site/
	$(INSTALL) --group docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_pictures.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/zensical build --clean

clean:
	rm -rf .venv site dist docs/pictures

# torch comes first and alone: another package that asks for a range of it might take a larger build.
.venv/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Limbeck needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1'
	$(INSTALL) torch
	$(INSTALL) -e '.[all]'
	touch $@

.venv/ready-dev: .venv/ready
	$(INSTALL) --group test --group lint
	$(INSTALL) --no-deps --group peers
	touch $@
