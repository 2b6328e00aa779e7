"""EfficientNet-Lite0 at 96 pixels: adding a domain, inference, latency and mixed batches; ours and PyTorch.

    python -m benchmarks.efficientnet_lite --rounds=3

Needs `pip install -e '.[bench]' efficientnet-lite-pytorch`. Weights are random. In both, pointwise kernels and the stem
are frozen; ours trains as --recipe=finetune does, PyTorch by Adam.
"""

import dataclasses
from functools import partial

from absl import app, flags

from benchmarks import common, keras_networks, torch_networks
from benchmarks.common import Claim, Contestant, Size

FLAGS = flags.FLAGS

flags.DEFINE_list("parts", ["training", "inference", "latency", "mixed"], "What to measure.")
SIZE = Size(image_size=96, batch=64, steps=2)
TORCH = "PyTorch"
KEEPS = "PyTorch, statistics kept"
FUSED = "PyTorch, fused"
FOLDED = "ours, folded"


def main(_):
    thirty_two = dataclasses.replace(SIZE, batch=32, steps=4)
    one = dataclasses.replace(SIZE, batch=1, steps=30)
    if "training" in FLAGS.parts:
        common.compare(
            "efficientnet_lite_training",
            [
                Contestant("ours", partial(keras_networks.lite_training, SIZE)),
                Contestant(TORCH, partial(torch_networks.lite_training, SIZE)),
                Contestant(KEEPS, partial(torch_networks.lite_training, SIZE, keeps_statistics=True)),
            ],
            [
                Claim("training step of pointwise sharing against PyTorch, normalised by batch", "ours", TORCH, 1.3),
                Claim("the same against PyTorch with statistics kept", "ours", KEEPS, 1.3),
            ],
        )
    for part, size, limit in (("inference", thirty_two, 1.3), ("latency", one, 1.0)):
        if part in FLAGS.parts:
            common.compare(
                f"efficientnet_lite_{part}",
                inference(size),
                [
                    Claim(f"{part}, folded, batch {size.batch}, against {peer}", FOLDED, peer, limit)
                    for peer in (TORCH, FUSED)
                ],
            )
    if "mixed" in FLAGS.parts:
        measure = partial(partial, keras_networks.lite_inference, thirty_two)
        common.compare(
            "efficientnet_lite_mixed",
            [
                Contestant("one domain", measure()),
                Contestant("ten domains", measure(domains=10)),
                Contestant("one domain, folded", measure(folded=True)),
                Contestant("ten domains, folded", measure(folded=True, domains=10)),
            ],
            [
                Claim("inference, mixed ten domains, against one", "ten domains", "one domain", 0.9),
                Claim("the same, folded", "ten domains, folded", "one domain, folded", 0.9),
            ],
        )


def inference(size):
    return [
        Contestant(FOLDED, partial(keras_networks.lite_inference, size, folded=True)),
        Contestant("ours", partial(keras_networks.lite_inference, size)),
        Contestant(TORCH, partial(torch_networks.lite_inference, size)),
        Contestant(FUSED, partial(torch_networks.lite_inference, size, fused=True)),
    ]


if __name__ == "__main__":
    app.run(main)
