"""What holds for every layer: one gather, gradients that stay with their domain, configurations, shapes."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
import reference

from tfmdl import layers
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart

DOMAINS = ("a", "b", "c")
IDS = np.array([0, 2, 0, 2, 2], "int32")  # "b" is absent
SOME = ("a", "b")  # share a variable, where not all do
RANKS = {"a": 1, "c": 3}  # where domains differ in rank

# Layers that give every domain an output of one shape, by what distinguishes them.
MAPS = {
    "depthwise": lambda **kw: layers.DomainDepthwiseConv2D(DOMAINS, **kw),
    "depthwise, strides 2": lambda **kw: layers.DomainDepthwiseConv2D(DOMAINS, strides=2, **kw),
    "depthwise, shared": lambda **kw: layers.DomainDepthwiseConv2D(DOMAINS, shared=True, **kw),
    "pointwise": lambda **kw: layers.DomainPointwiseConv2D(6, DOMAINS, shared=False, **kw),
    "pointwise, shared": lambda **kw: layers.DomainPointwiseConv2D(6, DOMAINS, **kw),
    "separable": lambda **kw: layers.DomainSeparableConv2D(6, DOMAINS, strides=2, **kw),
    "separable, pointwise own": lambda **kw: layers.DomainSeparableConv2D(
        6, DOMAINS, share_pointwise=False, **kw
    ),
    "depthwise, soft": lambda **kw: layers.DomainSoftDepthwiseConv2D(DOMAINS, ("a", "x"), strides=2, **kw),
    "separable, soft": lambda **kw: layers.DomainSeparableConv2D(6, DOMAINS, experts=("a", "x"), **kw),
    "separable, depthwise shared": lambda **kw: layers.DomainSeparableConv2D(
        6, DOMAINS, share_depthwise=True, **kw
    ),
    "conv": lambda **kw: layers.DomainConv2D(6, DOMAINS, strides=2, shared=False, **kw),
    "conv, shared": lambda **kw: layers.DomainConv2D(6, DOMAINS, **kw),
    "serial adapter": lambda **kw: layers.DomainAdaptedConv2D(6, DOMAINS, strides=2, **kw),
    "parallel adapter": lambda **kw: layers.DomainAdaptedConv2D(6, DOMAINS, strides=2, parallel=True, **kw),
    "controlled": lambda **kw: layers.DomainControlledConv2D(6, DOMAINS, strides=2, **kw),
    "masked": lambda **kw: layers.DomainMaskedConv2D(6, DOMAINS, strides=2, **kw),
    "masked separable": lambda **kw: layers.DomainMaskedSeparableConv2D(6, DOMAINS, strides=2, **kw),
    "low rank": lambda **kw: layers.DomainLowRankConv2D(6, DOMAINS, 2, strides=2, **kw),
    "low rank separable": lambda **kw: layers.DomainLowRankSeparableConv2D(6, DOMAINS, 2, strides=2, **kw),
    "keras, plain": lambda **kw: layers.DomainKerasConv2D(
        "plain", 6, DOMAINS, (3, 5), (2, 2), use_bias=True, shared=False, share_bias=False, **kw
    ),
    "keras, depthwise": lambda **kw: layers.DomainKerasConv2D(
        "depthwise", 4, DOMAINS, (5, 5), (2, 2), use_bias=True, shared=False, share_bias=False, **kw
    ),
    "keras, depthwise, shared": lambda **kw: layers.DomainKerasConv2D(
        "depthwise", 4, DOMAINS, (3, 3), use_bias=True, **kw
    ),
    "keras, pointwise, bias own": lambda **kw: layers.DomainKerasConv2D(
        "pointwise", 6, DOMAINS, use_bias=True, share_bias=False, **kw
    ),
    "keras, pointwise": lambda **kw: layers.DomainKerasConv2D("pointwise", 6, DOMAINS, strides=(2, 2), **kw),
    "keras, pointwise own": lambda **kw: layers.DomainKerasConv2D("pointwise", 6, DOMAINS, shared=False, **kw),
    "keras, plain, masked": lambda **kw: layers.DomainKerasConv2D(
        "plain", 6, DOMAINS, (3, 3), adjustment=layers.DomainMask(DOMAINS, name="mask"), **kw
    ),
    "keras, depthwise, low rank": lambda **kw: layers.DomainKerasConv2D(
        "depthwise", 4, DOMAINS, (3, 3), adjustment=layers.DomainLowRankUpdate(DOMAINS, 2, name="update"), **kw
    ),
    "keras, pointwise, masked": lambda **kw: layers.DomainKerasConv2D(
        "pointwise", 6, DOMAINS, adjustment=layers.DomainMask(DOMAINS, name="mask"), **kw
    ),
    "keras, pointwise, low rank": lambda **kw: layers.DomainKerasConv2D(
        "pointwise", 6, DOMAINS, strides=(2, 2), adjustment=layers.DomainLowRankUpdate(DOMAINS, 2, name="update"), **kw
    ),
    "keras, dense": lambda **kw: layers.DomainKerasConv2D(
        "dense", 6, DOMAINS, use_bias=True, shared=False, share_bias=False, **kw
    ),
    "depthwise, shared by some": lambda **kw: layers.DomainDepthwiseConv2D(DOMAINS, shared=SOME, **kw),
    "pointwise, shared by some": lambda **kw: layers.DomainPointwiseConv2D(6, DOMAINS, shared=SOME, **kw),
    "low rank of some": lambda **kw: layers.DomainLowRankConv2D(6, DOMAINS, RANKS, strides=2, **kw),
    "low rank separable of some": lambda **kw: layers.DomainLowRankSeparableConv2D(
        6, DOMAINS, RANKS, strides=2, share_depthwise=SOME, share_pointwise=SOME, **kw
    ),
    "low rank, one filter": lambda **kw: layers.DomainLowRankConv2D(1, DOMAINS, 2, **kw),
    "low rank separable, one filter": lambda **kw: layers.DomainLowRankSeparableConv2D(1, DOMAINS, 2, **kw),
    "keras, pointwise, low rank, one filter": lambda **kw: layers.DomainKerasConv2D(
        "pointwise", 1, DOMAINS, adjustment=layers.DomainLowRankUpdate(DOMAINS, 2, name="update"), **kw
    ),
    "low rank separable of none": lambda **kw: layers.DomainLowRankSeparableConv2D(6, DOMAINS, {}, **kw),
    "keras, depthwise, low rank of some": lambda **kw: layers.DomainKerasConv2D(
        "depthwise", 4, DOMAINS, (3, 3), use_bias=True, shared=SOME, share_bias=SOME,
        adjustment=layers.DomainLowRankUpdate(DOMAINS, RANKS, name="update"), **kw
    ),
    "keras, pointwise, low rank of some": lambda **kw: layers.DomainKerasConv2D(
        "pointwise", 6, DOMAINS, adjustment=layers.DomainLowRankUpdate(DOMAINS, RANKS, name="update"), **kw
    ),
    "layer norm, shared by some": lambda **kw: layers.DomainLayerNormalization(DOMAINS, shared=SOME, **kw),
    "layer scale, shared by some": lambda **kw: layers.DomainLayerScale(DOMAINS, shared=SOME, **kw),
    "norm, shared by some": lambda **kw: layers.DomainBatchNormalization(DOMAINS, shared=SOME, **kw),
    "layer norm": lambda **kw: layers.DomainLayerNormalization(DOMAINS, **kw),
    "layer scale": lambda **kw: layers.DomainLayerScale(DOMAINS, **kw),
    "norm": lambda **kw: layers.DomainBatchNormalization(DOMAINS, **kw),
    "affine": lambda **kw: layers.DomainAffine(DOMAINS, **kw),
    "offset": lambda **kw: layers.DomainAffine(DOMAINS, scales=False, **kw),
    "norm, shared": lambda **kw: layers.DomainBatchNormalization(DOMAINS, shared=True, **kw),
}
# A shared norm sees a mixed batch as one: training on it is not the sum of training on its parts.
SUMMING = [name for name in MAPS if name != "norm, shared"]
CONVOLUTIONS = [name for name, make in MAPS.items() if isinstance(make(), DomainConvolution)]
SIDE_BY_SIDE = [name for name, make in MAPS.items() if make().takes_side_by_side]


@pytest.fixture
def images(rng):
    return rng.normal(1.0, 2.0, (len(IDS), 7, 8, 4)).astype("float32")


@pytest.fixture
def make(randomized):
    def build(name):
        layer = MAPS[name](name="layer")
        layer.build((None, None, None, 4))
        return randomized(layer)

    return build


@pytest.mark.parametrize("name", MAPS)
def test_name_scalar_and_vector_of_equal_ids_agree(name, make, images):
    layer = make(name)
    for index, domain in enumerate(DOMAINS):
        by_name = layer(images, domain=domain)
        by_scalar = layer(images, domain=np.int32(index))
        by_vector = layer(images, domain=np.full(len(images), index, "int32"))
        np.testing.assert_allclose(by_scalar, by_name, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(by_vector, by_name, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_mixed_batch_equals_separate_batches(name, make, images):
    layer = make(name)
    mixed = keras.ops.convert_to_numpy(layer(images, domain=IDS))
    for index, domain in enumerate(DOMAINS):
        own = index == IDS
        if own.any():
            np.testing.assert_allclose(mixed[own], layer(images[own], domain=domain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_stacks_that_banks_read_from_hold_all_and_change_nothing(name, make, images, values):
    layer, domains = make(name), (*DOMAINS, np.int32(2), IDS)
    before, wanted = values(layer), [layer(images, domain=domain) for domain in domains]
    banks = [part for part in layer._flatten_layers() if isinstance(part, layers.DomainBank) and part.variables]
    stacks = [bank.stack()[0] for bank in banks]
    for variable in layer.variables:
        variable.assign(np.zeros(variable.shape, "float32"))
    with contextlib.ExitStack() as reading:
        for bank, stack in zip(banks, stacks, strict=True):
            if len(bank.variables) > 1:
                reading.enter_context(bank.reading(stack))
            else:
                bank.unstack(stack)
        for domain, outputs in zip(domains, wanted, strict=True):
            np.testing.assert_array_equal(layer(images, domain=domain), outputs)
    for bank, stack in zip(banks, stacks, strict=True):
        bank.unstack(stack)
    for path, value in values(layer).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_images_side_by_side_give_the_same(name, make, images, values):
    layer = make(name)
    start = values(layer)
    for how in [{}, {"training": True}] if name.startswith("norm") else [{}]:
        usual, after_usual = layer(images, domain=IDS, **how), values(layer)
        for variable in layer.variables:
            variable.assign(start[variable.path])
        wide = layer(lay_out(images), domain=SideBySide(IDS), **how)
        np.testing.assert_allclose(take_apart(wide, usual.shape[-1]), usual, rtol=1e-5, atol=1e-5)
        for path, value in values(layer).items():
            np.testing.assert_allclose(value, after_usual[path], rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name not in SIDE_BY_SIDE])
def test_images_side_by_side_are_refused_where_they_are_not_understood(name, make, images):
    layer = make(name)
    with pytest.raises(ValueError, match=f"{type(layer).__name__} does not take images side by side; `domain` must"):
        layer(lay_out(images), domain=SideBySide(IDS))


def test_every_convolution_is_among_those_above():
    """So that a new one is tried by all tests here, whatever it is called."""
    public = {getattr(layers, name) for name in layers.__all__}
    convolutions = {cls for cls in public if issubclass(cls, DomainConvolution)}
    assert convolutions == {cls for cls in public if "Conv" in cls.__name__}
    assert convolutions == {type(MAPS[name]()) for name in CONVOLUTIONS}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_a_convolution_folds_to_gives_the_same(name, make, images, rng):
    layer = make(name)
    for part in layer._flatten_layers():
        if isinstance(part, layers.DomainMask):  # with random scores masks would let all through
            for variable in part.variables:
                variable.assign(rng.integers(0, 2, variable.shape).astype("float32"))
    if isinstance(layer, layers.DomainSoftDepthwiseConv2D):
        with pytest.raises(ValueError, match="mixes its kernels anew for each image"):
            layer.folded("a")
        return
    for domain in DOMAINS:
        kernels, bias = layer.folded(domain)
        assert len(kernels) == len(layer.kernels)
        assert {each.dtype for each in (*kernels, bias) if each is not None} == {np.dtype("float64")}
        wanted = keras.ops.convert_to_numpy(layer(images, domain=domain))
        x, strides = images, int(np.max(getattr(layer, "strides", 1)))
        for number, kernel in enumerate(kernels, start=1):
            if kernel is None:  # what mixes for each image stays as it is
                assert layer.experts
                x = keras.ops.convert_to_numpy(layer.depthwise(x, domain=domain))
            else:
                kernel = kernel.reshape(1, 1, *kernel.shape) if kernel.ndim == 2 else kernel
                one_filter = number == len(kernels) and wanted.shape[-1] == 1
                apply = reference.depthwise_conv if kernel.shape[-1] == 1 and not one_filter else reference.conv
                x = apply(x, kernel, strides)
            strides = 1
        assert bias.shape == wanted.shape[-1:]
        np.testing.assert_allclose(x + bias, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="must be one of a, b, c; received.*'zebra'"):
        layer.folded("zebra")


def test_a_convolution_that_adds_to_its_kernels_must_say_what_it_folds_to():
    class Shifted(layers.DomainConv2D):
        def build(self, input_shape):
            super().build(input_shape)
            self.shift = self.add_weight(shape=(self.filters,), name="shift")

        def call(self, inputs, domain):
            return super().call(inputs, domain) + self.shift

    layer = Shifted(6, DOMAINS)
    layer.build((None, None, None, 4))
    with pytest.raises(NotImplementedError, match="Shifted has more variables than its kernels: .* `folded`"):
        layer.folded("a")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # for absent domains they must not
@pytest.mark.parametrize("name", SUMMING)
def test_gradients_of_a_mixed_batch_are_the_sum_of_the_separate_ones(
    name, make, images, rng, compiled, values
):
    layer = make(name)
    start = values(layer)
    trainable = [v.path for v in layer.trainable_variables]
    image = keras.Input(images.shape[1:])
    domain = keras.Input((), dtype="int32")
    mixed = keras.Model([image, domain], layer(image, domain=domain))
    target = rng.normal(size=(len(images), *mixed.output_shape[1:])).astype("float32")

    def gradients(model, inputs, target):
        """A step of plain gradient descent with a learning rate of one, undone."""
        # A sum, not a mean: so that it adds up over batches.
        compiled(model, lambda y, z: keras.ops.sum(keras.ops.square(y - z)), learning_rate=1.0)
        model.train_on_batch(inputs, target)
        after = values(layer)
        for variable in layer.variables:
            variable.assign(start[variable.path])
        return {path: start[path] - after[path] for path in trainable}

    of_mixed = gradients(mixed, [images, IDS], target)
    total = dict.fromkeys(trainable, 0.0)
    for index, domain in enumerate(DOMAINS):
        own = index == IDS
        if own.any():
            tower = keras.Model(image, layer(image, domain=domain))
            of_domain = gradients(tower, images[own], target[own])
            for path, gradient in of_domain.items():
                total[path] = total[path] + gradient
                if path.rpartition("/")[2] not in (domain, "shared"):
                    assert not gradient.any(), f"{path} moved by a batch of {domain}"
    for path in trainable:
        if path.endswith("/b"):
            assert not of_mixed[path].any(), f"{path} moved by a batch without its domain"
        else:
            assert of_mixed[path].any(), path
        np.testing.assert_allclose(of_mixed[path], total[path], rtol=1e-4, atol=1e-3, err_msg=path)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("size", [(1, 1), (7, 8)])
def test_output_shape_is_the_computed_one(name, size, make):
    layer = make(name)
    shape = (2, *size, 4)
    by_name, by_ids = (
        layer(np.ones(shape, "float32"), domain="a"),
        layer(np.ones(shape, "float32"), domain=IDS[:2]),
    )
    assert tuple(by_name.shape) == tuple(by_ids.shape) == tuple(layer.compute_output_shape(shape))
    assert layer.compute_output_shape((None, None, None, 4))[:3] == (None, None, None)


@pytest.mark.parametrize("name", MAPS)
def test_unknown_domain_is_named(name, make, images):
    with pytest.raises(ValueError, match="must be one of a, b, c; received.*'zebra'"):
        make(name)(images, domain="zebra")


# Every argument of every public layer, at a value that is not its default.
CONFIGS = [
    (layers.DomainBank, {"domains": DOMAINS, "shared": SOME, "axis": 1}),
    (layers.DomainBank, {"domains": DOMAINS, "shared": True, "initializer": "ones", "learned": False}),
    (layers.DomainDepthwiseConv2D,
     {"domains": DOMAINS, "kernel_size": 5, "strides": 2, "shared": True, "kernel_initializer": "ones"}),
    (layers.DomainPointwiseConv2D,
     {"filters": 6, "domains": DOMAINS, "shared": False, "kernel_initializer": "ones"}),
    (layers.DomainSeparableConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "share_depthwise": True,
      "share_pointwise": False}),
    (layers.DomainSeparableConv2D, {"filters": 6, "domains": DOMAINS, "experts": ("a", "x")}),
    (layers.DomainSoftDepthwiseConv2D,
     {"domains": DOMAINS, "experts": ("a", "x"), "kernel_size": 5, "strides": 2, "kernel_initializer": "ones",
      "own_share": 0.7}),
    (layers.DomainConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "shared": False,
      "kernel_initializer": "ones"}),
    (layers.DomainAdaptedConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "parallel": True,
      "kernel_initializer": "ones"}),
    (layers.DomainControlledConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "kernel_initializer": "ones"}),
    (layers.DomainMask, {"domains": DOMAINS, "threshold": 0.5, "initial_score": 0.6}),
    (layers.DomainMaskedConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "threshold": 0.5, "initial_score": 0.6,
      "kernel_initializer": "ones"}),
    (layers.DomainMaskedSeparableConv2D,
     {"filters": 6, "domains": DOMAINS, "kernel_size": 5, "strides": 2, "threshold": 0.5, "initial_score": 0.6}),
    (layers.DomainLowRankConv2D,
     {"filters": 6, "domains": DOMAINS, "rank": 3, "kernel_size": 5, "strides": 2, "kernel_initializer": "ones"}),
    (layers.DomainLowRankSeparableConv2D,
     {"filters": 6, "domains": DOMAINS, "rank": 3, "kernel_size": 5, "strides": 2, "share_depthwise": False,
      "share_pointwise": False}),
    (layers.DomainKerasConv2D,
     {"kind": "depthwise", "filters": 6, "domains": DOMAINS, "kernel_size": (5, 5), "strides": (2, 2),
      "dilation_rate": (2, 2), "padding": "valid", "use_bias": True, "shared": False, "share_bias": False,
      "adjustment": None}),
    (layers.DomainLowRankUpdate, {"domains": DOMAINS, "rank": 3}),
    (layers.DomainLowRankUpdate, {"domains": DOMAINS, "rank": RANKS}),
    (layers.DomainLayerNormalization, {"domains": DOMAINS, "shared": True, "epsilon": 1e-6}),
    (layers.DomainLayerScale, {"domains": DOMAINS, "shared": True}),
    (layers.DomainBatchNormalization, {"domains": DOMAINS, "shared": True, "momentum": 0.5, "epsilon": 1e-3}),
    (layers.DomainAffine, {"domains": DOMAINS, "scales": False}),
    (layers.DomainHead, {"num_classes": {"b": 3, "a": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "arguments"), CONFIGS, ids=lambda x: getattr(x, "__name__", ""))
def test_from_config_of_get_config(cls, arguments):
    first = cls(**arguments, name="layer")
    second = cls.from_config(first.get_config())
    assert second.get_config() == first.get_config()
    for layer in (first, second):
        for name, value in arguments.items():
            attribute = getattr(layer, name)
            if isinstance(attribute, keras.initializers.Initializer):
                assert isinstance(attribute, keras.initializers.Ones)
            elif isinstance(value, dict):
                assert list(attribute.items()) == list(value.items())  # the order is the order of the ids
            else:
                assert attribute == value, name


def test_every_public_layer_and_argument_is_in_the_configurations_above():
    assert {cls.__name__ for cls, _ in CONFIGS} == set(layers.__all__)
    given = {}
    for cls, arguments in CONFIGS:
        given.setdefault(cls, set()).update(arguments)
    for cls, arguments in given.items():
        signature = inspect.signature(cls.__init__).parameters
        assert arguments == set(signature) - {"self", "kwargs"}, cls


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (layers.DomainBank, {"domains": ()}, "`domains` must .*received domains=\\(\\)"),
        (layers.DomainBank, {"domains": ("a", "a")}, "`domains` must .*received domains=\\('a', 'a'\\)"),
        (layers.DomainBank, {"domains": DOMAINS, "shared": ("a", "z")}, "`shared` must .*received shared="),
        (layers.DomainLowRankUpdate, {"domains": DOMAINS, "rank": {"z": 1}}, "`rank` must .*received rank={'z': 1}"),
        (layers.DomainLowRankUpdate, {"domains": DOMAINS, "rank": {"a": 0}}, "`rank` must .*received rank={'a': 0}"),
        (layers.DomainDepthwiseConv2D, {"domains": DOMAINS, "strides": 0}, "`strides` must .*strides=0"),
        (
            layers.DomainDepthwiseConv2D,
            {"domains": DOMAINS, "kernel_size": 0},
            "`kernel_size` must .*kernel_size=0",
        ),
        (layers.DomainPointwiseConv2D, {"filters": -1, "domains": DOMAINS}, "`filters` must .*filters=-1"),
        (layers.DomainSeparableConv2D, {"filters": 0, "domains": DOMAINS}, "`filters` must .*filters=0"),
        (
            layers.DomainSeparableConv2D,
            {"filters": 1, "domains": DOMAINS, "strides": 0},
            "`strides` must .*strides=0",
        ),
        (
            layers.DomainSoftDepthwiseConv2D,
            {"domains": DOMAINS, "experts": ("a", "a")},
            "`experts` must .*\\('a', 'a'\\)",
        ),
        (
            layers.DomainSoftDepthwiseConv2D,
            {"domains": DOMAINS, "experts": ("a",), "own_share": 1.0},
            "`own_share` must .*own_share=1.0",
        ),
        (
            layers.DomainSeparableConv2D,
            {"filters": 1, "domains": DOMAINS, "share_depthwise": True, "experts": ("a",)},
            "`experts` .*`share_depthwise`.*experts=\\('a',\\)",
        ),
        (layers.DomainConv2D, {"filters": 0, "domains": DOMAINS}, "`filters` must .*filters=0"),
        (layers.DomainConv2D, {"filters": 1, "domains": DOMAINS, "strides": 0}, "`strides` must .*strides=0"),
        (
            layers.DomainConv2D,
            {"filters": 1, "domains": DOMAINS, "kernel_size": 0},
            "`kernel_size` must .*=0",
        ),
        (
            layers.DomainAdaptedConv2D,
            {"filters": 1, "domains": DOMAINS, "kernel_size": 4},
            "`kernel_size` must be odd .*kernel_size=4",
        ),
        (
            layers.DomainAdaptedConv2D,
            {"filters": 1, "domains": DOMAINS, "strides": 5},
            "`kernel_size` must .*strides=5",
        ),
        (layers.DomainMask, {"domains": DOMAINS, "threshold": 1.0}, "`initial_score` must .*threshold=1.0"),
        (
            layers.DomainBatchNormalization,
            {"domains": DOMAINS, "momentum": 1.5},
            "`momentum` must .*momentum=1.5",
        ),
        (
            layers.DomainBatchNormalization,
            {"domains": DOMAINS, "epsilon": 0.0},
            "`epsilon` must .*epsilon=0.0",
        ),
        (layers.DomainHead, {"num_classes": {"a": 3, "b": 0}}, "`num_classes` must .*0 for domain 'b'"),
        (layers.DomainHead, {"num_classes": {}}, "`num_classes` must .*{}"),
    ],
)
def test_bad_arguments_are_named(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)
