"""Batches that mix domains, laid out as one wide image."""

import dataclasses
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Stands for the domain of a batch whose images lie side by side: (1, height, width, batch * channels).

    What keeps channels apart anyway, as depthwise convolution, normalisation and pooling do, takes such a batch for
    one image, and applies to each of its images the weights of its own domain in one op. A backbone lays a mixed batch
    out once and hands this on, where each layer would have to lay it out and take it apart again. It does so for layers
    that say, by `takes_side_by_side`, that they know what is meant.

    Attributes:
        ids: int32 (batch,), the domain of each image.
    """

    ids: Any


def mixes(domain) -> bool:
    """Returns whether a domain is one for each image, int32 (batch,), and not a name or a scalar for all of them."""
    return not isinstance(domain, str) and len(ops.shape(domain)) > 0


def lay_out(images):
    """Returns images, (batch, height, width, channels), side by side: (1, height, width, batch * channels)."""
    batch, height, width, channels = ops.shape(images)
    return ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (1, height, width, batch * channels))


def take_apart(wide, channels):
    """Returns what lies side by side, each image with so many channels, as (batch, height, width, channels)."""
    _, height, width, _ = ops.shape(wide)
    return ops.transpose(ops.reshape(wide, (height, width, -1, channels)), (2, 0, 1, 3))
