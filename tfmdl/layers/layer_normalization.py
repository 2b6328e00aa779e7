"""Layer normalisation with scale and offset per domain."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.keras_conv import per_image


class DomainLayerNormalization(keras.layers.Layer):
    """Normalises each position over its channels, then applies the domain's scale and offset.

    It has no statistics that move: a frozen domain needs nothing more. It computes in float32.

    Args:
        domains: Names of the domains, in the order of their ids.
        shared: One scale and offset serves all domains, or those of these names.
        epsilon: Added to the variance.

    Input shape: (batch, ..., channels).
    Output shape: the same.

    Reference: Ba, Kiros, Hinton, "Layer Normalization", 2016.
    """

    takes_side_by_side = False

    def __init__(self, domains, shared=False, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.domains = tuple(domains)
        self.shared = shared
        self.epsilon = epsilon
        self.gamma = DomainBank(domains, shared, "ones", dtype="float32", name="gamma")
        self.beta = DomainBank(domains, shared, dtype="float32", name="beta")

    def build(self, input_shape):
        for bank in (self.gamma, self.beta):
            bank.build((input_shape[-1],))

    def call(self, inputs, domain):
        gamma, beta = self.gamma.select(domain), self.beta.select(domain)
        if len(gamma.shape) == 2:
            gamma, beta = (per_image(each, len(inputs.shape)) for each in (gamma, beta))
        x = ops.cast(inputs, "float32")
        mean, variance = ops.moments(x, axes=-1, keepdims=True)
        return ops.cast((x - mean) * ops.rsqrt(variance + self.epsilon) * gamma + beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(), "domains": list(self.domains), "shared": self.shared, "epsilon": self.epsilon
        }
