"""What a backbone is asked for."""

import abc

import keras

from tfmdl.layers.side_by_side import SideBySide, lay_out, mixes


class Backbone(keras.layers.Layer, abc.ABC):
    """A network up to its features: decides the wiring; knows nothing of what the domains share.

    All that has variables is made as the sharing method says. Where a normalisation stands right behind a convolution,
    serving folds the two into one. A backbone makes its layers in `__init__`, in the order of the network, and builds
    each in its own `build`: a variable's path then begins with "backbone".

    Attributes:
        convolutions: Kinds of convolutions that it is made of, of `tfmdl.sharing.method.CONVOLUTIONS`.
        total_stride: By which it reduces height and width. Recipes crop to sizes that this divides.
        side_by_side: Whether it lays out batches that mix domains side by side: see `laid_out`.
        shares_last_pointwise: Whether pointwise sharing shares the last pointwise kernel, too, if it is not told.
        scales: Whether it comes in widths and depths.

    Args:
        method: A `SharingMethod`.
        width: Channels after the stem of the separable ResNet-26, even; all other channels are multiples of it, in
            other networks too.
        blocks_per_stage: Blocks of each stage, positive.

    Input shape: (batch, height, width, 3), of any height and width.
    Output shape: (batch, channels), float32: the features. `compute_output_shape` says how many.
    """

    convolutions: frozenset[str]
    total_stride: int
    shares_last_pointwise = False
    scales = True

    def __init__(self, method, **kwargs):
        super().__init__(**{"dtype": method.dtype, "name": "backbone", **kwargs})
        self._better_side_by_side = method.side_by_side

    @classmethod
    def of(cls, method, architecture):
        """Returns the backbone that an `Architecture` asks for, made of the layers of `method`."""
        return cls(method, architecture.width, architecture.blocks_per_stage)

    @abc.abstractmethod
    def normalized_convolutions(self):
        """Returns each convolution with the normalisation right behind it, as pairs that inference can fold into one.

        The convolutions are in the order in which the method was asked for them.
        """

    def lone_convolutions(self):
        """Returns the convolutions that no normalisation stands right behind, in the order of the network."""
        return []

    @abc.abstractmethod
    def lone_norms(self):
        """Returns the normalisations that do not stand right behind a convolution, in the order of the network.

        No other has the name of one of these.
        """

    @property
    def side_by_side(self):
        layers = [*(layer for pair in self.normalized_convolutions() for layer in pair), *self.lone_norms()]
        return self._better_side_by_side and all(getattr(layer, "takes_side_by_side", False) for layer in layers)

    def laid_out(self, images, domain):
        """Returns images and domain as the layers are better served with them.

        Images of several domains come side by side if the method prefers it and all layers take it. What a backbone
        does itself, a shortcut or a pooling, must then be right for (1, height, width, batch * channels), too.

        Args:
            images: (batch, height, width, channels).
            domain: A name, an int32 scalar or an int32 vector of shape (batch,).
        """
        if not mixes(domain) or not self.side_by_side:
            return images, domain
        return lay_out(images), SideBySide(domain)

    def name_of(self, layer):
        """Returns the name of a layer within the built network: "stage1_block1/conv1"."""
        return layer.path.removeprefix(f"{self.path}/")
