"""A small Keras network that has a layer of each kind, as pretrained ones have them."""

import keras

from tfmdl.architecture import Architecture
from tfmdl.backbones import Network
from tfmdl.sharing import options_of


def keras_model(normalized=True):
    """Returns image (batch, height, width, 3) -> features (batch, 6), with or without batch normalisation."""
    layers = keras.layers

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-3, name=name)(x) if normalized else x

    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(2.0, -1.0, name="rescaled")(image)
    x = norm(layers.Conv2D(4, 3, 2, "same", use_bias=False, name="stem")(x), "stem_norm")
    x = layers.ReLU(6.0, name="stem_relu")(x)
    branch = norm(layers.Conv2D(8, 1, use_bias=False, name="expand")(x), "expand_norm")
    branch = layers.ZeroPadding2D(((1, 1), (1, 1)), name="padded")(layers.Activation("swish", name="swish")(branch))
    branch = norm(layers.DepthwiseConv2D(3, padding="valid", use_bias=not normalized, name="depthwise")(branch), "norm")
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name="squeezed")(branch)
    gate = layers.Conv2D(2, 1, activation="relu", name="reduce")(squeezed)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    branch = norm(layers.Conv2D(4, 1, use_bias=False, name="project")(branch * gate), "project_norm")
    x = layers.Add(name="added")([x, layers.Dropout(0.5, name="dropped")(branch)])
    x = norm(layers.SeparableConv2D(6, 5, 2, "same", use_bias=False, name="separable")(x), "separable_norm")
    x = layers.LayerNormalization(name="layer_norm")(x) + 1.0
    x = layers.Dense(6, activation="gelu", name="dense")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="features")(x), name="small")


def small_keras(method="pointwise_sharing", normalized=True, **options):
    """Returns the architecture of that network."""
    network = Network.of(keras_model(normalized))
    return Architecture(method, "keras", options=options_of(method, options), network=network)
