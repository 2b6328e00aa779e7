"""Plain convolutions shared, their filters recombined by a controller matrix per domain."""

from tfmdl.layers import DomainControlledConv2D
from tfmdl.sharing.plain_convolutions import PlainConvolutions


class DeepAdaptation(PlainConvolutions):
    """Shares the 3x3 convolutions; the domain owns a matrix for each that makes its filters out of the shared ones.

    The base domain has none. Where the authors' convolutions have biases, each domain's own, these have none: the
    norm behind them, each domain's own too, would take them out.

    Reference: Rosenfeld and Tsotsos, "Incremental Learning Through Deep Adaptation", 2018 ("DAN" of Table 1).
    """

    name = "dan"
    additions = frozenset({"controller"})
    refusal = (
        "recombines filters, and pointwise filters recombined by a matrix of their own size are pointwise kernels of "
        "the domain's own, as in depthwise_sharing"
    )

    def conv(self, filters, *, strides, name):
        return DomainControlledConv2D(filters, self.domains, strides=strides, dtype=self.dtype, name=name)
