"""Networks that were trained elsewhere, as Keras models: what trunks are imported from."""

from tfmdl.pretrained import applications, efficientnet_lite, saved
from tfmdl.pretrained.network import PretrainedNetwork, imagenet_synsets, split

SOURCES = ("efficientnet_lite0", "keras:NAME of keras.applications", "PATH.keras")


def load(source: str, **how) -> PretrainedNetwork:
    """Returns a pretrained network.

    Args:
        source: "efficientnet_lite0", "keras:MobileNetV2" (or another of keras.applications), or the path of a .keras
            file.
        **how: `mean`, `std` and `image_size` of a file, as in `saved.load`.

    Raises:
        FileNotFoundError: if a file or weights are not there.
        OSError: if weights cannot be downloaded.
        ValueError: if there is no such source, it is not what it should be, or `how` is given for another than a file.
    """
    if source.endswith(".keras"):
        return saved.load(source, **how)
    if how:
        raise ValueError(f"--{next(iter(how))} is for .keras files; {source} has its own")
    if source == "efficientnet_lite0":
        return efficientnet_lite.load()
    if source.startswith("keras:"):
        return applications.load(source.removeprefix("keras:"))
    raise ValueError(f"--source must be one of {', '.join(SOURCES)}; received {source!r}")


__all__ = ["PretrainedNetwork", "imagenet_synsets", "load", "split"]
