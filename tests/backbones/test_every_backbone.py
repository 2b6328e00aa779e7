"""The contract of backbones: what serving, recipes and the model ask of each."""

import keras
import numpy as np
import pytest
from small_network import small

from tfmdl.backbones import BACKBONES, Backbone
from tfmdl.sharing.classifier_only import ClassifierOnly
from tfmdl.sharing.individual import Individual
from tfmdl.sharing.method import CONVOLUTIONS
from tfmdl.sharing.piggyback import Piggyback
from tfmdl.sharing.pointwise_sharing import PointwiseSharing

DOMAINS = ("a", "b")
IDS = np.array([0, 1, 1], "int32")


class Recorder(Individual):
    """Notes what it is asked for, and has other layers made by the method that is given."""

    def __init__(self, domains, method=Individual):
        super().__init__(domains)
        self.method = method(domains)
        self.side_by_side = self.method.side_by_side
        self.made = {"separable": [], "plain": [], "norm": []}
        self.convolutions_made = []

    def _note(self, kind, layer):
        self.made[kind].append(layer)
        if kind != "norm":
            self.convolutions_made.append(layer)
        return layer

    def separable_conv(self, filters, *, strides, number, count, name):
        assert number == len(self.made["separable"]) + 1
        self.count = count
        conv = self.method.separable_conv(filters, strides=strides, number=number, count=count, name=name)
        return self._note("separable", conv)

    def conv(self, filters, *, strides, name):
        return self._note("plain", self.method.conv(filters, strides=strides, name=name))

    def normalization(self, *, name):
        return self._note("norm", self.method.normalization(name=name))


# Networks of Keras ask for their layers in another way: test_keras_network.py.
@pytest.fixture(params=[name for name, backbone in BACKBONES.items() if backbone.scales])
def built(request, randomized):
    """Returns a function that builds the backbone, and returns it and the recorder of what it asked for."""

    def build(method=Individual, domains=DOMAINS):
        recorder = Recorder(domains, method)
        backbone = BACKBONES[request.param].of(recorder, small("individual", request.param))
        backbone.build((None, None, None, 3))
        return randomized(backbone), recorder

    return build


def the_same(layers, others):
    return [id(layer) for layer in layers] == [id(layer) for layer in others]


def test_it_is_made_of_the_convolutions_that_it_says(built):
    backbone, recorder = built()
    assert isinstance(backbone, Backbone)
    assert backbone.__doc__ and backbone.convolutions <= CONVOLUTIONS
    assert {kind for kind in ("separable", "plain") if recorder.made[kind]} == backbone.convolutions
    assert not recorder.made["separable"] or recorder.count == len(recorder.made["separable"])


def test_all_that_has_variables_comes_from_the_method_and_is_named(built):
    backbone, recorder = built()
    pairs, lone = backbone.normalized_convolutions(), backbone.lone_norms()
    assert the_same([conv for conv, _ in pairs], recorder.convolutions_made)
    norms = [norm for _, norm in pairs]
    assert sorted(map(id, [*norms, *lone])) == sorted(map(id, recorder.made["norm"]))
    assert not {norm.name for norm in norms} & {norm.name for norm in lone}  # by the name they are told apart
    layers = [*recorder.convolutions_made, *recorder.made["norm"]]
    assert len(backbone.variables) == sum(len(layer.variables) for layer in layers)
    assert all(variable.path.startswith("backbone/") for variable in backbone.variables)
    names = [backbone.name_of(layer) for layer in layers]
    assert len(set(names)) == len(names)
    for layer, name in zip(layers, names, strict=True):
        assert all(variable.path.startswith(f"backbone/{name}/") for variable in layer.variables)


def test_pairs_follow_one_another(built, images):
    """A scale that moves from the norm into the convolution before it changes nothing."""
    backbone, _ = built()
    wanted = keras.ops.convert_to_numpy(backbone(images, domain="a"))
    for conv, norm in backbone.normalized_convolutions():
        conv.kernels[-1].variable("a").assign(conv.kernels[-1].variable("a") * 3.0)
        norm.moving_mean.variable("a").assign(norm.moving_mean.variable("a") * 3.0)
        norm.gamma.variable("a").assign(norm.gamma.variable("a") / 3.0)
    np.testing.assert_allclose(backbone(images, domain="a"), wanted, rtol=1e-4, atol=1e-5 * wanted.max())


@pytest.fixture
def images(rng):
    return rng.normal(size=(len(IDS), 16, 24, 3)).astype("float32")


def test_features_are_float32_and_of_the_computed_shape(built, images):
    backbone, _ = built()
    for inputs in (images, images[:, :1, :1], images[:, :7]):
        features = backbone(inputs, domain="a")
        assert tuple(features.shape) == backbone.compute_output_shape(inputs.shape)
        assert keras.backend.standardize_dtype(features.dtype) == "float32"
    assert backbone.compute_output_shape((None, None, None, 3))[0] is None


def test_the_stride_is_that_of_its_convolutions(built):
    backbone, recorder = built()
    assert backbone.total_stride == np.prod([conv.strides for conv in recorder.convolutions_made])


class PrefersSideBySide(Piggyback):
    side_by_side = True


class SharedSideBySide(ClassifierOnly):
    side_by_side = True


@pytest.mark.parametrize("method", [PointwiseSharing, PrefersSideBySide, SharedSideBySide, Piggyback])
def test_images_lie_side_by_side_where_the_method_prefers_it_and_all_layers_take_it(built, method, images):
    backbone, recorder = built()
    if not backbone.convolutions <= method.convolutions:
        pytest.skip(f"{method.name} makes no {' or '.join(backbone.convolutions)} convolutions")
    backbone, recorder = built(method)
    layers = [*recorder.convolutions_made, *recorder.made["norm"]]
    wanted = method.side_by_side and all(layer.takes_side_by_side for layer in layers)
    assert wanted == (method in (PointwiseSharing, SharedSideBySide) and "plain" not in backbone.convolutions)
    assert backbone.side_by_side == wanted
    wide, domain = backbone.laid_out(images, IDS)
    assert tuple(wide.shape) == ((1, 16, 24, 9) if wanted else images.shape)
    assert isinstance(domain, np.ndarray) != wanted
    assert all(backbone.laid_out(images, alone)[0] is images for alone in ("a", np.int32(1)))
    mixed = keras.ops.convert_to_numpy(backbone(images, domain=IDS))
    for index, name in enumerate(DOMAINS):
        own = index == IDS
        np.testing.assert_allclose(mixed[own], backbone(images[own], domain=name), rtol=1e-4, atol=1e-5 * mixed.max())


def test_a_layer_that_says_nothing_does_not_lie_side_by_side(built):
    class Silent(PointwiseSharing):
        convolutions = CONVOLUTIONS

        def separable_conv(self, filters, **kwargs):
            return keras.layers.SeparableConv2D(filters, 3, kwargs["strides"], "same", name=kwargs["name"])

        def conv(self, filters, *, strides, name):
            return keras.layers.Conv2D(filters, 3, strides, "same", name=name)

    backbone = type(built()[0])(Silent(DOMAINS), 4, 1)
    assert not backbone.side_by_side
