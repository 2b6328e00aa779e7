# Each target builds .venv on first use and needs nothing but python3 (3.10 to 3.13) and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo-output

.PHONY: demo test lint clean

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,demo]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m tfmdl.demo --workdir=$(DEMO_DIR)

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) $(DEMO_DIR) build *.egg-info
