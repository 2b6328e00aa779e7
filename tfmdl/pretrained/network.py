"""A network that was trained elsewhere, and what it wants of its images."""

import dataclasses
import importlib.util
import pathlib

import keras
import numpy as np

# What may stand behind a classifier, since probabilities are made of its logits anyway. No class gains on another.
_BEHIND_CLASSIFIER = ("Activation", "Softmax", "Flatten", "Reshape", "Dropout")
_OF_PROBABILITIES = ("linear", "softmax", "log_softmax", "sigmoid")
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

    The classifier is the last layer that has weights, also of a model within the model, if that is dense or a 1x1
    convolution of one position, and only what makes probabilities, or changes the shape, comes after it. One of a
    single logit (of "yes") has two classes then, the first of logit 0. A model without one has all positions of its
    output averaged.

    Returns:
        The model up to the features, (batch, channels), which has the layers of `model` itself; the classifier's kernel
        (channels, classes) and bias (classes,), float32; None for both if there is no classifier.

    Raises:
        ValueError: if the model is not functional or sequential, has several inputs or outputs, wants other than images
            of three channels, or gives neither features nor a map of them.
    """
    if not _can_be_traced(model):
        raise ValueError(f"{model.name}: must be a functional or sequential model with one input and one output")
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"{model.name}: must take images (batch, height, width, 3); takes {shape}")
    image, features, kernel, bias = _without_classifier(model)
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="pooled_features")(features)
    if len(features.shape) != 2 or features.shape[-1] is None:
        raise ValueError(
            f"{model.name}: must give features, (batch, channels), or a map of them, (batch, height, width, channels); "
            f"gives {tuple(features.shape)}"
        )
    return keras.Model(image, features, name=model.name), kernel, bias


def _without_classifier(model):
    """Returns input and output of the model up to its classifier, and this one's kernel and bias; or None for both."""
    image, whole, made_by = _traced(model)
    step, given = made_by[id(whole)]
    while type(step).__name__ in _BEHIND_CLASSIFIER and _makes_probabilities(step):
        step, given = made_by.get(id(given), (None, None))
    if _can_be_traced(step):
        inner_image, features, kernel, bias = _without_classifier(step)
        if kernel is not None:
            return image, keras.Model(inner_image, features, name=step.name)(given), kernel, bias
    elif isinstance(step, keras.layers.Dense | keras.layers.Conv2D) and _makes_probabilities(step):
        kernel = keras.ops.convert_to_numpy(step.kernel).astype("float32")
        one_position = all(side == 1 for side in (*given.shape[1:-1], *kernel.shape[:-2]))
        if one_position and kernel.shape[-2] == given.shape[-1]:
            kernel = kernel.reshape(kernel.shape[-2:])
            bias = keras.ops.convert_to_numpy(step.bias) if step.use_bias else np.zeros(kernel.shape[1])
            if kernel.shape[1] == 1:
                kernel, bias = np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
            return image, given, kernel, bias.astype("float32")
    return image, whole, None, None


def _can_be_traced(model):
    ends = [getattr(model, name, None) or [] for name in ("inputs", "outputs")]
    return isinstance(model, keras.Model) and all(len(end) == 1 for end in ends)


def _traced(model):
    """Calls the layers of a model again, also those that other models have called.

    Returns:
        The input, the output and, by the id of what a step gives, the step and what it is given first.
    """
    made_by, outputs = {}, []

    def call(step, *args, **kwargs):
        output = step(*args, **kwargs)
        outputs.append(output)  # keeps its id
        made_by[id(output)] = step, (*args, *kwargs.values())[0]
        return output

    functional = keras.Model(model.inputs, model.outputs)  # of whatever class the model is
    traced = keras.models.clone_model(functional, clone_function=lambda layer: layer, call_function=call)
    made_by.setdefault(id(traced.outputs[0]), (None, None))  # its input, where it is no more than that
    return traced.inputs[0], traced.outputs[0], made_by


def _makes_probabilities(step):
    activation = getattr(step, "activation", None)
    return activation is None or getattr(activation, "__name__", None) in _OF_PROBABILITIES


def imagenet_synsets() -> list[str]:
    """Returns the ids of ImageNet's 1,000 classes in the order in which all networks have them.

    Raises:
        FileNotFoundError: if tensorflow-datasets does not have them any more.
    """
    origin = importlib.util.find_spec("tensorflow_datasets").origin  # found, and not imported
    path = pathlib.Path(origin).parent / _SYNSETS
    return sorted(path.read_text().split())
