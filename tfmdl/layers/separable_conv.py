"""Separable convolution whose two halves are each shared or each domain's own."""

from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.depthwise_conv import DomainDepthwiseConv2D
from tfmdl.layers.pointwise_conv import DomainPointwiseConv2D
from tfmdl.layers.soft_sharing import DomainSoftDepthwiseConv2D


class DomainSeparableConv2D(DomainConvolution):
    """Depthwise 3x3 convolution, then pointwise 1x1, nothing between them and no biases.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the depthwise kernel.
        strides: Stride of the depthwise convolution.
        share_depthwise: One depthwise kernel serves all domains, or those of these names.
        share_pointwise: One pointwise kernel serves all domains, or those of these names.
        experts: Instead of its own, a domain mixes the depthwise kernels of the domains of these names.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters).

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive, or `experts` are given and shared.

    Reference: Guo et al., AAAI 2019, section "Approach".
    """

    takes_side_by_side = True

    def __init__(
        self,
        filters,
        domains,
        kernel_size=3,
        strides=1,
        share_depthwise=False,
        share_pointwise=True,
        experts=(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if experts and share_depthwise:
            raise ValueError(f"`experts` are mixed, `share_depthwise` has one kernel; received experts={experts}")
        self.filters = filters
        self.domains = tuple(domains)
        self.kernel_size = kernel_size
        self.strides = strides
        self.share_depthwise = share_depthwise
        self.share_pointwise = share_pointwise
        self.experts = tuple(experts)
        named = {"dtype": self.dtype_policy, "name": "depthwise"}
        if experts:
            self.depthwise = DomainSoftDepthwiseConv2D(domains, experts, kernel_size, strides, **named)
        else:
            self.depthwise = DomainDepthwiseConv2D(domains, kernel_size, strides, shared=share_depthwise, **named)
        self.pointwise = DomainPointwiseConv2D(
            filters, domains, shared=share_pointwise, dtype=self.dtype_policy, name="pointwise"
        )

    @property
    def kernels(self):
        return self.depthwise.kernel, self.pointwise.kernel

    def folded(self, domain):
        if not self.experts:
            return super().folded(domain)
        (pointwise,), bias = self.pointwise.folded(domain)
        return (None, pointwise), bias

    def build(self, input_shape):
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))

    def call(self, inputs, domain):
        return self.pointwise(self.depthwise(inputs, domain=domain), domain=domain)

    def compute_output_shape(self, input_shape):
        return self.pointwise.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "domains": list(self.domains),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "share_depthwise": self.share_depthwise,
            "share_pointwise": self.share_pointwise,
            "experts": list(self.experts),
        }
