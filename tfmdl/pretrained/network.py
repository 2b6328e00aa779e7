"""A network that was trained elsewhere, and what it wants of its images."""

import dataclasses
import importlib.util
import pathlib

import keras
import numpy as np

# Behind a classifier these change nothing that matters here: probabilities are made of the logits anyway.
_BEHIND_CLASSIFIER = ("Activation", "Softmax", "Flatten", "Reshape", "Dropout")
_SYNSETS = "image_classification/imagenet_resized_labels.txt"


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network with its weights.

    Attributes:
        network: Keras functional model, image (batch, height, width, 3) -> features (batch, channels).
        kernel, bias: Of its classifier, (channels, classes) and (classes,); None where it has none.
        label_names: Of the classes; None where they are not known.
        mean, std: Per channel (R, G, B), pixels in 0..1, by which it wants its images normalised.
        image_size: Side of the images that it was trained with, in pixels.
    """

    network: keras.Model
    kernel: np.ndarray | None
    bias: np.ndarray | None
    label_names: list[str] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int


def split(model: keras.Model) -> tuple[keras.Model, np.ndarray | None, np.ndarray | None]:
    """Takes a classifier apart.

    The classifier is the last layer that has weights, if that is dense or a 1x1 convolution and what is behind it is a
    softmax, or changes the shape only. A model without one has all positions of its output averaged.

    Returns:
        The model up to the features, and the classifier's kernel and bias; None for both if there is no classifier.

    Raises:
        ValueError: if the model is not functional or sequential, or has several inputs or outputs.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{model.name}: must be a functional or sequential model with one input and one output")
    last = next((layer for layer in reversed(model.layers) if type(layer).__name__ not in _BEHIND_CLASSIFIER), None)
    kernel = bias = None
    features = outputs[0]
    if isinstance(last, keras.layers.Dense) or (
        isinstance(last, keras.layers.Conv2D) and last.kernel_size == (1, 1) and len(outputs[0].shape) == 2
    ):
        features = last.input
        kernel = keras.ops.convert_to_numpy(last.kernel)
        kernel = kernel.reshape(kernel.shape[-2:])
        bias = keras.ops.convert_to_numpy(last.bias) if last.use_bias else np.zeros(kernel.shape[1], "float32")
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="pooled_features")(features)
    return keras.Model(inputs[0], features, name=model.name), kernel, bias


def imagenet_synsets() -> list[str]:
    """Returns the ids of ImageNet's 1,000 classes in the order in which all networks have them.

    Raises:
        FileNotFoundError: if tensorflow-datasets does not have them any more.
    """
    origin = importlib.util.find_spec("tensorflow_datasets").origin  # found, and not imported
    path = pathlib.Path(origin).parent / _SYNSETS
    return sorted(path.read_text().split())
