"""Plain convolutions shared, each followed by a 1x1 residual adapter per domain."""

from tfmdl.layers import DomainAdaptedConv2D
from tfmdl.sharing.plain_convolutions import PlainConvolutions


class SerialAdapters(PlainConvolutions):
    """Shares the 3x3 convolutions; behind each stands the domain's own 1x1 adapter with its norm.

    The base domain has adapters too, trained with the trunk: the authors found that on a network that was trained
    without any, series adapters do not do well. A new domain starts from the base domain's, or on a trunk without
    any from zero; with the authors it starts from random ones.

    Reference: Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017, with
    the norms where the code that the authors published later has them ("Serial Res. Adapt." of Table 1).
    """

    name = "serial_adapters"
    additions = frozenset({"adapter", "adapter_norm"})
    base_has_additions = True
    refusal = "adds a 1x1 kernel to each convolution, as large as the pointwise kernel that it would share"

    def conv(self, filters, *, strides, name):
        return DomainAdaptedConv2D(filters, self.domains, strides=strides, dtype=self.dtype, name=name)
