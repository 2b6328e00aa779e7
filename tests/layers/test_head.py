"""The head against plain numpy: one label space per domain, one concatenated."""

import keras
import numpy as np
import pytest
import reference

from tfmdl.layers import DomainHead
from tfmdl.layers.head import MASKED_LOGIT

NUM_CLASSES = {"b": 3, "a": 2, "c": 4}  # the order of the ids is this one, not the alphabet's
IDS = np.array([1, 0, 2, 1], "int32")


@pytest.fixture
def features(rng):
    return rng.normal(size=(len(IDS), 5)).astype("float32")


@pytest.fixture
def head(randomized):
    head = DomainHead(NUM_CLASSES, name="head")
    head.build((None, 5))
    return randomized(head)


def expected_logits(head, features, domain):
    kernel, bias = head.kernels[domain].variable(domain), head.biases[domain].variable(domain)
    return reference.dense(features, keras.ops.convert_to_numpy(kernel), keras.ops.convert_to_numpy(bias))


def test_by_name_the_logits_of_the_domain(head, features):
    for domain, classes in NUM_CLASSES.items():
        logits = head(features, domain=domain)
        assert logits.shape == (len(features), classes)
        np.testing.assert_allclose(logits, expected_logits(head, features, domain), rtol=1e-5, atol=1e-5)


def test_by_ids_the_concatenated_label_space_with_other_domains_masked(head, features):
    logits = keras.ops.convert_to_numpy(head(features, domain=IDS))
    assert logits.shape == (len(features), 9)
    assert head.offsets == {"b": 0, "a": 3, "c": 5}
    names = list(NUM_CLASSES)
    for row, feature, index in zip(logits, features, IDS, strict=True):
        domain = names[index]
        own = slice(head.offsets[domain], head.offsets[domain] + NUM_CLASSES[domain])
        np.testing.assert_allclose(
            row[own], expected_logits(head, feature[None], domain)[0], rtol=1e-5, atol=1e-5
        )
        assert (np.delete(row, np.arange(9)[own]) == MASKED_LOGIT).all()


def test_a_scalar_is_a_batch_of_one_domain(head, features):
    np.testing.assert_array_equal(
        head(features, domain=np.int32(2)), head(features, domain=np.full(4, 2, "int32"))
    )


def test_masked_classes_have_no_probability(head, features):
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(head(features, domain=np.int32(0))))
    assert (probabilities[:, 3:] == 0).all()
    np.testing.assert_allclose(probabilities[:, :3].sum(1), 1, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # for absent domains they must not
def test_a_mixed_batch_trains_the_heads_of_its_domains_as_separate_batches_do(
    head, features, compiled, values
):
    start = values(head)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    feature, domain = keras.Input((5,)), keras.Input((), dtype="int32")

    def step(model, inputs, labels):
        compiled(model, loss, learning_rate=0.5).train_on_batch(inputs, labels)
        after = values(head)
        for variable in head.variables:
            variable.assign(start[variable.path])
        return {path: after[path] - start[path] for path in start}

    present = np.array([1, 0, 1, 1], "int32")  # "c" is absent
    offset = np.array([3, 0, 3, 3])
    labels = np.array([1, 2, 0, 0])
    mixed = step(
        keras.Model([feature, domain], head(feature, domain=domain)), [features, present], labels + offset
    )
    of_a = step(keras.Model(feature, head(feature, domain="a")), features[present == 1], labels[present == 1])
    of_b = step(keras.Model(feature, head(feature, domain="b")), features[present == 0], labels[present == 0])
    for path in start:
        np.testing.assert_allclose(mixed[path], of_a[path] + of_b[path], rtol=1e-4, atol=1e-6, err_msg=path)
        assert mixed[path].any() == (not path.endswith("/c")), path


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_float32_under_any_policy(policy, features):
    head = DomainHead(NUM_CLASSES, dtype=policy)
    for domain in ("a", IDS):
        assert (
            keras.backend.standardize_dtype(head(features.astype("float16"), domain=domain).dtype)
            == "float32"
        )


def test_unknown_domain_is_named(head, features):
    with pytest.raises(ValueError, match="must be one of b, a, c; received.*'zebra'"):
        head(features, domain="zebra")
