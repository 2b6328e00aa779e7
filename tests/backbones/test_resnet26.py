"""The wiring: shapes, the shortcut, and that a backbone asks the method for all that has variables."""

import keras
import numpy as np
import pytest

from tfmdl.backbones import BACKBONES
from tfmdl.backbones.resnet26 import ResidualBlock
from tfmdl.sharing.individual import Individual


class Recorder(Individual):
    """Notes what it is asked for."""

    def __init__(self, domains):
        super().__init__(domains)
        self.asked = []

    def separable_conv(self, filters, *, strides, number, count, name):
        self.asked.append(("separable", filters, strides))
        assert (number, count) == (len(self.asked), 25)
        return super().separable_conv(filters, strides=strides, number=number, count=count, name=name)

    def conv(self, filters, *, strides, name):
        self.asked.append(("conv", filters, strides))
        return super().conv(filters, strides=strides, name=name)


@pytest.mark.parametrize(
    ("backbone", "kind", "stem"), [("resnet26_separable", "separable", 4), ("resnet26", "conv", 2)]
)
def test_convolutions_in_order(backbone, kind, stem):
    recorder = Recorder(("a",))
    network = BACKBONES[backbone](recorder, width=4)
    expected = [(kind, stem, 1)]
    for filters in (2 * stem, 4 * stem, 8 * stem):
        expected += [(kind, filters, 2), *[(kind, filters, 1)] * 7]
    assert recorder.asked == expected
    assert len(recorder.asked) == 25
    assert network.compute_output_shape((None, None, None, 3)) == (None, 8 * stem)


def test_features_are_the_mean_over_positions_in_float32(rng):
    network = BACKBONES["resnet26_separable"](Individual(("a",)), width=2)
    network.build((None, None, None, 3))
    for size in ((8, 8), (9, 17), (1, 1)):
        features = network(rng.normal(size=(2, *size, 3)).astype("float32"), domain="a")
        assert features.shape == (2, 16)
        assert keras.backend.standardize_dtype(features.dtype) == "float32"
        assert (keras.ops.convert_to_numpy(features) >= 0).all()  # after a ReLU


def block(method, channels, filters, halves):
    block = ResidualBlock(
        method.separable_conv(filters, strides=2 if halves else 1, number=1, count=2, name="conv1"),
        method.normalization(name="norm1"),
        method.separable_conv(filters, strides=1, number=2, count=2, name="conv2"),
        method.normalization(name="norm2"),
        halves=halves,
    )
    block.build((None, None, None, channels))
    block.norm2.gamma.variable("a").assign(np.zeros(filters))  # so that only the shortcut is left
    return block


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_shortcut_of_a_block_that_halves(size, rng):
    images = rng.normal(size=(2, *size, 4)).astype("float32")
    output = keras.ops.convert_to_numpy(block(Individual(("a",)), 4, 8, halves=True)(images, domain="a"))
    height, width = (-(-side // 2) for side in size)
    pooled = np.zeros((2, height, width, 8))
    for row in range(height):
        for column in range(width):
            window = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pooled[:, row, column, :4] = window.mean((1, 2))  # at the border over what there is
    np.testing.assert_allclose(output, np.maximum(pooled, 0), rtol=1e-5, atol=1e-6)


def test_shortcut_of_a_block_that_does_not(rng):
    images = rng.normal(size=(2, 5, 5, 4)).astype("float32")
    output = block(Individual(("a",)), 4, 4, halves=False)(images, domain="a")
    np.testing.assert_allclose(output, np.maximum(images, 0), rtol=1e-6)
