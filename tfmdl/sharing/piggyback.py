"""All weights shared, each domain using those that its binary masks let through."""

from tfmdl.layers import DomainMask, DomainMaskedConv2D, DomainMaskedSeparableConv2D
from tfmdl.sharing.method import SharingMethod


class Piggyback(SharingMethod):
    """Shares all convolutions; the domain owns a binary mask of their weights, the normalisation and the head.

    The base domain has no masks. Beside the plain network of the paper, separable convolutions can be masked too: both
    halves are. Masks are learned by Adam as in the paper; norm and head by the recipe of all methods here.

    Reference: Mallya, Davis, Lazebnik, "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask
    Weights", ECCV 2018 ("Piggyback" of Table 1).
    """

    name = "piggyback"
    default_backbone = "resnet26"
    additions = frozenset({"mask", "depthwise_mask", "pointwise_mask"})

    def shares(self, part, *, last=False):
        return part != "norm"

    def adjustment(self, part):
        return DomainMask(self.domains, name="mask")

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainMaskedSeparableConv2D(filters, self.domains, strides=strides, dtype=self.dtype, name=name)

    def conv(self, filters, *, strides, name):
        return DomainMaskedConv2D(filters, self.domains, strides=strides, dtype=self.dtype, name=name)
