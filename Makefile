# Each target builds .venv on first use and needs nothing but python3 (3.10 to 3.13) and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo-output
BENCH_DIR ?= bench-output
BENCHMARKS ?= train_step mixed_batch inference pipeline shuffling convert startup
BENCH_FLAGS ?=
TRAINING := loop joint on_jax
ON_JAX := tests/layers tests/backbones tests/test_model.py tests/test_backend.py $(TRAINING:%=tests/training/test_%.py)

.PHONY: demo test test-slow test-jax bench lint clean

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,demo]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m tfmdl.demo --workdir=$(DEMO_DIR)

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m "not slow"

# What takes as long as all others together: whole exports and campaigns, shares of faults, other programs.
test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m slow

# Layers, model and training on Keras's other backend; there too training is tried on several devices, and by several
# processes.
test-jax: $(VENV)/.jax-installed
	KERAS_BACKEND=jax $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal $(ON_JAX)

bench: $(VENV)/.bench-installed
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --out=$(BENCH_DIR) $(BENCH_FLAGS) || exit 1; done

$(VENV)/.jax-installed $(VENV)/.bench-installed: $(VENV)/.%-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) $(DEMO_DIR) $(BENCH_DIR) build *.egg-info
