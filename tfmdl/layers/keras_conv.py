"""Any convolution or dense layer of a Keras network, for several domains."""

import keras
import numpy as np
from keras import ops

from tfmdl.layers import fused
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.depthwise_conv import depthwise_conv
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.pointwise_conv import mix_channels
from tfmdl.layers.side_by_side import SideBySide

KINDS = ("plain", "depthwise", "pointwise", "dense")


class DomainKerasConv2D(DomainConvolution):
    """Convolution or dense layer as Keras has it, of whatever kernel, stride, padding and dilation, with its bias.

    Where the kernel is shared, a domain may adjust it: by a mask, or by an update of low rank. The slots of kernel and
    bias are the same however they are shared.

    Args:
        kind: "plain", "depthwise", "pointwise" (1x1) or "dense" (on the last axis of whatever rank).
        filters: Number of output channels; of a depthwise one, of input channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size, strides, dilation_rate: Along height and width; without meaning where it is dense.
        padding: "same" or "valid".
        use_bias: Whether something is added to each channel.
        shared: One kernel serves all domains, or those of these names.
        share_bias: One bias serves all domains, or those of these names.
        adjustment: A `DomainMask` or `DomainLowRankUpdate` of the kernel, or None.

    Input shape: (batch, height, width, channels); (batch, ..., channels) where it is dense.
    Output shape: the same with `filters` channels, and height and width as Keras has them.

    Raises:
        ValueError: if there is no such kind.
    """

    def __init__(
        self,
        kind,
        filters,
        domains,
        kernel_size=(1, 1),
        strides=(1, 1),
        dilation_rate=(1, 1),
        padding="same",
        use_bias=False,
        shared=True,
        share_bias=True,
        adjustment=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}; received {kind!r}")
        self.kind = kind
        self.filters = filters
        self.domains = tuple(domains)
        self.kernel_size, self.strides, self.dilation_rate = map(tuple, (kernel_size, strides, dilation_rate))
        self.padding = padding
        self.use_bias = use_bias
        self.shared = shared
        self.share_bias = share_bias
        # Kernels come from a trained network: only those that are trained from scratch need this start.
        self.kernel = DomainBank(
            domains, shared=shared, initializer="he_normal", dtype=self.dtype_policy, name="kernel"
        )
        self.bias = DomainBank(domains, shared=share_bias, dtype="float32", name="bias") if use_bias else None
        if isinstance(adjustment, dict):  # as `get_config` has it
            adjustment = keras.saving.deserialize_keras_object(adjustment)
        self.adjustment = adjustment

    def build(self, input_shape):
        channels = input_shape[-1]
        shape = {
            "plain": (*self.kernel_size, channels, self.filters),
            "depthwise": (*self.kernel_size, channels, 1),
            "pointwise": (1, 1, channels, self.filters),
            "dense": (channels, self.filters),
        }[self.kind]
        self.kernel.build(shape)
        if self.bias is not None:
            self.bias.build((self.filters,))
        if self.adjustment is not None:
            self.adjustment.build(shape)

    def call(self, inputs, domain):
        kernel, factors = self.kernel.select(domain), None
        if self.adjustment is not None:
            if self.kind in ("pointwise", "dense") and self.adjustment.factored:
                factors = self.adjustment.factors(domain)
            else:
                kernel = self.adjustment.applied(kernel, domain)
        laid_out = isinstance(domain, SideBySide)
        if self.kind == "plain":
            outputs = self._plain(inputs, kernel)
        elif self.kind == "depthwise":
            outputs = self._depthwise(inputs, kernel, laid_out)
        else:
            outputs = self._product(inputs, kernel, laid_out)
        if factors is not None:
            left, right = factors
            outputs = outputs + mix_channels(mix_channels(self._strided(inputs), left), right)
        if self.bias is None:
            return outputs
        bias = ops.cast(self.bias.select(domain), outputs.dtype)
        if laid_out:
            images = ops.shape(outputs)[-1] // self.filters
            bias = ops.tile(bias, (images,)) if len(bias.shape) == 1 else ops.reshape(bias, (-1,))
        return outputs + (bias if len(bias.shape) == 1 else per_image(bias, len(outputs.shape)))

    @property
    def takes_side_by_side(self):
        """Whether each image may have what is its own where they lie side by side."""
        own_matrix = self.adjustment is not None or not self.kernel.one_for_all
        return self.kind == "depthwise" or self.kind != "plain" and not own_matrix

    @property
    def _geometry(self):
        return {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}

    def _strided(self, inputs):
        height, width = self.strides
        return inputs if (height, width) == (1, 1) else inputs[:, ::height, ::width]

    def _product(self, inputs, kernel, laid_out):
        if self.kind == "pointwise":
            if not self.trainable and len(kernel.shape) == 4 and not laid_out:
                # TensorFlow takes an offset and a ReLU behind it into this op.
                return ops.conv(inputs, kernel, strides=self.strides)
            kernel = ops.squeeze(kernel, axis=(-4, -3))
        return mix_channels(self._strided(inputs), kernel)

    def _depthwise(self, inputs, kernel, laid_out):
        if len(kernel.shape) == 5:
            kernel = ops.moveaxis(kernel, 0, 2)  # (height, width, batch, channels, 1)
        # Where nothing is trained, TensorFlow takes an offset and a ReLU behind it into the plain op.
        convolve = (fused if self.trainable else ops).depthwise_conv
        return depthwise_conv(inputs, kernel, laid_out=laid_out, convolve=convolve, **self._geometry)

    def _plain(self, inputs, kernel):
        if len(kernel.shape) == 4:
            return ops.conv(inputs, kernel, **self._geometry)
        # One image per step, as in `DomainConv2D`.
        return ops.map(lambda pair: ops.conv(pair[0][None], pair[1], **self._geometry)[0], (inputs, kernel))

    def folded(self, domain):
        kernel = self.kernel.exact(domain)
        if self.adjustment is not None:
            kernel = self.adjustment.applied_exactly(kernel, domain)
        return (kernel,), np.zeros(self.filters) if self.bias is None else self.bias.exact(domain)

    def compute_output_spec(self, inputs, domain):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if self.kind == "dense":
            return (*input_shape[:-1], self.filters)
        batch, *sides, _ = input_shape
        of_axes = zip(sides, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        return (batch, *(self._length(*axis) for axis in of_axes), self.filters)

    def _length(self, length, size, stride, dilation):
        if length is None:
            return None
        fits = length if self.padding == "same" else length - dilation * (size - 1)
        return -(-fits // stride)

    def get_config(self):
        return {
            **super().get_config(),
            "kind": self.kind,
            "filters": self.filters,
            "domains": list(self.domains),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "shared": self.shared,
            "share_bias": self.share_bias,
            "adjustment": keras.saving.serialize_keras_object(self.adjustment) if self.adjustment else None,
        }


def per_image(values, rank):
    """Returns values, (batch, channels), so that they meet each image of a tensor of so many axes."""
    return ops.reshape(values, (-1, *(1,) * (rank - 2), values.shape[-1]))
