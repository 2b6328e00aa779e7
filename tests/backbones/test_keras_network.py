"""Keras networks as backbones: the same features, by whatever method, alone, mixed and folded."""

import json

import keras
import numpy as np
import pytest
from small_keras import keras_model, small_keras

from tfmdl.architecture import Architecture
from tfmdl.backbones import KerasNetwork, Network, mixed_batch
from tfmdl.layers import depthwise_conv, normalization
from tfmdl.layers.side_by_side import lay_out
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.serving.network import FoldedClassifier
from tfmdl.sharing import METHODS

DOMAINS = {"a": 3, "b": 2}
IDS = np.array([0, 1, 1], "int32")
FITTING = [name for name, method in METHODS.items() if KerasNetwork.convolutions <= method.convolutions]


def with_random_weights(model, rng):
    for variable in model.weights:
        low, high = (0.5, 1.5) if variable.path.endswith(("variance", "gamma")) else (-0.5, 0.5)
        variable.assign(rng.uniform(low, high, variable.shape))
    return model


@pytest.fixture(params=[True, False], ids=["normalized", "not normalized"])
def original(request, rng):
    return with_random_weights(keras_model(request.param), rng)


@pytest.fixture
def images(rng):
    return rng.uniform(0, 1, (len(IDS), 13, 16, 3)).astype("float32")


def classifier(original, method="pointwise_sharing", domains=DOMAINS, **options):
    fields = {"method": method, "backbone": "keras", "network": Network.of(original).to_json(), **options}
    model = MultiDomainClassifier(domains, Architecture.from_json(fields))
    model.backbone.take_weights(original)
    return model


def features(model, images, domain):
    return keras.ops.convert_to_numpy(model.features(images, domain))


@pytest.mark.parametrize("method", FITTING)
def test_features_are_those_of_the_original(method, original, images):
    wanted = keras.ops.convert_to_numpy(original(images))
    model = classifier(original, method)
    near = {"rtol": 1e-5, "atol": 1e-6 * np.abs(wanted).max()}
    np.testing.assert_allclose(features(model, images, "b"), wanted, **near)
    np.testing.assert_allclose(features(model, images, IDS), wanted, **near)
    np.testing.assert_allclose(features(FoldedClassifier(model), images, IDS), wanted, **near)
    alone = classifier(original, method, {"a": 3})
    np.testing.assert_allclose(features(FoldedClassifier(alone), images, "a"), wanted, **near)


@pytest.mark.parametrize("method", FITTING)
def test_a_mixed_batch_gives_each_image_what_its_domain_gives(method, original, images, randomized):
    model = randomized(classifier(original, method))
    mixed = features(model, images, IDS)
    folded = features(FoldedClassifier(model), images, IDS)
    for index, name in enumerate(DOMAINS):
        own = index == IDS
        near = {"rtol": 1e-4, "atol": 1e-5 * np.abs(mixed).max()}
        np.testing.assert_allclose(mixed[own], features(model, images[own], name), **near)
        np.testing.assert_allclose(folded[own], mixed[own], **near)


def test_a_mixed_batch_is_laid_out_once_for_all_layers_that_keep_channels_apart(images, rng, randomized, monkeypatch):
    layers = keras.layers
    image = keras.Input((None, None, 3))
    x = stem = layers.BatchNormalization()(layers.Conv2D(4, 3, 2, "same", name="stem")(image))
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x)))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(5, padding="same")(x)))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Add()([stem, layers.BatchNormalization()(layers.Conv2D(4, 1)(layers.Multiply()([x, gate])))])
    model = randomized(classifier(keras.Model(image, layers.GlobalAveragePooling2D()(x))))
    wanted = [features(model, images[index == IDS], name) for index, name in enumerate(DOMAINS)]

    laid_out = []

    def counted(images):
        laid_out.append(tuple(images.shape))
        return lay_out(images)

    monkeypatch.setattr(mixed_batch, "lay_out", counted)
    for module in (depthwise_conv, normalization):  # what layers do by themselves
        monkeypatch.delattr(module, "lay_out")
    for module in (depthwise_conv, normalization, mixed_batch):
        monkeypatch.delattr(module, "take_apart")
    found = features(model, images, IDS)
    np.testing.assert_allclose(found, np.concatenate(wanted), rtol=1e-4, atol=1e-5 * np.abs(found).max())
    assert laid_out == [(3, 7, 8, 4), (3, 1, 1, 8)]  # behind the stem, and the gate


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sparsemax", "gelu"])
def test_what_reaches_over_channels_sees_each_image_alone(activation, images, rng, randomized):
    layers = keras.layers
    image = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(layers.Conv2D(6, 1)(image)))
    x = layers.GlobalAveragePooling2D()(layers.Activation(activation)(x))
    model = randomized(classifier(keras.Model(image, x)))
    wanted = [features(model, images[index == IDS], name) for index, name in enumerate(DOMAINS)]
    np.testing.assert_allclose(features(model, images, IDS), np.concatenate(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", FITTING)
def test_folded_alone_gives_the_same(method, original, images, randomized):
    model = randomized(classifier(original, method, {"a": 3}))
    wanted = features(model, images, "a")
    np.testing.assert_allclose(
        features(FoldedClassifier(model), images, "a"), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max()
    )


OWN = {
    "classifier_only": set(),
    "pointwise_sharing": {"depthwise", "norm"},
    "depthwise_sharing": {"pointwise", "norm"},
    "low_rank": {"norm"},
    "piggyback": {"norm"},
    "individual": {"depthwise", "pointwise", "plain", "norm"},
}
PARTS = {
    "plain": ["stem/kernel"],
    "depthwise": ["depthwise/kernel", "separable_depthwise/kernel"],
    "pointwise": ["expand/kernel", "reduce/kernel", "excite/kernel", "project/kernel", "dense/kernel",
                  "separable_pointwise/kernel"],
    "norm": ["reduce/bias", "dense/bias", "layer_norm/gamma", "layer_norm/beta", "norm/gamma", "norm/moving_mean"],
}  # fmt: skip


@pytest.mark.parametrize("method", FITTING)
def test_who_owns_which_part(method, rng):
    model = classifier(keras_model(), method)
    owners = {}
    for variable in model.variables:
        slot, owner = slot_and_owner(variable)
        owners.setdefault(slot, set()).add(owner)
    for part, slots in PARTS.items():
        for slot in slots:
            wanted = set(DOMAINS) if part in OWN[method] else {"shared"}
            assert owners[f"backbone/{slot}"] == wanted, slot


def test_the_last_pointwise_kernel_is_shared_unless_it_is_asked_for():
    def own(**options):
        model = classifier(keras_model(), **options)
        return [v.path for v in model.variables if v.path.endswith("kernel/a") and "depthwise" not in v.path]

    assert own() == own(share_last_pointwise=True) == ["head/kernel/a"]
    assert own(share_last_pointwise=False) == ["backbone/separable_pointwise/kernel/a", "head/kernel/a"]


def test_methods_that_are_made_for_other_networks_say_so():
    for method in METHODS.keys() - set(FITTING):
        with pytest.raises(ValueError, match=f"method {method} .*: use --backbone=resnet26"):
            MultiDomainClassifier(DOMAINS, small_keras(method))


def test_pointwise_sharing_wants_depthwise_convolutions():
    image = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    plain = keras.Model(image, x, name="plain")
    with pytest.raises(ValueError, match="method pointwise_sharing .*: plain has no depthwise convolution"):
        classifier(plain)
    assert features(classifier(plain, "low_rank"), np.ones((2, 8, 8, 3), "float32"), IDS[:2]).shape == (2, 4)


def test_a_few_steps_train_what_the_domain_owns_and_nothing_else(original, images, values, compiled):
    model = classifier(original)
    model.train_only(["a"])
    before = values(model)
    tower = compiled(model.tower("a"), keras.losses.SparseCategoricalCrossentropy(from_logits=True), learning_rate=0.01)
    for _ in range(3):
        tower.train_on_batch(images, np.array([0, 1, 2]))
    for path, value in values(model).items():
        assert np.isfinite(value).all()
        assert path.endswith("/a") or np.array_equal(value, before[path]), path
    moved = [path for path, value in values(model).items() if not np.array_equal(value, before[path])]
    assert {"backbone/depthwise/kernel/a", "backbone/reduce/bias/a", "head/kernel/a"} <= set(moved)


def test_statistics_stay_where_they_are_to_be_kept(images, values, rng):
    model = classifier(with_random_weights(keras_model(), rng))
    model.train_only(["a"], keeps_statistics=True)
    before, wanted = values(model), features(model, images, "a")
    np.testing.assert_array_equal(model.features(images, "a", training=True), wanted)
    assert all(np.array_equal(value, before[path]) for path, value in values(model).items())
    model.train_only(["a"])
    assert np.abs(model.features(images, "a", training=True) - wanted).max() > 0.01


def test_models_inside_of_the_model_are_opened(images, rng):
    inside = with_random_weights(keras_model(), rng)
    sequential = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1, name="stem")], name="before")
    image = keras.Input(images.shape[1:])
    model = keras.Model(image, inside(sequential(image)), name="outside")
    names = [step.name for step in Network.of(model).steps]
    assert "stem" in names and "small_stem" in names  # the second of a name has that of its model in front
    wanted = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(features(classifier(model), images, "a"), wanted, rtol=1e-5, atol=1e-6)


def test_the_wiring_survives_its_file():
    network = Network.of(keras_model())
    assert Network.from_json(json.loads(json.dumps(network.to_json()))) == network
    architecture = small_keras("low_rank", rank=2)
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields["steps"][1].update(args=[{"step": "nowhere"}]), "`network` 'small' .*: its step stem"),
        (lambda fields: fields["steps"].pop(0), "`network` 'small' .*: its step stem"),
        (lambda fields: fields.update(output="nowhere"), "`network` 'small' .*: its output"),
        (lambda fields: fields.pop("channels"), "`network` 'small' is not wired as a network"),
        (lambda fields: fields.update(channels=6.5), "`network` 'small' .*: its channels"),
        (lambda fields: fields.update(stride=True), "`network` 'small' .*: its stride"),
        (lambda fields: fields.update(name=[]), "`name` must be str"),
        (lambda fields: fields["steps"].append(None), "`network` 'small' .*: its step None"),
        (lambda fields: fields["steps"][0].update(args={}), "step 'rescaled': `args` must be list"),
        (lambda fields: fields["steps"][0].update(kind="odd"), "step 'rescaled': `kind` must be one of"),
        (lambda fields: fields["steps"][0]["config"].pop("module"), "step 'rescaled': .*'module'"),
        (lambda fields: fields["steps"][1].update(channels=None), "step 'stem': `channels` must be in"),
        (lambda fields: fields["steps"][1].update(config=5), "step 'stem': `config` must be dict"),
        (lambda fields: fields["steps"][1]["config"].update(filters=1 << 24), "step 'stem': `filters` of .* weights"),
        (lambda fields: fields["steps"][1]["config"].update(kernel_size=[3]), "step 'stem': `kernel_size` must be two"),
        (lambda fields: fields["steps"][1]["config"].update(padding="full"), "step 'stem': `padding` must be"),
        (lambda fields: fields["steps"][2]["config"].update(epsilon=-1.0), "step 'stem_norm': `epsilon` must not be"),
    ],
)
def test_a_wiring_that_is_none_is_refused(change, message):
    fields = Network.of(keras_model()).to_json()
    change(fields)
    with pytest.raises(ValueError, match=message):
        Network.from_json(fields)


@pytest.mark.parametrize(
    ("step", "change", "message"),
    [
        ("rescaled", lambda step: step["config"]["config"].update(offset=[0.0] * 1000), "its step rescaled: "),
        ("rescaled", lambda step: step["config"]["config"].update(odd=5), "step rescaled, a Rescaling, cannot be"),
        ("rescaled", lambda step: step["config"]["config"].update(scale="half"), "step rescaled, .* expected numbers"),
        ("added", lambda step: step.update(args=["added"]), "its step added: "),
        ("features", lambda step: step["config"]["config"].update(keepdims=True), "must give 6 features of an image; "),
    ],
)
def test_a_wiring_that_gives_no_features_is_refused_on_one_line(step, change, message):
    fields = Network.of(keras_model()).to_json()
    change(next(each for each in fields["steps"] if each["name"] == step))
    with pytest.raises(ValueError, match=message) as caught:
        MultiDomainClassifier(DOMAINS, Architecture(backbone="keras", network=Network.from_json(fields)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [{"module": "os", "class_name": "system"}, {"class_name": "Lambda"}])
def test_a_wiring_makes_layers_of_keras_only(layer):
    fields = Network.of(keras_model()).to_json()
    fields["steps"][0]["config"].update(layer)
    architecture = Architecture("individual", "keras", network=Network.from_json(fields))
    with pytest.raises(ValueError, match="step rescaled is no layer of Keras"):
        MultiDomainClassifier(DOMAINS, architecture)


class Unknown(keras.layers.Layer):
    def build(self, input_shape):
        self.weight = self.add_weight(shape=(1,), name="weight")

    def call(self, inputs):
        return inputs * self.weight


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Unknown(name="mine")], "its layer mine is a Unknown, whose weights are not known"),
        ([keras.layers.Conv2D(6, 3, groups=3, name="grouped")], "`groups` of its layer grouped must be 1"),
        ([keras.layers.LayerNormalization(axis=1, name="ln")], "its layer ln must normalise by its last axis"),
        ([keras.layers.Lambda(lambda x: x, name="mine")], "Lambda is no layer of Keras that a file could describe"),
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layers, message):
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.GlobalAveragePooling2D()], name="odd")
    with pytest.raises(ValueError, match=f"odd: {message}"):
        Network.of(model)


def test_a_layer_with_weights_that_is_used_twice_is_refused():
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 1, name="twice")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(conv(conv(image))), name="odd")
    with pytest.raises(ValueError, match="odd: its layer twice is used more than once"):
        Network.of(model)


def test_what_is_no_network_of_features_is_refused():
    with pytest.raises(ValueError, match="must give features, .*; gives .* of"):
        Network.of(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1)]))


def test_a_network_has_one_width():
    with pytest.raises(ValueError, match="give --init_from; received backbone=keras with network=None"):
        Architecture("pointwise_sharing", "keras")
    with pytest.raises(ValueError, match="received backbone=resnet26_separable with network=Network\\('small'"):
        Architecture("pointwise_sharing", "resnet26_separable", network=small_keras().network)
