"""Batch normalisation per domain: by its own images, and by fixed statistics once the domain is frozen."""

import keras
import numpy as np
import pytest
import reference

from tfmdl.layers import DomainBatchNormalization
from tfmdl.layers.fused import normalize_batch, normalize_by

DOMAINS = ("a", "b", "c")
IDS = np.array([0, 2, 0, 2, 2, 0], "int32")  # "b" is absent
STATISTICS = ("moving_mean", "moving_variance")


@pytest.fixture
def images(rng):
    """Each domain's pixels have another mean and spread."""
    noise = rng.normal(size=(len(IDS), 4, 6, 3))
    return (noise * (1.0 + IDS[:, None, None, None]) + 2.0 * IDS[:, None, None, None]).astype("float32")


@pytest.fixture
def norm(randomized):
    norm = DomainBatchNormalization(DOMAINS, name="norm")
    norm.build((None, None, None, 3))
    return randomized(norm)


@pytest.mark.parametrize("shared", [False, True])
def test_scale_and_offset_are_what_inference_comes_to(images, randomized, shared):
    norm = DomainBatchNormalization(DOMAINS, shared, epsilon=0.1)
    norm.build((None, None, None, 3))
    randomized(norm)
    for domain in DOMAINS:
        scale, offset = norm.scale_and_offset(domain)
        np.testing.assert_allclose(images * scale + offset, norm(images, domain=domain), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="must be one of a, b, c; received.*'zebra'"):
        norm.scale_and_offset("zebra")


def freeze(norm, domain):
    for bank in (norm.gamma, norm.beta):
        bank.variable(domain).trainable = False


def parameters(norm, domain):
    """gamma, beta, moving mean and moving variance of a domain, as numpy arrays."""
    banks = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    return [keras.ops.convert_to_numpy(bank.variable(domain).value).copy() for bank in banks]


@pytest.mark.parametrize("domain", DOMAINS)
def test_training_by_name_against_numpy(norm, images, domain):
    gamma, beta, mean, variance = parameters(norm, domain)
    expected, batch_mean, batch_variance = reference.batch_norm(images, gamma, beta)
    np.testing.assert_allclose(norm(images, domain=domain, training=True), expected, rtol=1e-4, atol=1e-4)
    _, _, moved_mean, moved_variance = parameters(norm, domain)
    np.testing.assert_allclose(moved_mean, 0.9 * mean + 0.1 * batch_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved_variance, 0.9 * variance + 0.1 * batch_variance, rtol=1e-5)


@pytest.mark.parametrize("domain", DOMAINS)
def test_inference_by_name_against_numpy(norm, images, values, domain):
    before = values(norm)
    expected = reference.normalize(images, *parameters(norm, domain))
    np.testing.assert_allclose(norm(images, domain=domain), expected, rtol=1e-4, atol=1e-4)
    for path, value in values(norm).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


def test_mixed_training_batch_normalises_each_domain_by_its_own_images(norm, images, values):
    start = values(norm)
    mixed = keras.ops.convert_to_numpy(norm(images, domain=IDS, training=True))
    after_mixed = values(norm)
    for variable in norm.variables:
        variable.assign(start[variable.path])

    for index, domain in enumerate(DOMAINS):
        own = index == IDS
        if own.any():
            separate = norm(images[own], domain=domain, training=True)
            np.testing.assert_allclose(mixed[own], separate, rtol=1e-4, atol=1e-4)
    after_separate = values(norm)
    for path, value in after_mixed.items():
        np.testing.assert_allclose(value, after_separate[path], rtol=1e-5, atol=1e-5, err_msg=path)
        slot, owner = path.split("/")[-2:]
        moves = slot in STATISTICS and owner != "b"
        assert (value != start[path]).all() if moves else (value == start[path]).all(), path


def test_a_scalar_id_in_training_is_a_batch_of_one_domain(norm, images, values):
    start = values(norm)
    by_id, after_id = norm(images, domain=np.int32(1), training=True), values(norm)
    for variable in norm.variables:
        variable.assign(start[variable.path])
    by_name, after_name = norm(images, domain="b", training=True), values(norm)
    np.testing.assert_allclose(by_id, by_name, rtol=1e-4, atol=1e-4)
    for path in start:
        np.testing.assert_allclose(after_id[path], after_name[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_frozen_domain_uses_and_keeps_its_moving_statistics_in_training(norm, images, values):
    freeze(norm, "a")
    start = values(norm)
    gamma, beta, mean, variance = parameters(norm, "a")

    expected = reference.normalize(images, gamma, beta, mean, variance)
    np.testing.assert_allclose(norm(images, domain="a", training=True), expected, rtol=1e-4, atol=1e-4)
    for path, value in values(norm).items():
        np.testing.assert_array_equal(value, start[path], err_msg=path)

    mixed = keras.ops.convert_to_numpy(norm(images, domain=IDS, training=True))
    of_a = reference.normalize(images[IDS == 0], gamma, beta, mean, variance)
    of_c, *_ = reference.batch_norm(images[IDS == 2], *parameters(norm, "c")[:2])
    np.testing.assert_allclose(mixed[IDS == 0], of_a, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed[IDS == 2], of_c, rtol=1e-4, atol=1e-4)
    for path, value in values(norm).items():
        moves = path.endswith(("moving_mean/c", "moving_variance/c"))
        assert (value != start[path]).all() if moves else (value == start[path]).all(), path


def test_all_domains_frozen_is_inference(norm, images, values):
    for domain in DOMAINS:
        freeze(norm, domain)
    start = values(norm)
    np.testing.assert_array_equal(norm(images, domain=IDS, training=True), norm(images, domain=IDS))
    for path, value in values(norm).items():
        np.testing.assert_array_equal(value, start[path], err_msg=path)


def test_shared_norm_sees_a_mixed_batch_as_one(images, randomized):
    norm = DomainBatchNormalization(DOMAINS, shared=True)
    norm.build((None, None, None, 3))
    gamma, beta, *_ = parameters(randomized(norm), "a")
    expected, *_ = reference.batch_norm(images, gamma, beta)
    np.testing.assert_allclose(norm(images, domain=IDS, training=True), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_hardly_varies_is_the_same_in_a_mixed_batch(norm):
    norm.moving_variance.variable("a").assign(np.full(3, 1e-6))
    norm.moving_mean.variable("a").assign(np.full(3, 7.0))
    image = np.full((2, 4, 4, 3), 7.001, "float32")
    mixed = norm(image, domain=np.array([0, 0], "int32"))
    np.testing.assert_allclose(mixed, norm(image, domain="a"), rtol=1e-5, atol=1e-5)


def test_one_pixel_has_no_variance_and_gives_the_offset(norm):
    _, beta, _, variance = parameters(norm, "a")
    image = np.full((1, 1, 1, 3), 7.0, "float32")
    np.testing.assert_allclose(norm(image, domain="a", training=True)[0, 0, 0], beta, rtol=1e-6)
    np.testing.assert_allclose(parameters(norm, "a")[3], 0.9 * variance, rtol=1e-6)
    np.testing.assert_allclose(
        norm(image, domain=np.array([1], "int32"), training=True)[0, 0, 0],
        parameters(norm, "b")[1],
        rtol=1e-6,
    )


# The backend's kernel, fused where it has one, against plain arithmetic.

TOLERANCE = {"float32": 1e-4, "bfloat16": 4e-2, "float16": 5e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_kernel_against_numpy(dtype, images, rng):
    x = keras.ops.cast(images, dtype)
    gamma, beta = rng.uniform(0.5, 1.5, (2, 3)).astype("float32")
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
    expected, mean, variance = reference.batch_norm(rounded, gamma, beta)

    y, batch_mean, batch_variance = normalize_batch(x, gamma, beta, 1e-5)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(keras.ops.cast(y, "float32"), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(batch_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(batch_variance, variance, rtol=1e-4)  # biased: divided by the number of pixels

    y_given = normalize_by(x, gamma, beta, mean.astype("float32"), variance.astype("float32"), 1e-5)
    np.testing.assert_allclose(keras.ops.cast(y_given, "float32"), expected, rtol=tolerance, atol=tolerance)
    assert {keras.backend.standardize_dtype(t.dtype) for t in (y, y_given)} == {dtype}
    assert {keras.backend.standardize_dtype(t.dtype) for t in (batch_mean, batch_variance)} == {"float32"}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients_and_statistics_are_those_of_keras_layer(dtype, frozen, images, rng, compiled):
    """Steps of a 1x1 convolution, whose gradient goes through the normalisation after it."""
    kernel = rng.normal(size=(1, 1, 3, 3)).astype("float32")
    target = rng.normal(size=images.shape).astype("float32")

    def step(norm, policy, **arguments):
        conv = keras.layers.Conv2D(3, 1, use_bias=False, dtype=policy)
        image = keras.Input(images.shape[1:])
        outputs = keras.layers.Activation("linear", dtype="float32")(norm(conv(image), **arguments))
        conv.kernel.assign(kernel)
        model = compiled(keras.Model(image, outputs), "mse", learning_rate=1.0)
        for _ in range(2):
            model.train_on_batch(images, target)
        return {
            "kernel": conv.kernel,
            **{
                slot: part.variable("a")
                if isinstance(part := getattr(norm, slot), keras.layers.Layer)
                else part
                for slot in ("gamma", "beta", *STATISTICS)
            },
        }

    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    theirs.trainable = not frozen  # Keras's layer infers by its moving statistics then, as ours must
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    ours = DomainBatchNormalization(("a",), dtype=policy)
    ours.build((None, None, None, 3))
    if frozen:
        freeze(ours, "a")
    expected, got = step(theirs, "float32"), step(ours, policy, domain="a")
    for name, variable in got.items():
        assert keras.backend.standardize_dtype(variable.dtype) == "float32"
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(variable, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)
