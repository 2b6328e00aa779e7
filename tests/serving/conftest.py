"""Small trained models on disk, exported: what the tests of serving share."""

import numpy as np
import pytest
import tensorflow as tf
from made import NUM_CLASSES, make_files, make_runs

from tfmdl.serving.source import from_runs
from tfmdl.serving.writer import write_export


@pytest.fixture(autouse=True)
def seeded():
    """In place of the fixture for all tests: after a seed is set, TensorFlow prepares a loaded graph anew."""


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with a trunk and a pack for each domain, each domain with values of its own. Not to be changed."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def source(runs):
    packs = [str(runs / "packs" / f"{domain}.safetensors") for domain in NUM_CLASSES]
    return from_runs(trunk=str(runs), pack_paths=packs)


@pytest.fixture(scope="session")
def export(source, tmp_path_factory):
    return write_export(source, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def exported(export):
    """The folder of a version. Not to be changed."""
    assert 0 <= export.difference <= 1e-5
    return export.path


@pytest.fixture(scope="session")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    return {name: keep(loaded, signature) for name, signature in loaded.signatures.items()}


def keep(loaded, signature):
    """Returns the signature as a function from values to numpy; `loaded` must live as long."""

    def call(**inputs):
        assert loaded is not None
        return {name: value.numpy() for name, value in signature(**inputs).items()}

    call.spec = signature
    return call


@pytest.fixture(scope="session")
def files():
    """Image files, (format, height, width, bytes): larger and smaller than the network sees, and as large."""
    return make_files(np.random.default_rng(1))


@pytest.fixture
def serve(signatures):
    """Returns a function from image files and domains to the answer of the default signature."""

    def ask(encoded, domains):
        return signatures["serving_default"](
            image_bytes=tf.constant(encoded, tf.string, (len(encoded),)),
            domain=tf.constant(domains, tf.string, (len(domains),)),
        )

    return ask
