"""The convolutions against plain numpy."""

import keras
import numpy as np
import pytest
import reference

from tfmdl.layers import (
    DomainAdaptedConv2D,
    DomainControlledConv2D,
    DomainConv2D,
    DomainDepthwiseConv2D,
    DomainMaskedConv2D,
    DomainMaskedSeparableConv2D,
    DomainPointwiseConv2D,
    DomainSeparableConv2D,
    DomainSoftDepthwiseConv2D,
)

DOMAINS = ("a", "b")
IDS = np.array([1, 0, 1], "int32")


@pytest.fixture(params=[(8, 8), (7, 10)], ids=str)
def images(rng, request):
    return rng.normal(size=(len(IDS), *request.param, 4)).astype("float32")


def kernel_of(layer, domain):
    return keras.ops.convert_to_numpy(layer.kernel.variable(domain).value)


def check(layer, images, expected):
    """`expected` gives the output of images of a domain; checked by name and in a mixed batch."""
    for domain in DOMAINS:
        np.testing.assert_allclose(
            layer(images, domain=domain), expected(images, domain), rtol=1e-4, atol=1e-4
        )
    mixed = layer(images, domain=IDS)
    one_by_one = [expected(image[None], DOMAINS[i])[0] for image, i in zip(images, IDS, strict=True)]
    np.testing.assert_allclose(mixed, np.stack(one_by_one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 1), (3, 2), (5, 2), (2, 1)])
def test_depthwise(images, kernel_size, strides, shared):
    layer = DomainDepthwiseConv2D(DOMAINS, kernel_size, strides, shared)
    check(layer, images, lambda x, domain: reference.depthwise_conv(x, kernel_of(layer, domain), strides))


def gates_of(layer, images, domain):
    """Softmax of two dense layers on the mean over all positions, (batch, experts)."""
    hidden_kernel, hidden_bias, kernel, bias = (
        keras.ops.convert_to_numpy(bank.variable(domain).value)
        for bank in (layer.gate.hidden_kernel, layer.gate.hidden_bias, layer.gate.kernel, layer.gate.bias)
    )
    hidden = np.maximum(reference.dense(images.mean((1, 2)), hidden_kernel, hidden_bias), 0)
    weights = np.exp(reference.dense(hidden, kernel, bias))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_mix_of_kernels_is_the_sum_of_the_convolutions(images, strides, rng):
    layer = DomainSoftDepthwiseConv2D(DOMAINS, ("x", "y", "z"), strides=strides)
    layer.build(images.shape)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape))
    for variable in layer.gate.hidden_bias.variables:
        variable.assign(np.ones(variable.shape))  # above the ReLU's zero, that the gates may differ

    def expected(x, domain):
        gates = gates_of(layer, x, domain)
        outputs = [reference.depthwise_conv(x, kernel_of(layer, expert), strides) for expert in layer.experts]
        return sum(gates[:, i, None, None, None] * output for i, output in enumerate(outputs))

    check(layer, images, expected)
    seen = []
    layer.observer = seen.append
    layer(images, domain="b")
    np.testing.assert_allclose(seen[0], gates_of(layer, images, "b"), rtol=1e-4, atol=1e-5)
    assert np.ptp(seen[0], axis=0).min() > 1e-3  # each image has its own


def test_a_gate_starts_from_the_domains_own_kernel(images):
    experts = ("x", "a", "y", "b")
    layer = DomainSoftDepthwiseConv2D(("a", "b", "c"), experts, own_share=0.91)
    layer.build(images.shape)
    for domain in ("a", "b"):
        wanted = [0.91 if expert == domain else 0.03 for expert in experts]
        np.testing.assert_allclose(gates_of(layer, images, domain), np.tile(wanted, (len(images), 1)), rtol=1e-5)
    np.testing.assert_allclose(gates_of(layer, images, "c"), 0.25, rtol=1e-6)  # it has no kernel of its own


@pytest.mark.parametrize("shared", [False, True])
def test_pointwise(images, shared):
    layer = DomainPointwiseConv2D(5, DOMAINS, shared)
    check(layer, images, lambda x, domain: x @ kernel_of(layer, domain)[0, 0])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_conv(images, strides, shared):
    layer = DomainConv2D(5, DOMAINS, strides=strides, shared=shared)
    check(layer, images, lambda x, domain: reference.conv(x, kernel_of(layer, domain), strides))


def test_separable_is_depthwise_then_pointwise(images):
    layer = DomainSeparableConv2D(5, DOMAINS, strides=2, share_pointwise=False)

    def expected(x, domain):
        x = reference.depthwise_conv(x, kernel_of(layer.depthwise, domain), 2)
        return x @ kernel_of(layer.pointwise, domain)[0, 0]

    check(layer, images, expected)


def value(bank, domain):
    return keras.ops.convert_to_numpy(bank.variable(domain).value)


@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 1), (3, 2), (5, 2), (3, 3)])
def test_parallel_adapter_adds_to_the_centre_of_the_kernel(images, kernel_size, strides, randomized):
    layer = DomainAdaptedConv2D(5, DOMAINS, kernel_size, strides, parallel=True)
    layer.build(images.shape)
    randomized(layer)

    def expected(x, domain):
        kernel = kernel_of(layer, domain).copy()
        kernel[kernel_size // 2, kernel_size // 2] += kernel_of(layer.adapter, domain)[0, 0]
        return reference.conv(x, kernel, strides)

    check(layer, images, expected)


@pytest.mark.parametrize("strides", [1, 2])
def test_serial_adapter_adds_to_the_output(images, strides, randomized):
    layer = DomainAdaptedConv2D(5, DOMAINS, strides=strides)
    layer.build(images.shape)
    randomized(layer)

    def expected(x, domain):
        y = reference.conv(x, kernel_of(layer, domain), strides)
        norm = layer.adapter_norm
        banks = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        return y + reference.normalize(y, *(value(bank, domain) for bank in banks)) @ kernel_of(layer.adapter, domain)[
            0, 0
        ]

    check(layer, images, expected)


def test_serial_adapter_normalises_by_the_batch_in_training(images, randomized):
    layer = DomainAdaptedConv2D(5, DOMAINS)
    layer.build(images.shape)
    randomized(layer)
    y = reference.conv(images, kernel_of(layer, "a"))
    normalized, _, _ = reference.batch_norm(
        y, value(layer.adapter_norm.gamma, "a"), value(layer.adapter_norm.beta, "a")
    )
    expected = y + normalized @ kernel_of(layer.adapter, "a")[0, 0]
    np.testing.assert_allclose(layer(images, domain="a", training=True), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_controller_recombines_filters(images, strides, randomized):
    layer = DomainControlledConv2D(5, DOMAINS, strides=strides)
    layer.build(images.shape)
    randomized(layer)
    check(
        layer,
        images,
        lambda x, domain: reference.conv(x, kernel_of(layer, domain) @ value(layer.controller, domain), strides),
    )


@pytest.mark.parametrize("strides", [1, 2])
def test_mask_takes_weights_out(images, strides, randomized):
    layer = DomainMaskedConv2D(5, DOMAINS, strides=strides, threshold=0.15, initial_score=0.2)
    layer.build(images.shape)
    randomized(layer)

    def expected(x, domain):
        mask = value(layer.mask, domain) > 0.15
        assert 0 < mask.mean() < 1
        return reference.conv(x, kernel_of(layer, domain) * mask, strides)

    check(layer, images, expected)


def test_masks_of_a_separable_convolution(images, randomized):
    layer = DomainMaskedSeparableConv2D(5, DOMAINS, strides=2, threshold=0.4, initial_score=0.5)
    layer.build(images.shape)
    randomized(layer)

    def expected(x, domain):
        depthwise, pointwise = (
            kernel_of(half, domain) * (value(mask, domain) > 0.4)
            for half, mask in ((layer.depthwise, layer.depthwise_mask), (layer.pointwise, layer.pointwise_mask))
        )
        return reference.depthwise_conv(x, depthwise, 2) @ pointwise[0, 0]

    check(layer, images, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DomainAdaptedConv2D(5, DOMAINS, strides=2, name="layer"),
        lambda: DomainAdaptedConv2D(5, DOMAINS, strides=2, parallel=True, name="layer"),
        lambda: DomainControlledConv2D(5, DOMAINS, strides=2, name="layer"),
        lambda: DomainMaskedConv2D(5, DOMAINS, strides=2, name="layer"),
    ],
    ids=["serial", "parallel", "controlled", "masked"],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_new_domain_starts_from_the_shared_convolution(make, training, images):
    layer = make()
    outputs = layer(images, domain="a", training=training)  # where there is nothing to train, Keras drops the argument
    plain = reference.conv(images, kernel_of(layer, "a"), 2)
    np.testing.assert_allclose(outputs, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "variance"),
    [
        (DomainDepthwiseConv2D(("a",)), 2 / (3 * 3 * 256)),
        (DomainPointwiseConv2D(512, ("a",)), 2 / 512),
        (DomainConv2D(128, ("a",)), 2 / (3 * 3 * 128)),
    ],
    ids=["depthwise", "pointwise", "conv"],
)
def test_kernels_start_as_the_authors_have_them(layer, variance):
    layer.build((None, None, None, 256))
    kernel = kernel_of(layer, "a")
    assert abs(kernel.mean()) < 4 * np.sqrt(variance / kernel.size)
    assert kernel.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / kernel.size))
    assert np.abs(kernel).max() > 3 * np.sqrt(variance)  # a normal that is not truncated at two deviations


def test_domains_start_equal():
    layer = DomainDepthwiseConv2D(DOMAINS)
    layer.build((None, None, None, 4))
    np.testing.assert_array_equal(kernel_of(layer, "a"), kernel_of(layer, "b"))
