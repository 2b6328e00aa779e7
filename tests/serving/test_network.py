"""A folded network computes what the model does, whatever the sharing method."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from made import moved

import tfmdl
from tfmdl.architecture import Architecture
from tfmdl.layers import DomainBatchNormalization, DomainConv2D
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import values_of
from tfmdl.serving.network import FoldedClassifier
from tfmdl.sharing import METHODS
from tfmdl.sharing.individual import Individual

NUM_CLASSES = {"a": 3, "b": 4, "c": 2}


def model_of(method, domains, backbone=None):
    model = moved(
        MultiDomainClassifier(
            {name: NUM_CLASSES[name] for name in domains},
            Architecture(method=method, backbone=backbone, width=4, blocks_per_stage=1),
        )
    )
    for bank in model.banks():
        if bank.bits == 1:  # masks that let half of the weights through
            rng = np.random.default_rng(1)
            for owner in bank.variable_of:
                bank.restore(owner, rng.integers(0, 256, bank.stored_shape(owner), "uint8"))
    return model


CASES = [(method, None) for method in METHODS] + [("piggyback", "resnet26_separable"), ("individual", "resnet26")]


@pytest.mark.parametrize("alone", [True, False], ids=["one domain", "several"])
@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_folding_changes_no_answer(method, backbone, alone, rng):
    domains = ("b",) if alone else ("a", "b", "c")
    model = model_of(method, domains, backbone)
    folded = FoldedClassifier(model)
    images = rng.normal(size=(5, 11, 12, 3)).astype("float32")
    which = "b" if alone else np.array([0, 2, 1, 1, 0], "int32")
    wanted, found = (np.asarray(each.features(images, which)) for each in (model, folded))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    for domain in domains:
        by_name = [np.asarray(each.head(each.features(images, domain), domain=domain)) for each in (model, folded)]
        np.testing.assert_allclose(by_name[1], by_name[0], rtol=1e-4, atol=1e-4)
    kept = [layer for layer in folded.backbone._flatten_layers() if isinstance(layer, DomainBatchNormalization)]
    assert bool(kept) == (method == "serial_adapters" and not alone)


class Doubled(DomainConv2D):
    """A convolution whose arithmetic nobody else knows, and which does not say what it folds to."""

    def build(self, input_shape):
        super().build(input_shape)
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, inputs, domain):
        return self.factor * super().call(inputs, domain)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (lambda filters: Doubled(filters, ("b",)), NotImplementedError, "Doubled has more variables .* `folded`"),
        (lambda filters: keras.layers.Conv2D(filters, 3), TypeError, "Conv2D cannot be folded"),
    ],
    ids=["one of ours", "any"],
)
def test_a_layer_that_does_not_say_what_it_folds_to_is_refused(layer, error, message, monkeypatch):
    class New(Individual):
        def conv(self, filters, *, strides, name):
            return layer(filters)

    monkeypatch.setitem(METHODS, "individual", New)
    with pytest.raises(error, match=message):
        FoldedClassifier(model_of("individual", ("b",), "resnet26"))


def test_a_folded_network_is_traced_by_each_signature_anew(rng):
    """What a layer makes at its first call, as `Normalization` does, must not belong to the graph of that call."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(x))
    original = keras.Model(image, x)
    folded = FoldedClassifier(tfmdl.multi_domain(original, {"b": 2}))
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    for _ in range(2):
        traced = tf.function(lambda images: folded.features(images, "b"))
        np.testing.assert_allclose(traced(images), original(images), rtol=1e-5, atol=1e-6)


def test_of_one_domain_no_scale_is_left_but_the_last():
    folded = FoldedClassifier(model_of("pointwise_sharing", ("a",)))
    scales = [variable.path for variable in folded.variables if "/scale/" in variable.path]
    assert scales == ["backbone/final_norm/scale/a"]


def test_values_of_a_domain_are_what_its_pack_holds():
    model = model_of("pointwise_sharing", ("a", "b"))
    own = values_of(model, "a")
    assert "head/kernel" in own and "backbone/stem_conv/depthwise/kernel" in own
    assert not set(own) & set(values_of(model, "shared"))
