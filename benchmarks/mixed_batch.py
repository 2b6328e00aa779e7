"""Batches that mix ten domains against batches of one, in training and in inference."""

from functools import partial

from absl import app

from benchmarks import common, keras_networks
from benchmarks.common import Claim, Contestant

common.define_size_flags()


def main(_):
    size = common.size()
    common.compare(
        "mixed_batch_training",
        [
            Contestant("one domain", partial(keras_networks.our_training, size)),
            Contestant("ten domains", partial(keras_networks.our_training, size, domains=10)),
        ],
        [Claim("training step, batch mixing ten domains, against one", "ten domains", "one domain", 0.85)],
    )
    common.compare(
        "mixed_batch_inference",
        [
            Contestant("one domain", partial(keras_networks.our_inference, size)),
            Contestant("ten domains", partial(keras_networks.our_inference, size, domains=10)),
        ],
        [Claim("inference, mixed ten domains, against one", "ten domains", "one domain", 0.90)],
    )


if __name__ == "__main__":
    app.run(main)
