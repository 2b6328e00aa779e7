"""Scale and offset per domain: what is left of a normalisation in inference."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.fused import add_offset, scale_and_shift
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart


class DomainAffine(keras.layers.Layer):
    """Multiplies each channel by the domain's scale and adds its offset.

    With statistics that do not move any more, a batch normalisation is no more than this.

    Args:
        domains: Names of the domains, in the order of their ids.
        scales: Whether there is a scale; otherwise only an offset is added.

    Input shape: (batch, height, width, channels).
    Output shape: the same.
    """

    takes_side_by_side = True

    def __init__(self, domains, scales=True, **kwargs):
        super().__init__(**kwargs)
        self.domains = tuple(domains)
        self.scales = scales
        self.scale = DomainBank(domains, initializer="ones", dtype="float32", name="scale") if scales else None
        self.offset = DomainBank(domains, dtype="float32", name="offset")

    def build(self, input_shape):
        for bank in (self.scale, self.offset):
            if bank is not None:
                bank.build((input_shape[-1],))

    def call(self, inputs, domain, training=False):
        scale = self.scale.select(domain) if self.scales else None
        offset = self.offset.select(domain)
        if len(offset.shape) == 1:
            return add_offset(inputs * ops.cast(scale, inputs.dtype) if self.scales else inputs, offset)
        laid_out = isinstance(domain, SideBySide)
        wide = inputs if laid_out else lay_out(inputs)
        flat = ops.reshape(offset, (-1,))
        outputs = scale_and_shift(wide, ops.reshape(scale, (-1,)), flat) if self.scales else add_offset(wide, flat)
        return outputs if laid_out else take_apart(outputs, offset.shape[-1])

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "domains": list(self.domains), "scales": self.scales}
