"""Pointwise kernels shared, and the trained depthwise kernels of all domains, mixed by gates of the domain's own."""

import dataclasses
import re

from tfmdl.layers import DomainSeparableConv2D
from tfmdl.sharing import options
from tfmdl.sharing.pointwise_sharing import PointwiseSharing, PointwiseSharingOptions


@dataclasses.dataclass(frozen=True)
class SoftSharingOptions(PointwiseSharingOptions):
    """Options of soft sharing.

    Attributes:
        soft_layers: Which separable convolutions mix experts: "all", "first:N" or "last:N".

    Raises:
        ValueError: if `soft_layers` is none of these.
    """

    soft_layers: str = options.option("all", "separable convolutions that mix experts, all, first:N or last:N.")

    def __post_init__(self):
        super().__post_init__()
        if self.soft_layers != "all" and not re.fullmatch(r"(first|last):[1-9]\d*", self.soft_layers):
            raise ValueError(f"`soft_layers` must be all, first:N or last:N, N positive; received {self.soft_layers!r}")


class SoftSharing(PointwiseSharing):
    """Shares the pointwise kernels and the depthwise kernels of the experts: domains that pointwise sharing trained.

    Each domain owns the gates that mix the experts' kernels for each image, the last pointwise kernel, the
    normalisation and the head, and starts from what pointwise sharing trained for it. Where `soft_layers` does not
    say so, it keeps its own depthwise kernels, frozen like all others. The base domain, an expert too, has no gates.

    The paper does not say where its gates start; here they start from the domain's own kernel, all but a hundredth
    (`OWN_SHARE`). It mixes the depthwise convolutions' outputs; here the kernels are mixed, which is the same and takes
    one convolution.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019,
    soft sharing of trained depthwise filters.

    Raises:
        ValueError: if `soft_layers` asks for more layers than there are, or a domain is no expert.
    """

    name = "soft_sharing"
    Options = SoftSharingOptions
    convolutions = frozenset({"separable"})
    additions = frozenset({"gate"})
    experts_by = "pointwise_sharing"
    together = None
    fixed = ("depthwise/kernel",)

    def __init__(self, domains, options=None, experts=(), dtype="float32"):
        super().__init__(domains, options, experts or domains, dtype)
        strangers = [domain for domain in self.domains if domain not in self.experts]
        if strangers:
            raise ValueError(f"`experts` must name every domain; received {self.experts} for {', '.join(strangers)}")

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_pointwise=self.options.share_last_pointwise or number < count,
            experts=self.experts if self._mixes(number, count) else (),
            dtype=self.dtype,
            name=name,
        )

    def _mixes(self, number, count):
        if self.options.soft_layers == "all":
            return True
        end, _, layers = self.options.soft_layers.partition(":")
        if int(layers) > count:
            raise ValueError(
                f"`soft_layers` must not ask for more than the {count} separable convolutions of the network; "
                f"received {self.options.soft_layers!r}"
            )
        return number <= int(layers) if end == "first" else number > count - int(layers)
