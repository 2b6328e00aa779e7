"""ResNet-26 as the multi-domain papers have it: separable (Guo et al.) and plain (Rebuffi et al.)."""

import itertools

import keras
from keras import ops

from tfmdl.backbones.backbone import Backbone

BLOCKS_PER_STAGE = 4  # what makes it 26 layers deep


class ResNet26(Backbone):
    """Stem, three stages of residual blocks, normalisation, ReLU and the mean over all positions.

    Wiring only: the convolutions and normalisations come from the sharing method. The stem keeps the resolution and
    has no ReLU; the first block of each stage halves the resolution. A subclass says of which `convolutions` it is.

    Args:
        method: A `SharingMethod`.
        stem_filters: Channels after the stem.
        stage_filters: Channels of the stages.
        blocks_per_stage: Residual blocks of each stage, positive.

    Input shape: (batch, height, width, 3).
    Output shape: (batch, stage_filters[-1]), float32.

    Reference: Guo et al., AAAI 2019, "Implementation Details"; Rebuffi et al., NeurIPS 2017, section 3.
    """

    def __init__(self, method, stem_filters, stage_filters, blocks_per_stage, **kwargs):
        super().__init__(method, **kwargs)
        self.stem_filters = stem_filters
        self.stage_filters = tuple(stage_filters)
        self.blocks_per_stage = blocks_per_stage
        self.total_stride = 2 ** len(self.stage_filters)

        numbers = itertools.count(1)
        count = 1 + 2 * len(self.stage_filters) * blocks_per_stage

        def conv(filters, strides, name):
            if "separable" in self.convolutions:
                return method.separable_conv(filters, strides=strides, number=next(numbers), count=count, name=name)
            return method.conv(filters, strides=strides, name=name)

        self.stem_conv = conv(stem_filters, 1, "stem_conv")
        self.stem_norm = method.normalization(name="stem_norm")
        self.blocks = []
        for stage, filters in enumerate(self.stage_filters, start=1):
            for block in range(1, blocks_per_stage + 1):
                self.blocks.append(
                    ResidualBlock(
                        conv(filters, 2 if block == 1 else 1, "conv1"),
                        method.normalization(name="norm1"),
                        conv(filters, 1, "conv2"),
                        method.normalization(name="norm2"),
                        halves=block == 1,
                        dtype=method.dtype,
                        name=f"stage{stage}_block{block}",
                    )
                )
        self.final_norm = method.normalization(name="final_norm")

    def normalized_convolutions(self):
        pairs = [(self.stem_conv, self.stem_norm)]
        for block in self.blocks:
            pairs += [(block.conv1, block.norm1), (block.conv2, block.norm2)]
        return pairs

    def lone_norms(self):
        return [self.final_norm]

    def build(self, input_shape):
        self.stem_conv.build(input_shape)
        shape = self.stem_conv.compute_output_shape(input_shape)
        self.stem_norm.build(shape)
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.final_norm.build(shape)

    def call(self, inputs, domain, training=False):
        x, domain = self.laid_out(inputs, domain)
        x = self.stem_norm(self.stem_conv(x, domain=domain), domain=domain, training=training)
        for block in self.blocks:
            x = block(x, domain=domain, training=training)
        x = ops.relu(self.final_norm(x, domain=domain, training=training))
        return ops.reshape(ops.mean(ops.cast(x, "float32"), axis=(1, 2)), (-1, self.stage_filters[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.stage_filters[-1])


class ResidualBlock(keras.layers.Layer):
    """Convolution, norm, ReLU, convolution, norm, plus the shortcut, ReLU.

    Where the block halves the resolution and doubles the channels, the shortcut is a 2x2 average pooling padded with
    as many channels of zeros: it has no parameters.

    Input shape: (batch, height, width, channels), or side by side.
    Output shape: the same, or (batch, ceil(height / 2), ceil(width / 2), 2 * channels).
    """

    def __init__(self, conv1, norm1, conv2, norm2, halves, **kwargs):
        super().__init__(**kwargs)
        self.conv1, self.norm1, self.conv2, self.norm2 = conv1, norm1, conv2, norm2
        self.halves = halves
        self.channels = self.filters = None  # set by `build`

    def build(self, input_shape):
        self.channels, self.filters = input_shape[-1], self.compute_output_shape(input_shape)[-1]
        shape = input_shape
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)

    def call(self, inputs, domain, training=False):
        x = self.conv1(inputs, domain=domain)
        x = ops.relu(self.norm1(x, domain=domain, training=training))
        x = self.conv2(x, domain=domain)
        x = self.norm2(x, domain=domain, training=training)
        shortcut = inputs
        if self.halves:
            shortcut = ops.average_pool(inputs, 2, strides=2, padding="same")
            images = ops.reshape(shortcut, (*ops.shape(shortcut)[:3], -1, self.channels))
            missing = self.filters - self.channels
            shortcut = ops.reshape(ops.pad(images, ((0, 0),) * 4 + ((0, missing),)), ops.shape(x))
        return ops.relu(x + shortcut)

    def compute_output_shape(self, input_shape):
        return self.conv2.compute_output_shape(self.conv1.compute_output_shape(input_shape))


class SeparableResNet26(ResNet26):
    """Separable ResNet-26: stem of `width` channels, stages of 2, 4 and 8 times as many (Guo et al., AAAI 2019)."""

    convolutions = frozenset({"separable"})

    def __init__(self, method, width=64, blocks_per_stage=BLOCKS_PER_STAGE, **kwargs):
        super().__init__(method, width, (2 * width, 4 * width, 8 * width), blocks_per_stage, **kwargs)


class PlainResNet26(ResNet26):
    """Plain ResNet-26: stages of `width`, 2 and 4 times as many channels, stem of half (Rebuffi et al., 2017)."""

    convolutions = frozenset({"plain"})

    def __init__(self, method, width=64, blocks_per_stage=BLOCKS_PER_STAGE, **kwargs):
        super().__init__(method, width // 2, (width, 2 * width, 4 * width), blocks_per_stage, **kwargs)
