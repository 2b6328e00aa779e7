"""Convolution shared by all domains, with a 1x1 residual adapter per domain in series or in parallel."""

import numpy as np
from keras import ops

from tfmdl.layers.conv import DomainConv2D, conv
from tfmdl.layers.normalization import DomainBatchNormalization
from tfmdl.layers.pointwise_conv import DomainPointwiseConv2D


class DomainAdaptedConv2D(DomainConv2D):
    """Shared convolution f whose output each domain adapts by a 1x1 convolution a of its own.

    In series y = f(x) + a(norm(f(x))), where the norm is the domain's own too; in parallel y = f(x) + a(x). A new
    adapter is zero, and so without effect: both start from the shared network, where the authors draw adapters from a
    normal. In parallel, the adapter sees the pixels at the centres of the windows of f, so that it could be added to
    the centre of the kernel.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the shared kernel.
        strides: Stride along height and width.
        parallel: The adapter stands beside the convolution instead of behind it.
        kernel_initializer: Of the shared kernel, by default as in `DomainConv2D`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters): padding is "same".

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive, or if windows have no centre
            (`kernel_size` is even) or leave some pixels out (`kernel_size` is less than `strides`).

    Reference: Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017
    (series); "Efficient parametrization of multi-domain deep neural networks", CVPR 2018 (parallel).
    """

    def __init__(
        self, filters, domains, kernel_size=3, strides=1, parallel=False, kernel_initializer=None, **kwargs
    ):
        super().__init__(filters, domains, kernel_size, strides, True, kernel_initializer, **kwargs)
        if kernel_size % 2 == 0 or kernel_size < strides:
            raise ValueError(
                "`kernel_size` must be odd and at least `strides`; "
                f"received kernel_size={kernel_size}, strides={strides}"
            )
        self.parallel = parallel
        self.adapter = DomainPointwiseConv2D(
            filters, domains, shared=False, kernel_initializer="zeros", dtype=self.dtype_policy, name="adapter"
        )
        self.adapter_norm = None
        if not parallel:
            self.adapter_norm = DomainBatchNormalization(domains, dtype=self.dtype_policy, name="adapter_norm")

    def build(self, input_shape):
        super().build(input_shape)
        if self.parallel:
            self.adapter.build(input_shape)
        else:
            shape = self.compute_output_shape(input_shape)
            self.adapter_norm.build(shape)
            self.adapter.build(shape)

    def call(self, inputs, domain, training=False):
        outputs = conv(inputs, self.kernel.select(domain), self.strides)
        if self.parallel:
            adapted = window_centres(inputs, self.kernel_size, self.strides)
        else:
            adapted = self.adapter_norm(outputs, domain=domain, training=training)
        return outputs + self.adapter(adapted, domain=domain)

    def folded(self, domain):
        kernel, adapter = self.kernel.exact(domain), self.adapter.kernel.exact(domain)[0, 0]
        if self.parallel:
            centre = self.kernel_size // 2
            kernel[centre, centre] += adapter
            return (kernel,), np.zeros(self.filters)
        scale, offset = self.adapter_norm.scale_and_offset(domain)
        return (kernel @ (np.eye(self.filters) + scale[:, None] * adapter),), offset @ adapter

    def get_config(self):
        config = {**super().get_config(), "parallel": self.parallel}
        del config["shared"]
        return config


def window_centres(images, kernel_size, strides):
    """Returns the pixels of (batch, height, width, channels) at which the windows of a "same" convolution centre."""
    if strides == 1:
        return images
    first = []
    for side in ops.shape(images)[1:3]:
        padding = kernel_size - strides + -side % strides  # before and after the image; before it, half of that
        first.append(kernel_size // 2 - padding // 2)
    return images[:, first[0] :: strides, first[1] :: strides]
