"""Which units detect which concepts: thresholds, overlaps, and how sure the counts are. Arrays only.

As in Network Dissection (Bau et al., CVPR 2017, section 3): the threshold of a unit is such that 0.005 of its
activations over all positions of all images are above it; its map is interpolated to the size of the masks and cut at
the threshold; the intersection over union with a concept is taken over all images that are labelled for the concept's
category; a unit detects the concept of the highest one if that is above 0.04.
"""

import dataclasses
import functools

import numpy as np

SHARE_ABOVE = 0.005
MIN_IOU = 0.04
RESAMPLES = 1000
# That a concept must be in. One image's mask is easily met: with random weights, a concept of four images had five
# times as many detectors as one of five or more, a concept of one image 26 times as many (docs/kernels.md).
LEAST_IMAGES = 5


class Thresholds:
    """The highest activations of the units of one layer, as images come in batches: their quantile is exact.

    Memory: 4 bytes for each activation that is above a threshold, `SHARE_ABOVE` of all.

    Args:
        images: How many there will be.
    """

    def __init__(self, images: int):
        self._images = images
        self._highest = None

    def add(self, maps: np.ndarray) -> None:
        """Takes the maps of a batch, (batch, height, width, units)."""
        batch, height, width, units = maps.shape
        # One more than are to be above: that one is the threshold.
        keep = max(1, int(SHARE_ABOVE * self._images * height * width)) + 1
        rows = maps.reshape(-1, units).T
        if self._highest is not None:
            rows = np.concatenate([self._highest, rows], axis=1)
        if rows.shape[1] > keep:
            rows = np.partition(rows, rows.shape[1] - keep, axis=1)[:, -keep:]
        self._highest = np.ascontiguousarray(rows)

    def values(self) -> np.ndarray:
        """Returns the threshold of each unit, (units,)."""
        return self._highest.min(axis=1)


class TopImages:
    """The images in which each unit of a layer was most active.

    Args:
        count: How many of each unit.
    """

    def __init__(self, count: int):
        self._count = count
        self._peaks = self._images = None

    def add(self, first: int, maps: np.ndarray) -> None:
        """Takes the maps of a batch, (batch, height, width, units), whose first image has the number `first`."""
        peaks = maps.max(axis=(1, 2)).T
        images = np.broadcast_to(np.arange(first, first + len(maps)), peaks.shape)
        if self._peaks is not None:
            peaks = np.concatenate([self._peaks, peaks], axis=1)
            images = np.concatenate([self._images, images], axis=1)
        order = np.argsort(-peaks, axis=1, kind="stable")[:, : self._count]
        self._peaks, self._images = (np.take_along_axis(values, order, axis=1) for values in (peaks, images))

    def images(self) -> np.ndarray:
        """Returns the numbers of images, (units, count), the most active first."""
        return self._images


@dataclasses.dataclass(frozen=True)
class Labels:
    """What one image is labelled with.

    Attributes:
        ids: int (concepts,): of the concepts that it has.
        planes: float32 (pixels, concepts): 1 where they are.
        categories: int: of the categories that it is labelled for.
        size: Height and width of the masks.
    """

    ids: np.ndarray
    planes: np.ndarray
    categories: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, masks: dict[int, np.ndarray], categories: list[int], size: tuple[int, int]) -> "Labels":
        """Returns them as masks by concept, bool (height, width), have them."""
        ids = np.array(sorted(masks), int)
        planes = np.array([masks[id].ravel() for id in ids], "float32").reshape(len(ids), -1).T
        return cls(ids, np.ascontiguousarray(planes), np.array(categories, int), size)


class Overlaps:
    """Pixels that units and concepts have in common.

    Memory: 8 bytes for each unit and concept.

    Args:
        thresholds: (units,).
        category_of: int (concepts,): the number of each concept's category.
        categories: Their number.
    """

    def __init__(self, thresholds: np.ndarray, category_of: np.ndarray, categories: int):
        units = len(thresholds)
        self._thresholds = thresholds
        self._category_of = category_of
        self._common = np.zeros((units, len(category_of)))
        self._active = np.zeros((units, categories))

    def add(self, maps: np.ndarray, labels: Labels) -> None:
        """Takes the maps of one image, (height, width, units)."""
        (units,) = np.nonzero(maps.max(axis=(0, 1)) > self._thresholds)
        if not len(units):
            return
        above = upsampled(np.moveaxis(maps[:, :, units], 2, 0), labels.size) > self._thresholds[units, None, None]
        above = above.reshape(len(units), -1).astype("float32")
        self._common[units[:, None], labels.ids] += above @ labels.planes
        self._active[units[:, None], labels.categories] += above.sum(axis=1, keepdims=True)

    def iou(self, area: np.ndarray) -> np.ndarray:
        """Returns the intersection over union of units and concepts, (units, concepts).

        Args:
            area: (concepts,): pixels of each concept.
        """
        union = self._active[:, self._category_of] + area - self._common
        return np.divide(self._common, union, out=np.zeros_like(union), where=union > 0)


def resampled(
    rng: np.random.Generator, counts: np.ndarray, units: np.ndarray, resamples: int = RESAMPLES
) -> np.ndarray:
    """Returns how many units detect each concept when the units of each layer are drawn anew, with replacement.

    Args:
        rng: Of the draws.
        counts: int (layers, concepts): how many units of each layer detect each concept.
        units: int (layers,): how many each layer has, of those that detect nothing too.
        resamples: How often they are drawn.

    Returns:
        int (resamples, concepts), of all layers together.
    """
    drawn = np.zeros((resamples, counts.shape[1]), int)
    for own, of_layer in zip(counts, units, strict=True):
        shares = np.append(own, of_layer - own.sum()) / of_layer
        drawn += rng.multinomial(of_layer, shares, size=resamples)[:, :-1]
    return drawn


def interval(value: float, values: np.ndarray) -> tuple[float, float]:
    """Returns an interval of 95% around a value: how far the values of resamples lie from their mean.

    What is taken of them is their spread and not their place: a resample has some units twice, and so fewer concepts.
    """
    low, high = np.quantile(values - np.mean(values), (0.025, 0.975))
    return float(value + low), float(value + high)


def reach(area: float, top: float) -> float:
    """Returns the highest intersection over union that a unit can have with a concept.

    Args:
        area: Pixels of the concept.
        top: Pixels above a threshold, `SHARE_ABOVE` of all.
    """
    return min(area, top) / max(area, top)


def distinct_among(counts: np.ndarray, units: int, drawn: int) -> np.ndarray:
    """Returns how many concepts so many units detect on average, drawn from all: what networks of several sizes share.

    Args:
        counts: int (..., concepts): how many units detect each concept.
        units: Their number, of those that detect none too.
        drawn: How many are drawn, at most `units`.

    Returns:
        float (...).

    Reference: Hurlbert, "The nonconcept of species diversity", Ecology 1971 (rarefaction).
    """
    log_factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, units + 1))))
    left = units - counts  # units that do not detect it, of which all those drawn must be for it to be missing
    log_missing = (
        log_factorial[left] - log_factorial[np.maximum(left - drawn, 0)] + log_factorial[units - drawn]
    ) - log_factorial[units]
    return np.where(left < drawn, 1.0, -np.expm1(np.minimum(log_missing, 0.0))).sum(axis=-1)


@functools.lru_cache(8)
def _interpolation(maps: int, pixels: int) -> np.ndarray:
    centres = np.clip((np.arange(pixels) + 0.5) * maps / pixels - 0.5, 0, maps - 1)
    below = np.floor(centres).astype(int)
    above = np.minimum(below + 1, maps - 1)
    matrix = np.zeros((pixels, maps), "float32")
    matrix[np.arange(pixels), below] += 1 - (centres - below)
    matrix[np.arange(pixels), above] += centres - below
    return matrix


def upsampled(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolates maps of activations to the size of a mask, linearly between the centres of their fields.

    Args:
        maps: (units, height, width).
        size: Height and width of the mask.

    Returns:
        float32 (units, *size): never above the largest value of a map, never below the smallest.
    """
    rows, columns = _interpolation(maps.shape[1], size[0]), _interpolation(maps.shape[2], size[1])
    return rows @ (maps.astype("float32") @ columns.T)
