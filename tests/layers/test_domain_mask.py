"""Masks: a threshold, a gradient that passes it by, and one bit per weight in files."""

import keras
import numpy as np
import pytest

from tfmdl.layers import DomainBank, DomainMask


@pytest.fixture
def mask(rng):
    mask = DomainMask(("a", "b"), threshold=0.5, initial_score=0.6, name="mask")
    mask.build((3, 7))
    for variable in mask.variables:
        variable.assign(rng.uniform(size=(3, 7)).astype("float32"))
    return mask


def scores(mask, domain):
    return keras.ops.convert_to_numpy(mask.variable(domain).value)


def test_a_mask_is_exactly_zero_or_one(mask):
    for index, domain in enumerate("ab"):
        np.testing.assert_array_equal(mask.select(domain), scores(mask, domain) > 0.5)
        np.testing.assert_array_equal(mask.select(np.array([index], "int32"))[0], scores(mask, domain) > 0.5)


def test_a_new_mask_lets_all_through():
    mask = DomainMask(("a",))
    mask.build((2, 2))
    np.testing.assert_array_equal(mask.select("a"), np.ones((2, 2)))
    np.testing.assert_allclose(scores(mask, "a"), 1e-2)


def test_the_gradient_passes_the_threshold_by(mask, rng, compiled):
    weights = rng.normal(size=(3, 7)).astype("float32")

    class Weighted(keras.Model):
        def __init__(self):
            super().__init__()
            self.mask = mask

        def call(self, inputs):
            return keras.ops.sum(weights * self.mask.select("a")) + 0.0 * inputs

    before, other = scores(mask, "a").copy(), scores(mask, "b").copy()
    model = Weighted()
    model(np.zeros((1, 1), "float32"))
    for variable in mask.variables:
        variable.trainable = variable.path.endswith("/a")
    compiled(model, lambda y, z: keras.ops.sum(z), learning_rate=0.25)
    model.train_on_batch(np.zeros((1, 1), "float32"), np.zeros((1, 1), "float32"))
    np.testing.assert_allclose(scores(mask, "a"), before - 0.25 * weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scores(mask, "b"), other)


def test_a_file_holds_a_bit_a_weight(mask):
    stored = mask.stored("a")
    assert stored.dtype == np.uint8 and stored.shape == mask.stored_shape("a") == (3,)  # 21 bits
    before = np.asarray(mask.select("a"))
    mask.restore("b", stored)
    np.testing.assert_array_equal(mask.select("b"), before)
    np.testing.assert_allclose(np.unique(scores(mask, "b")), [0.4, 0.6], rtol=1e-6)
    np.testing.assert_array_equal(mask.stored("b"), stored)
    assert (mask.bits, DomainBank.bits) == (1, 32)
