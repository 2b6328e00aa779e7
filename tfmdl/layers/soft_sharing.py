"""Depthwise convolution by a mix of several domains' kernels, which a gate makes for each image."""

import math

import keras
from keras import ops

from tfmdl.layers.depthwise_conv import DomainDepthwiseConv2D, depthwise_conv
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.side_by_side import SideBySide

# Runs that begin with 0.7, 0.9 and 0.99 end alike (two drawn domains, three seeds: 88.1, 87.6, 88.1 and 70.7, 69.5,
# 70.7 % on val, from 82.6 and 66.4); with the last a domain begins within 1.1 points of what it was.
OWN_SHARE = 0.99


class ExpertBank(DomainBank):
    """The kernels of the experts. They are there already: no training changes them, and all domains use them."""

    pooled = True

    def build(self, shape):
        super().build(shape)
        for variable in self.variable_of.values():
            variable.trainable = False


class _GateBiasBank(DomainBank):
    """Biases of a gate that begins with `own_share` for the domain's own kernel; without one, with equal weights."""

    def __init__(self, domains, experts, own_share, **kwargs):
        super().__init__(domains, **kwargs)
        self.experts = experts
        self.own_share = own_share

    def initializer_of(self, owner):
        others = len(self.experts) - 1
        if owner not in self.experts or not others:
            return "zeros"
        bias = math.log(self.own_share / (1 - self.own_share) * others)
        own = self.experts.index(owner)
        return lambda shape, dtype: ops.cast(ops.one_hot(own, shape[0]) * bias, dtype)


class DomainSoftDepthwiseConv2D(DomainDepthwiseConv2D):
    """Depthwise 2-D convolution whose output is a weighted sum of those by the kernels of several domains, the experts.

    The weights are each image's own: the mean of the input over all positions, a dense layer, ReLU, a dense layer and
    a softmax over the experts. These dense layers, the gate, are the domain's; the kernels are frozen. Since a
    convolution is linear in its kernel, the kernels are mixed and not the outputs: one convolution with one kernel per
    image. Gates are float32 under any dtype policy.

    A gate begins with the weight `own_share` for the domain's own kernel, whatever the image, and the rest in equal
    parts for the others: the trained domain that it starts from is nearly what it was. The paper does not say where
    its gates start.

    Args:
        domains: Names of the domains, in the order of their ids.
        experts: Names of the domains whose kernels are mixed; a domain that is none of them starts with equal weights.
        kernel_size: Height and width of the kernels.
        strides: Stride along height and width.
        kernel_initializer: As in `DomainDepthwiseConv2D`.
        own_share: The weight of a domain's own kernel to begin with.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), channels): padding is "same".

    Raises:
        ValueError: if `experts` is empty or names one twice, `kernel_size` or `strides` is not positive, or `own_share`
            is not between 0 and 1.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019,
    soft sharing of trained depthwise filters.
    """

    gives_gates = True
    _bank = ExpertBank

    def __init__(
        self, domains, experts, kernel_size=3, strides=1, kernel_initializer=None, own_share=OWN_SHARE, **kwargs
    ):
        if not 0 < own_share < 1:
            raise ValueError(f"`own_share` must be between 0 and 1; received own_share={own_share}")
        if not experts or len(set(experts)) != len(experts):
            raise ValueError(f"`experts` must name at least one domain, each once; received experts={experts}")
        super().__init__(experts, kernel_size, strides, kernel_initializer=kernel_initializer, **kwargs)
        self.domains = tuple(domains)
        self.experts = tuple(experts)
        self.own_share = own_share
        self.gate = _DomainGate(domains, self.experts, own_share, name="gate")
        self.observer = None

    def build(self, input_shape):
        super().build(input_shape)
        self.gate.build(input_shape)

    def call(self, inputs, domain):
        gates = self.gate(inputs, domain=domain)
        if self.observer is not None:
            self.observer(gates)
        kernels = ops.squeeze(ops.cast(self.kernel.stacked(), "float32"), axis=-1)
        mixed = ops.matmul(gates, kernels)[..., None]  # (kernel height, kernel width, batch, channels, 1)
        mixed = ops.cast(mixed, self.compute_dtype)
        return depthwise_conv(inputs, mixed, self.strides, isinstance(domain, SideBySide))

    def folded(self, domain):
        raise ValueError(f"{type(self).__name__} mixes its kernels anew for each image: it does not fold to one kernel")

    def get_config(self):
        config = {**super().get_config(), "experts": list(self.experts), "own_share": self.own_share}
        del config["shared"]
        return config


class _DomainGate(keras.layers.Layer):
    """Weights of the experts for each image, (batch, experts) float32, that sum to one."""

    def __init__(self, domains, experts, own_share, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_experts = len(experts)
        self.channels = None  # set by `build`

        def bank(name, initializer):
            return DomainBank(domains, initializer=initializer, dtype="float32", name=name)

        self.hidden_kernel = bank("hidden_kernel", "glorot_uniform")
        self.hidden_bias = bank("hidden_bias", "zeros")
        self.kernel = bank("kernel", "zeros")
        self.bias = _GateBiasBank(domains, experts, own_share, dtype="float32", name="bias")

    def build(self, input_shape):
        self.channels = channels = input_shape[-1]
        hidden = channels // 4 + 1
        self.hidden_kernel.build((channels, hidden))
        self.hidden_bias.build((hidden,))
        self.kernel.build((hidden, self.num_experts))
        self.bias.build((self.num_experts,))

    def call(self, inputs, domain):
        x = ops.reshape(ops.mean(ops.cast(inputs, "float32"), axis=(1, 2)), (-1, self.channels))
        x = ops.relu(_dense(x, self.hidden_kernel.select(domain), self.hidden_bias.select(domain)))
        return ops.softmax(_dense(x, self.kernel.select(domain), self.bias.select(domain)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_experts)


def _dense(x, kernel, bias):
    """Applies one dense layer to (batch, channels), or to each row its own."""
    if len(kernel.shape) == 2:
        return ops.matmul(x, kernel) + bias
    return ops.squeeze(ops.matmul(x[:, None], kernel), axis=1) + bias
