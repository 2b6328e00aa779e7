"""What the tests of layers, methods, backbones and the model share. They run on any Keras backend."""

import tfmdl  # isort: skip  # noqa: F401  (first, as in the command lines: it has a say in how TensorFlow computes)

import shutil

import keras
import numpy as np
import pytest

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def compiled():
    """Returns a function that compiles a model for plain steps of gradient descent, and returns it.

    `eager` runs a deep network op by op: for a few steps that is faster than tracing a graph. XLA stays off
    on TensorFlow, as in training on a CPU.
    """

    def compile_model(model, loss, *, eager=False, **sgd):
        optimizer = keras.optimizers.SGD(**{"learning_rate": 1.0, **sgd})
        optimizer.build(model.trainable_variables)  # built inside the first step it would be traced twice
        how = {"run_eagerly": eager, "jit_compile": False} if ON_TENSORFLOW else {}
        model.compile(optimizer, loss, **how)
        return model

    return compile_model


@pytest.fixture
def values():
    """Returns a function that copies the values of variables, or of all variables of a layer, by path."""

    def copy(variables):
        variables = variables.variables if isinstance(variables, keras.layers.Layer) else variables
        return {v.path: keras.ops.convert_to_numpy(v.value).copy() for v in variables}

    return copy


@pytest.fixture
def randomized(rng):
    """Returns a function that sets a layer's variables to random values (positive ones), and returns it.

    Initial values would hide mistakes: a norm that mixes up its domains is right as long as all are new.
    """

    def randomize(layer):
        for variable in layer.variables:
            spread = np.sqrt(float(np.prod(variable.shape[:-1])) or 1.0)
            variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype("float32") / spread)
        return layer

    return randomize


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Folder of three small converted domains: see small_domains.py. Not to be changed."""
    from small_domains import CLASSES, write_domain  # of TensorFlow, which not all tests run on

    folder = tmp_path_factory.mktemp("data")
    for name in CLASSES:
        write_domain(folder, name)
    return folder


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium. Tests that ask for it are skipped where there is none, or no playwright to drive it."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as running:
        # Its sandbox wants rights that a container may not give.
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
