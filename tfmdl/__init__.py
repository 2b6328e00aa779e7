"""One image classifier for many visual domains, in Keras 3 and TensorFlow.

From Python, a trunk, a domain that is added to it, and what can be done with both:

    import tfmdl

    tfmdl.train("objects", data_dir="records", workdir="runs/objects", recipe="quick")
    birds = tfmdl.train("birds", data_dir="records", workdir="runs/birds", init_from="runs/objects", recipe="quick")

    birds.predict(["robin.jpg", "wren.jpg"], domain="birds")    # probabilities, (2, classes)
    birds.evaluate("records")["birds"].accuracy                 # on val, in 0..1

    both = tfmdl.load("runs/objects", "runs/birds")             # one model, of finished runs on one trunk
    both.export("served")                                       # one SavedModel for TensorFlow Serving

Any Keras image network with weights becomes a classifier of many domains, which shares most of them:

    model = tfmdl.multi_domain(keras.applications.MobileNetV2(), {"birds": 5, "signs": 43})

`train` takes the flags of train.py by their names. `load` also takes a trunk and packs: `load(trunk=..., packs=[...])`.
Both return a `Classifier`; its Keras model is `.model`. See `tfmdl.api` for all arguments and errors.
"""

import importlib
import os

# TensorFlow logs its start-up from C++, before any Python setting could reach it. What a user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on processors without AVX-512; it makes a training step two to three times faster there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"

_API = ("Classifier", "load", "multi_domain", "save_packs", "train")
__all__ = ["__version__", *_API]


def __getattr__(name):
    # On first use: importing this package takes no time, TensorFlow's start takes seconds.
    if name in _API:
        return getattr(importlib.import_module("tfmdl.api"), name)
    raise AttributeError(f"module 'tfmdl' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_API})
