"""Plain convolutions shared, a 1x1 residual adapter per domain beside each."""

from tfmdl.layers import DomainAdaptedConv2D
from tfmdl.sharing.plain_convolutions import PlainConvolutions


class ParallelAdapters(PlainConvolutions):
    """Shares the 3x3 convolutions; beside each stands the domain's own 1x1 adapter.

    The base domain has none: these adapters are made to be plugged into any network. They start from zero where the
    authors draw them from a normal. What the authors can drop of the adapters' input, by an option that is off unless
    asked for, is not dropped here.

    Reference: Rebuffi, Bilen, Vedaldi, "Efficient parametrization of multi-domain deep neural networks", CVPR 2018
    ("Parallel Res. Adapt." of Table 1).
    """

    name = "parallel_adapters"
    additions = frozenset({"adapter"})
    refusal = "adds a 1x1 kernel to each convolution, as large as the pointwise kernel that it would share"

    def conv(self, filters, *, strides, name):
        return DomainAdaptedConv2D(
            filters, self.domains, strides=strides, parallel=True, dtype=self.dtype, name=name
        )
