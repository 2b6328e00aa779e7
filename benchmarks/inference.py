"""Inference of one domain, in batches and image by image: ours, folded, stock Keras, PyTorch, the matrix products."""

import dataclasses
from functools import partial

from absl import app

from benchmarks import common, keras_networks, torch_networks
from benchmarks.common import Claim, Contestant

common.define_size_flags()

FOLDED = "ours, folded"
TORCH = "PyTorch"
LIMIT = "matrix products (PyTorch)"
OTHER_LIMIT = "matrix products (Keras backend)"


def networks(size):
    return [
        Contestant(FOLDED, partial(keras_networks.folded_inference, size)),
        Contestant("ours", partial(keras_networks.our_inference, size)),
        Contestant("stock Keras", partial(keras_networks.stock_inference, size)),
        Contestant(TORCH, partial(torch_networks.inference, size)),
    ]


def main(_):
    size = common.size()
    common.compare(
        "inference",
        [
            *networks(size),
            Contestant(LIMIT, partial(torch_networks.matrix_products, size, backward=False)),
            Contestant(OTHER_LIMIT, partial(keras_networks.matrix_products, size, backward=False)),
        ],
        [
            Claim("folded inference against PyTorch in eval mode", FOLDED, TORCH, 1.30),
            Claim("folded inference against the matrix products of PyTorch", FOLDED, LIMIT, 0.75),
            Claim("folded inference against the matrix products of the Keras backend", FOLDED, OTHER_LIMIT, 0.75),
        ],
    )
    one = dataclasses.replace(size, batch=1, steps=20 * size.steps)
    common.compare(
        "latency",
        networks(one),
        [Claim("latency at batch 1: images/s against PyTorch", FOLDED, TORCH, 1.0)],
        unit="images/s at batch 1",
    )


if __name__ == "__main__":
    app.run(main)
