"""Training steps: ours, stock Keras, PyTorch, and the machine's limits."""

import os
from functools import partial

from absl import app

from benchmarks import common, keras_networks, torch_networks
from benchmarks.common import Claim, Contestant

common.define_size_flags()

FULL = "ours, all trained"
ADDED = "ours, a domain added"
HEAD = "ours, classifier only"
STOCK = "stock Keras"
TORCH = "PyTorch"

CLAIMS = (
    Claim("training step, everything trained, against stock Keras", FULL, STOCK, 1.30),
    Claim("training step, everything trained, against PyTorch channels last", FULL, TORCH, 1.35),
    Claim("adding a domain against our own full step", ADDED, FULL, 1.30),
    Claim("adding a domain against stock Keras's full step", ADDED, STOCK, 1.70),
    Claim("classifier_only training against adding a domain", HEAD, ADDED, 2.5),
)


def main(_):
    size = common.size()
    jax = os.environ.get("KERAS_BACKEND") == "jax"
    contestants = [
        Contestant(FULL, partial(keras_networks.our_training, size)),
        Contestant(ADDED, partial(keras_networks.our_training, size, trunk=False)),
        Contestant(HEAD, partial(keras_networks.our_training, size, "classifier_only", trunk=False)),
        Contestant(STOCK, partial(keras_networks.stock_training, size)),
        Contestant(TORCH, partial(torch_networks.training, size)),
        Contestant("matrix products (Keras backend)", partial(keras_networks.matrix_products, size)),
        Contestant("matrix products (PyTorch)", partial(torch_networks.matrix_products, size)),
        Contestant("the same, no weight gradients", partial(torch_networks.matrix_products, size, weights=False)),
        Contestant("memory copy of the activations", partial(torch_networks.memory_copy, size)),
    ]
    if jax:
        contestants.append(Contestant("PyTorch, compiled", partial(torch_networks.training, size, compiled=True)))
    else:
        contestants.append(Contestant("Keras's default (XLA)", partial(keras_networks.stock_training, size, "auto")))
    common.compare("train_step", contestants, CLAIMS)


if __name__ == "__main__":
    app.run(main)
