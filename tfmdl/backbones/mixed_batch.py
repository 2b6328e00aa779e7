"""A batch that mixes domains, on its way through a Keras network."""

import keras
from keras import ops

from tfmdl.layers import DomainBank
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart

# Layers without weights that do to each channel what they would do if there were no other.
_CHANNEL_BY_CHANNEL = (
    *(keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Add, keras.layers.Multiply),
    *(keras.layers.Subtract, keras.layers.Average, keras.layers.Maximum, keras.layers.Minimum),
    *(keras.layers.ZeroPadding2D, keras.layers.Cropping2D, keras.layers.AveragePooling2D, keras.layers.MaxPooling2D),
    keras.layers.GlobalAveragePooling2D,
)
_ACROSS_CHANNELS = ("softmax", "log_softmax", "glu", "sparsemax")


class MixedBatch:
    """What the steps of a network have given for images of several domains.

    It is kept as it was given, with images apart, (batch, height, width, channels), or side by side, and laid out the
    other way once a step asks for it. So a network is side by side from its first normalisation to its pooling, where
    each layer by itself would lay out what it gets and take apart what it gives.

    Args:
        images: (batch, height, width, channels).
        name: By which steps ask for them.
        ids: int32 (batch,), the domain of each image.

    Attributes:
        apart, side_by_side: What was given, by the name of the step; `domain` is what stands for the domain there.
    """

    def __init__(self, images, name, ids):
        self.apart, self.side_by_side = _Values(ids, self._take_apart), _Values(SideBySide(ids), self._lay_out)
        self._channels = {}
        self._give_apart(name, images)

    def better_side_by_side(self, step, layer) -> bool:
        """Returns whether a step is better taken with images side by side."""
        given = step.inputs
        if not given or any(name not in self._channels for name in given):
            return False
        lies = any(name in self.side_by_side for name in given)
        if step.kind == "layer":
            alike = len({self._channels[name] for name in given}) == 1  # or one would be spread over the other
            return lies and alike and _keeps_channels_apart(layer)
        if step.kind == "batch_norm":
            return _has_own(layer)
        if step.kind == "depthwise":
            return lies or _has_own(layer)
        return lies and getattr(layer, "takes_side_by_side", False)

    def give(self, step, layer, value, laid_out) -> None:
        """Takes what a step has given, with images side by side if it was taken so."""
        channels = self._channels[step.inputs[0]] if laid_out else None
        if laid_out and isinstance(layer, keras.layers.GlobalAveragePooling2D):
            self._give_apart(step.name, ops.reshape(value, (-1, *value.shape[1:-1], channels)))
        elif laid_out:
            self.side_by_side[step.name] = value
            self._channels[step.name] = getattr(layer, "filters", channels)
        else:
            self._give_apart(step.name, value)

    def _give_apart(self, name, value):
        self.apart[name] = value
        if len(getattr(value, "shape", ())) == 4:
            self._channels[name] = value.shape[-1]

    def _lay_out(self, name):
        return lay_out(self.apart[name])

    def _take_apart(self, name):
        return take_apart(self.side_by_side[name], self._channels[name])


class _Values(dict):
    """What steps have given, by their names, laid out in one way, and the domain as it is told of that."""

    def __init__(self, domain, made):
        super().__init__()
        self.domain, self._made = domain, made

    def __missing__(self, name):
        self[name] = self._made(name)
        return self[name]


def _keeps_channels_apart(layer):
    if isinstance(layer, keras.layers.Activation):
        return layer.activation.__name__ not in _ACROSS_CHANNELS
    in_order = getattr(layer, "data_format", "channels_last") == "channels_last"
    return isinstance(layer, _CHANNEL_BY_CHANNEL) and in_order


def _has_own(layer):
    """Returns whether domains have something of their own in a layer."""
    return any(isinstance(part, DomainBank) and not part.one_for_all for part in layer._flatten_layers())
