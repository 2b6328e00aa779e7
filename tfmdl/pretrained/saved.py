"""A network that somebody saved with Keras."""

import os
import pathlib

import keras

from tfmdl.pretrained.network import PretrainedNetwork, split
from tfmdl.typed import naming_file

Numbers = tuple[float, float, float]


def load(
    path: str | os.PathLike,
    mean: Numbers = (0.0, 0.0, 0.0),
    std: Numbers = (1 / 255, 1 / 255, 1 / 255),
    image_size: int | None = None,
) -> PretrainedNetwork:
    """Returns the network in a .keras file. Nothing in the file is executed.

    Args:
        path: The file.
        mean, std: Per channel, pixels in 0..1, by which it wants its images normalised; by default it wants 0..255.
        image_size: Side of its images, in pixels; by default that of its input, or 224 if that may be any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, asks for code that Keras does not have, or cannot be split.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever is wrong with a file, Keras says it in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: Keras cannot read it as a model: {reason}") from error
    with naming_file(path):
        network, kernel, bias = split(model)
    side = image_size or model.input_shape[1] or 224
    return PretrainedNetwork(network, kernel, bias, None, tuple(mean), tuple(std), side)
