"""The model's invariants: one gather, no forgetting, parameters as published, any precision."""

import dataclasses
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from small_keras import small_keras
from small_network import small

from tfmdl.architecture import Architecture
from tfmdl.backbones import BACKBONES
from tfmdl.counts import count
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.sharing import METHODS

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
NUM_CLASSES = {"a": 3, "b": 4}
IDS = np.array([0, 1, 1, 0, 1], "int32")
LABELS = np.array([2, 3, 0, 1, 2])  # within the image's own domain
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Without a gradient: what the norm behind it takes out in training, and what a ReLU over few channels may shut.
WITHOUT_GRADIENT = ("adapter_norm/beta", "gate/hidden_bias")
POLICIES = ("mixed_bfloat16", "mixed_float16")


def make(method="pointwise_sharing", backbone=None, dtype="float32", num_classes=None):
    architecture = small_keras(method) if backbone == "keras" else small(method, backbone, width=2)
    if architecture.backbone == "resnet26":  # two channels in its stem too: of one, a norm takes any scale out
        architecture = dataclasses.replace(architecture, width=4)
    model = MultiDomainClassifier(num_classes or NUM_CLASSES, architecture, dtype)
    for number, variable in enumerate(model.variables):
        if model.is_fixed(slot_and_owner(variable)[0]):  # trained before: kernels that are alike need no gates
            variable.assign(np.random.default_rng(number).normal(scale=0.3, size=variable.shape))
    return model


@pytest.fixture
def images(rng):
    return rng.normal(size=(len(IDS), 8, 8, 3)).astype("float32")


def concatenated(model, labels, ids):
    """Labels in the concatenated label space."""
    return labels + np.array(list(model.head.offsets.values()))[ids]


def decay_weights(model):
    """Weight decay strong enough to show on whatever it touches."""
    for variable in model.trainable_variables:
        variable.regularizer = keras.regularizers.L2(0.05)


def predictions(model, images, domain):
    return keras.ops.convert_to_numpy(model.head(model.features(images, domain), domain=domain))


def assert_only_moved(model, variables, before, after, owners):
    """All that `owners` own and learn has moved, and every other variable has not, to the bit."""
    for variable in variables:
        slot, owner = slot_and_owner(variable)
        if owner in owners and slot.endswith(WITHOUT_GRADIENT):
            continue
        same = np.array_equal(before[variable.path], after[variable.path])
        assert same == (owner not in owners or model.is_fixed(slot)), variable.path
        assert np.isfinite(after[variable.path]).all(), variable.path


# One gather


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", METHODS)
def test_towers_and_mixed_graph_agree(method, backbone, images, randomized):
    try:
        model = randomized(make(method, backbone))
    except ValueError as error:  # a method that is made for the other backbone says so
        assert backbone != METHODS[method].default_backbone
        assert method in str(error)
        assert f"--backbone={METHODS[method].default_backbone}" in str(error)
        return
    mixed = keras.ops.convert_to_numpy(model({"image": images, "domain": IDS}))
    assert mixed.shape == (len(IDS), 7)
    of_graph = model.mixed()({"image": images, "domain": IDS})
    np.testing.assert_allclose(of_graph, mixed, rtol=1e-5, atol=1e-5)
    for index, (domain, own_classes) in enumerate({"a": slice(0, 3), "b": slice(3, 7)}.items()):
        own = index == IDS
        of_tower = keras.ops.convert_to_numpy(model.tower(domain)(images[own]))
        np.testing.assert_allclose(mixed[own][:, own_classes], of_tower, rtol=1e-5, atol=1e-5)
        assert (np.delete(mixed[own], np.arange(7)[own_classes], axis=1) < -1e8).all()
        of_scalar = keras.ops.convert_to_numpy(model({"image": images[own], "domain": np.int32(index)}))
        np.testing.assert_allclose(of_scalar, mixed[own], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["classifier_only", "pointwise_sharing"])
def test_extractor_and_classifier_make_a_tower(method, images, randomized):
    model = randomized(make(method))
    features = model.extractor("b")(images)
    assert features.shape == (len(IDS), model.num_features)
    np.testing.assert_allclose(model.classifier("b")(features), model.tower("b")(images), rtol=1e-6, atol=1e-6)
    assert all(variable.path.startswith("head/") for variable in model.classifier("b").variables)


def test_images_of_any_shape(images):
    tower = make().tower("a")
    assert tower(images[:, :, :5]).shape == (len(IDS), 3)
    assert tower(images[:1, :1, :1]).shape == (1, 3)


def test_a_mixed_training_step_is_the_sum_of_the_towers_steps(images, compiled, values):
    """With no variable shared and no momentum, the steps add up."""
    model = make("individual")
    start = values(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def step(network, inputs, labels):
        compiled(network, loss, eager=True, learning_rate=0.01).train_on_batch(inputs, labels)
        after = values(model)
        for variable in model.variables:
            variable.assign(start[variable.path])
        return {path: after[path] - start[path] for path in start}

    mixed = step(model.mixed(), {"image": images, "domain": IDS}, concatenated(model, LABELS, IDS))
    for index, domain in enumerate(NUM_CLASSES):
        own = index == IDS
        # For the other domain they must not; where TensorFlow has none and warns, JAX has zeros.
        no_gradients = pytest.warns(UserWarning, match="Gradients do not exist") if ON_TENSORFLOW else nullcontext()
        with no_gradients:
            alone = step(model.tower(domain), images[own], LABELS[own])
        for path in start:
            if path.endswith(f"/{domain}"):
                np.testing.assert_allclose(mixed[path], alone[path], rtol=1e-2, atol=1e-4, err_msg=path)
            else:
                assert not alone[path].any(), path


# No forgetting


# A tower has no more to forget than a trunk's, below: one of each backbone will do.
@pytest.mark.parametrize(
    ("graph", "method"),
    [("tower", "pointwise_sharing"), ("tower", "serial_adapters"), *(("mixed", method) for method in METHODS)],
)
def test_training_a_domain_moves_only_its_own_variables(graph, method, images, compiled, values):
    model = make(method)
    model.train_only(["b"])
    decay_weights(model)
    before, of_a = values(model), predictions(model, images, "a")

    network = model.tower("b") if graph == "tower" else model.mixed()
    compiled(network, LOSS, eager=True, learning_rate=0.1, momentum=0.9)
    for _ in range(2):  # the second step has momentum
        if graph == "tower":
            network.train_on_batch(images, LABELS)
        else:
            network.train_on_batch({"image": images, "domain": IDS}, concatenated(model, LABELS, IDS))

    assert_only_moved(model, model.variables, before, values(model), {"b"})
    np.testing.assert_array_equal(predictions(model, images, "a"), of_a)


def test_training_as_a_compiled_graph_moves_only_its_own_variables(images, compiled, values):
    """As above, as it is really run: a compiled step, fed by `fit`."""
    model = make()
    model.train_only(["b"])
    decay_weights(model)
    before, of_a = values(model), predictions(model, images, "a")
    inputs = {"image": images, "domain": IDS}
    mixed = compiled(model.mixed(dropout=0.5), LOSS, learning_rate=0.1, momentum=0.9)
    history = mixed.fit(inputs, concatenated(model, LABELS, IDS), batch_size=len(IDS), epochs=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert_only_moved(model, model.variables, before, values(model), {"b"})
    np.testing.assert_array_equal(predictions(model, images, "a"), of_a)


@pytest.mark.parametrize("method", METHODS)
def test_training_the_trunk_moves_the_shared_and_its_own(method, images, compiled, values):
    model = make(method)
    model.train_only(["a"], shared=True)
    before, of_b_head = values(model), values(model.head)
    network = compiled(model.tower("a"), LOSS, eager=True, learning_rate=0.1)
    for _ in range(2):  # behind an adapter of zeros a norm has no gradient in the first step
        network.train_on_batch(images, LABELS % 3)
    lacking = {v.path for v in model.variables if v.path.endswith("/a") and model.base_lacks(slot_and_owner(v)[0])}
    assert bool(lacking) == bool(model.method.additions and not model.method.base_has_additions)
    after = values(model)
    assert all(np.array_equal(before[path], after[path]) for path in lacking)
    moved = [v for v in model.variables if v.path not in lacking]
    assert_only_moved(model, moved, before, after, {"a", "shared"})
    assert all(
        (of_b_head[path] == values(model.head)[path]).all() for path in of_b_head if path.endswith("/b")
    )


def test_train_only_says_what_is_trainable():
    model = make()
    model.train_only(["b"])
    assert {slot_and_owner(v)[1] for v in model.trainable_variables} == {"b"}
    model.train_only(["a"], shared=True)
    assert {slot_and_owner(v)[1] for v in model.trainable_variables} == {"a", "shared"}
    model.train_only()
    assert not model.trainable_variables
    model.train_only(NUM_CLASSES, shared=True)
    learned = [v for v in model.variables if "moving_" not in v.path]
    assert [v.path for v in model.trainable_variables] == [v.path for v in learned]
    with pytest.raises(ValueError, match="must be one of a, b; received.*'zebra'"):
        model.train_only(["zebra"])


# Parameters, at the published width, counted from built models


def learned(model, part):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables if part in v.path)


def test_parameters_of_one_network():
    model = MultiDomainClassifier({"aircraft": 100}, Architecture())
    aircraft = count(model)
    assert aircraft.total == 2_707_967
    parts = ("depthwise/kernel", "pointwise/kernel", "norm")
    assert [learned(model, part) for part in parts] == [60_507, 2_580_672, 15_488]
    assert sum("depthwise/kernel" in v.path for v in model.trainable_variables) == 25
    assert aircraft.own["aircraft"] == 338_139  # what a new domain costs, but for its classifier
    assert aircraft.classifier["aircraft"] == 512 * 100 + 100


def test_parameters_of_the_plain_network():
    plain = count(MultiDomainClassifier({"a": 10}, Architecture("individual", "resnet26")))
    assert plain.convolutions_and_norm == 5_814_688


# Precision


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("graph", ["tower", "mixed"])
def test_mixed_precision_trains(policy, graph, images, compiled, values):
    model = make(dtype=policy)
    dtypes = {keras.backend.standardize_dtype(v.dtype) for v in model.variables}
    assert dtypes == {"float32"}  # norm statistics and heads among them
    before = values(model)
    if graph == "tower":
        network, inputs, labels = model.tower("b"), images[IDS == 1], LABELS[IDS == 1]
        model.train_only(["b"], shared=True)
    else:
        network, inputs, labels = (
            model.mixed(),
            {"image": images, "domain": IDS},
            concatenated(model, LABELS, IDS),
        )
    logits = network(inputs)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    for domain in ("b", IDS):
        x = model.backbone.stem_conv(images, domain=domain)
        x = model.backbone.stem_norm(x, domain=domain)
        assert keras.backend.standardize_dtype(x.dtype) == policy.removeprefix("mixed_")

    compiled(network, LOSS, eager=True, learning_rate=0.01)
    scaled = isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")  # float16 gradients vanish without a loss scale
    if scaled:
        network.optimizer.build(network.trainable_variables)
        network.optimizer.dynamic_scale.assign(2.0**8)  # the default one overflows at first
    assert np.isfinite(network.train_on_batch(inputs, labels))
    trained = {"b", "shared"} if graph == "tower" else {"a", "b", "shared"}
    after = values(model)
    moved = [v for v in model.trainable_variables if (after[v.path] != before[v.path]).any()]
    assert {slot_and_owner(v)[1] for v in moved} == trained
    assert all(np.isfinite(value).all() for value in after.values())


def test_a_copy_of_another_dtype_is_as_large_as_its_kernels_and_close(images, randomized):
    model = randomized(make())
    half = model.of_dtype("bfloat16")
    assert [variable.path for variable in half.variables] == [variable.path for variable in model.variables]
    kernels = [variable for variable in half.variables if "kernel" in variable.path and "head" not in variable.path]
    assert kernels and {variable.dtype for variable in kernels} == {"bfloat16"}
    assert {v.dtype for v in half.variables if "norm" in v.path or "head" in v.path} == {"float32"}
    wanted, found = (
        keras.ops.convert_to_numpy(keras.ops.cast(each.features(images, "a"), "float32")) for each in (model, half)
    )
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    exact = model.of_dtype("float32")
    np.testing.assert_array_equal(exact.features(images, "a"), wanted)


# Names and configuration


def test_configuration_round_trip():
    architecture = small(share_last_pointwise=True)
    model = MultiDomainClassifier({"b": 4, "a": 3}, architecture, "mixed_bfloat16")
    again = MultiDomainClassifier.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert again.domains == ("b", "a")
    assert again.architecture == architecture
    assert [v.path for v in again.variables] == [v.path for v in model.variables]


def test_configuration_round_trip_of_experts():
    architecture = small("soft_sharing", width=2, soft_layers="first:2")
    model = MultiDomainClassifier({"b": 4}, architecture, experts=("base", "a", "b"))
    again = MultiDomainClassifier.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [v.path for v in again.variables] == [v.path for v in model.variables]


def test_domain_ids_count_from_zero_in_order():
    model = make(num_classes={"zebra": 2, "ant": 3})
    assert [model.domain_id(name) for name in ("zebra", "ant")] == [0, 1]
    with pytest.raises(ValueError, match="`domain` must be one of zebra, ant; received domain='cat'"):
        model.domain_id("cat")
    with pytest.raises(ValueError, match="must be one of zebra, ant; received.*'cat'"):
        model.tower("cat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "telepathy"}, "`method` must be one of .*pointwise_sharing.*received 'telepathy'"),
        ({"backbone": "vgg"}, "`backbone` must be one of .*resnet26_separable.*received 'vgg'"),
        ({"width": 0}, "`width` must .*width=0"),
        ({"width": 7}, "`width` must .*width=7"),
        ({"options": Architecture("soft_sharing").options}, "`options` of pointwise_sharing must be .*soft_layers"),
        ({"blocks_per_stage": 0}, "`blocks_per_stage` must .*blocks_per_stage=0"),
    ],
)
def test_bad_architectures_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Architecture(**arguments)


@pytest.mark.parametrize("name", ["shared", "a/b", "", "../up", "-x"])
def test_names_that_cannot_be_a_domain(name):
    with pytest.raises(ValueError, match=f"domain's name must .*received '{name}'"):
        make(num_classes={"a": 2, name: 3})


def test_no_domain_is_refused():
    with pytest.raises(ValueError, match="at least one domain"):
        MultiDomainClassifier({}, small())


def test_architectures_are_values():
    assert dataclasses.replace(Architecture(), width=4) == Architecture(width=4)
    assert len({Architecture(), Architecture()}) == 1
