"""The two ends: everything shared, or nothing."""

from tfmdl.layers import DomainBatchNormalization, DomainConv2D, DomainSeparableConv2D
from tfmdl.sharing.method import SharingMethod


class UniformSharing(SharingMethod):
    """Treats all parts alike: `shared` says how. The head is always the domain's own."""

    shared: bool

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_depthwise=self.shared,
            share_pointwise=self.shared,
            dtype=self.dtype,
            name=name,
        )

    def conv(self, filters, *, strides, name):
        return DomainConv2D(
            filters, self.domains, strides=strides, shared=self.shared, dtype=self.dtype, name=name
        )

    def normalization(self, *, name):
        return DomainBatchNormalization(self.domains, shared=self.shared, dtype=self.dtype, name=name)
