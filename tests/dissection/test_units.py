"""The outputs of convolutions, against the layers themselves; the same network with random weights."""

import numpy as np
import pytest
from keras import ops
from small_keras import small_keras
from small_network import small

from tfmdl.data.preprocessing import Preprocessing
from tfmdl.dissection.units import Units, prepared, with_random_weights
from tfmdl.model import MultiDomainClassifier

SIZE = (16, 12)


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, *SIZE, 3)).astype("float32")


@pytest.fixture(scope="module")
def units():
    return Units(MultiDomainClassifier({"a": 2}, small()), "a", SIZE)


@pytest.mark.parametrize("method", ["pointwise_sharing", "piggyback"])
def test_units_of_a_separable_convolution_are_what_its_kernels_give(method, images, randomized):
    model = randomized(MultiDomainClassifier({"a": 2, "b": 3}, small(method, "resnet26_separable")))
    units = Units(model, "b", SIZE)
    maps = units.maps(images)
    stem, norm = model.backbone.stem_conv, model.backbone.stem_norm
    depthwise, pointwise = (kernel.astype("float32") for kernel in stem.folded("b")[0])
    between = ops.depthwise_conv(images, depthwise, padding="same")
    behind = norm(ops.conv(between, pointwise, padding="same"), domain="b")
    assert maps["stem_conv/depthwise"] == pytest.approx(ops.convert_to_numpy(between), abs=1e-4)
    assert maps["stem_conv/pointwise"] == pytest.approx(ops.convert_to_numpy(behind), abs=1e-4)


def test_layers_come_in_the_order_of_the_network_with_the_sizes_of_their_maps(units, images):
    names = [layer.name for layer in units.layers]
    assert names[:4] == [
        "stem_conv/depthwise",
        "stem_conv/pointwise",
        "stage1_block1/conv1/depthwise",
        "stage1_block1/conv1/pointwise",
    ]
    assert [layer.kind for layer in units.layers] == ["depthwise", "pointwise"] * 7
    for layer, maps in zip(units.layers, units.maps(images).values(), strict=True):
        assert maps.shape == (3, *layer.size, layer.units)


def test_units_of_a_network_of_keras_are_its_steps(images):
    units = Units(MultiDomainClassifier({"a": 2}, small_keras()), "a", SIZE)
    kinds = {layer.name: layer.kind for layer in units.layers}
    assert kinds["stem"] == "plain" and kinds["expand"] == "pointwise" and kinds["depthwise"] == "depthwise"
    assert not {"reduce", "excite"} & kinds.keys()  # of one position: no place in the image


def test_a_layer_that_is_not_there_is_named(units):
    with pytest.raises(ValueError, match=r"--layers names 'conv9'; the units of 'a' are in: stem_conv/depthwise"):
        Units(units.model, "a", SIZE, ["conv9"])
    with pytest.raises(ValueError, match="received domain='z'"):
        Units(units.model, "z", SIZE)


def test_watching_leaves_the_network_as_it_was(units, images):
    conv = units.model.backbone.stem_conv
    assert "call" not in vars(conv)
    outputs = ops.convert_to_numpy(conv(images, domain="a"))
    assert outputs.shape == (3, *SIZE, 4)


def test_random_weights_keep_activations_alive_and_the_model_as_it_is(units, images, values):
    model = units.model
    before = values(model)
    other = with_random_weights(model, "a", images, np.random.default_rng(1))
    after = values(model)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    kernels = [path for path in before if path.split("/")[-2] == "kernel" and "head" not in path]
    assert kernels and all(not np.array_equal(before[path], values(other)[path]) for path in kernels)
    for name, maps in Units(other, "a", SIZE).maps(images).items():
        if name.endswith("pointwise"):  # behind a normalisation that has the statistics of these images
            assert maps.mean() == pytest.approx(0, abs=0.05) and 0.5 < maps.std() < 1.2, name


def test_images_come_whole_and_normalised():
    how = Preprocessing(4, 4, 4, 4, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0), 8, 8)
    pixels = np.zeros((8, 6, 3), "uint8")
    pixels[:, 3:] = 255
    image = prepared(pixels, how, (4, 4))
    assert image.shape == (4, 4, 3) and image.dtype == np.float32
    assert image[0, 0] == pytest.approx([-1, -1, 0]) and image[0, -1] == pytest.approx([1, 3, 0.5])
