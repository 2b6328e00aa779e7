"""Networks that were trained elsewhere, as Keras models: what trunks are imported from."""

from tfmdl.pretrained import efficientnet_lite
from tfmdl.pretrained.network import PretrainedNetwork, imagenet_synsets, split

SOURCES = ("efficientnet_lite0",)


def load(source: str) -> PretrainedNetwork:
    """Returns a pretrained network.

    Args:
        source: "efficientnet_lite0".

    Raises:
        FileNotFoundError: if its weights are not there.
        ValueError: if there is no such source, or its weights are not those that were published.
    """
    if source == "efficientnet_lite0":
        return efficientnet_lite.load()
    raise ValueError(f"--source must be one of {', '.join(SOURCES)}; received {source!r}")


__all__ = ["PretrainedNetwork", "imagenet_synsets", "load", "split"]
