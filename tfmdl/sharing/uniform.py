"""The two ends: everything shared, or nothing."""

from tfmdl.layers import DomainBatchNormalization, DomainConv2D, DomainSeparableConv2D
from tfmdl.sharing.method import SharingMethod


class UniformSharing(SharingMethod):
    """Treats all parts alike: `shared` says how. The head is always the domain's own.

    Raises:
        ValueError: if asked to treat the last pointwise kernel otherwise than the rest.
    """

    shared: bool

    def __init__(self, domains, *, share_last_pointwise=False, dtype="float32"):
        if share_last_pointwise:
            extent = "everything" if self.shared else "nothing"
            raise ValueError(f"method {self.name} shares {extent}: --share_last_pointwise does not apply to it")
        super().__init__(domains, dtype=dtype)

    def separable_conv(self, filters, *, strides, last, name):
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
