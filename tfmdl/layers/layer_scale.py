"""Scale of a residual branch, per domain."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.keras_conv import per_image


class DomainLayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned number of the domain.

    Args:
        domains: Names of the domains, in the order of their ids.
        shared: One scale serves all domains, or those of these names.

    Input shape: (batch, ..., channels).
    Output shape: the same.

    Reference: Touvron et al., "Going deeper with Image Transformers", ICCV 2021, section 2.
    """

    takes_side_by_side = False

    def __init__(self, domains, shared=False, **kwargs):
        super().__init__(**kwargs)
        self.domains = tuple(domains)
        self.shared = shared
        self.gamma = DomainBank(domains, shared, "ones", dtype="float32", name="gamma")

    def build(self, input_shape):
        self.gamma.build((input_shape[-1],))

    def call(self, inputs, domain):
        gamma = ops.cast(self.gamma.select(domain), inputs.dtype)
        return inputs * (gamma if len(gamma.shape) == 1 else per_image(gamma, len(inputs.shape)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "domains": list(self.domains), "shared": self.shared}
