"""The networks of keras.applications."""

import keras
import numpy as np

from tfmdl.pretrained.network import PretrainedNetwork, imagenet_synsets, split


def load(name: str, weights: str | None = "imagenet") -> PretrainedNetwork:
    """Returns a network of keras.applications, with the preprocessing that it was trained with.

    Args:
        name: What keras.applications calls it: "MobileNetV2".
        weights: As Keras has it: "imagenet" is downloaded at its first use, a file is read, None leaves it random.

    Raises:
        ValueError: if there is no such network, or its preprocessing is not a scale and an offset per channel.
        OSError: if Keras cannot get the weights.
    """
    function = getattr(keras.applications, name, None)
    if not name[:1].isupper() or not callable(function):
        raise ValueError(f"--source=keras:{name} must name one of {', '.join(names())}")
    try:
        model = function(weights=weights)
    except Exception as error:  # Keras raises bare exceptions where a download fails
        if weights is None:
            raise
        raise OSError(f"--source=keras:{name}: Keras cannot get the weights {weights}: {error}") from error
    network, kernel, bias = split(model)
    module = getattr(keras.applications, function.__module__.rpartition(".")[2])
    mean, std, reverses = _statistics(module.preprocess_input, name)
    if reverses:
        first = next(layer for layer in network.layers if layer.weights)
        first.kernel.assign(first.kernel[:, :, ::-1])
    side = model.input_shape[1] or 224
    return PretrainedNetwork(network, kernel, bias, imagenet_synsets(), mean, std, side)


def names() -> list[str]:
    """Returns the names of all networks of keras.applications."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def _statistics(preprocess, name):
    """Returns mean and std per channel, pixels in 0..1, and whether blue comes first."""
    # Black, then full red, green and blue: as an affine function, what a preprocessing is shows in these.
    black, *full = np.asarray(preprocess(np.eye(4, 3, k=-1, dtype="float32")[None, None] * 255.0))[0, 0]
    slopes = np.stack(full) - black  # (channel in, channel out)
    reverses = abs(slopes[0, 2]) > abs(slopes[0, 0])
    if reverses:
        slopes, black = slopes[:, ::-1], black[::-1]
    scale = np.diag(slopes)
    if np.abs(slopes - np.diag(scale)).max() > 1e-3 or scale.min() <= 0:
        raise ValueError(f"--source=keras:{name}: its preprocessing is not a scale and an offset per channel")
    return tuple((0.0 - black / scale).tolist()), tuple((1.0 / scale).tolist()), bool(reverses)
