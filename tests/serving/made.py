"""Runs and image files for the tests of serving."""

import pathlib

import numpy as np
import tensorflow as tf

from tfmdl.architecture import Architecture
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import write_pack, write_trunk

PAIR = "vgg-flowers_2.0"
# More classes than are named, fewer and a name with signs, and a domain that is evaluated at a size of its own.
NUM_CLASSES = {"base": 7, PAIR: 2, "upright": 3, "third": 4, "fourth": 9, "fifth": 5}
SIZES = {domain: (24, 12) if domain == "upright" else (16, 16) for domain in NUM_CLASSES}
MIXED = ("base", PAIR)
ALL = ", ".join(NUM_CLASSES)
ARCHITECTURE = Architecture(width=4, blocks_per_stage=1)


def label_names(domain, num_classes=NUM_CLASSES):
    return [f"{domain} {index}é" for index in range(num_classes[domain])]


def preprocessing(size, offset=0.0):
    """Evaluation sees the centre of something larger, of another size for each domain."""
    cover = (size[0] + round(100 * offset), size[1] + 1)
    return Preprocessing(*size, *size, (0.4 + offset, 0.5, 0.6), (0.2, 0.25 + offset, 0.3), *cover)


def moved(model, seed=0):
    """Sets the variables of a model to values of their own, as training would, and returns it."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        value = rng.uniform(0.8, 1.2, variable.shape) * np.asarray(variable)
        value = value + 0.05 * rng.normal(size=variable.shape) * ("moving_var" not in variable.path)
        # With small features and small heads all classes would be about as probable.
        variable.assign(8 * value if variable.path.startswith("head/kernel") else value)
    return model


def make_runs(folder, num_classes=NUM_CLASSES, architecture=ARCHITECTURE, names=label_names):
    """Writes a trunk and a pack for each domain, the first of which is the base domain, and returns the folder."""
    folder = pathlib.Path(folder)
    model = moved(MultiDomainClassifier(num_classes, architecture))
    base = next(iter(num_classes))
    fingerprint = write_trunk(folder / "trunk.safetensors", model, base)
    for index, domain in enumerate(num_classes):
        write_pack(
            folder / "packs" / f"{domain}.safetensors",
            model,
            domain,
            label_names=names(domain, num_classes),
            category_ids=list(range(num_classes[domain])),
            preprocessing=preprocessing(SIZES.get(domain, (16, 16)), 0.02 * index),
            trunk_fingerprint=fingerprint,
            accuracy=0.5 + 0.1 * index,
            base=domain == base,
        )
    return folder


def picture(rng, height, width):
    coarse = rng.integers(0, 256, (3, 3, 3), "uint8")
    return np.asarray(tf.cast(tf.image.resize(coarse, (height, width), "bicubic"), tf.uint8))


ENCODERS = {
    "jpeg": lambda image: tf.io.encode_jpeg(image, quality=90).numpy(),
    "png": lambda image: tf.io.encode_png(image).numpy(),
}


def make_files(rng):
    return [
        (name, height, width, encode(picture(rng, height, width)))
        for name, encode in ENCODERS.items()
        for height, width in ((16, 16), (16, 37), (41, 23), (9, 30), (24, 12))
    ]
