"""Pooled features in memory instead of images, for training what comes behind a network that no step changes."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfmdl.data.pipeline import map_in_order


@dataclasses.dataclass(frozen=True)
class Features:
    """Pooled features of images of one domain.

    Attributes:
        domain: Name of the domain.
        image_ids: int64 (images,).
        labels: int32 (images,); -1 where unknown.
        values: float32 (images, channels).
    """

    domain: str
    image_ids: np.ndarray
    labels: np.ndarray
    values: np.ndarray

    @classmethod
    def joined(cls, parts: list["Features"]) -> "Features":
        """Returns features of one domain that came in parts, in their order.

        Raises:
            ValueError: if there are no parts.
        """
        if not parts:
            raise ValueError("there are no images to compute features of")
        arrays = zip(*((part.image_ids, part.labels, part.values) for part in parts), strict=True)
        return cls(parts[0].domain, *map(np.concatenate, arrays))

    def batches(self, size: int):
        """Yields `Features` of `size` images, in order; the last batch may be smaller."""
        for first in range(0, len(self.labels), size):
            rows = slice(first, first + size)
            yield Features(self.domain, self.image_ids[rows], self.labels[rows], self.values[rows])


class FeaturePipeline:
    """Shuffled training batches of features, epoch by epoch: a `TrainPipeline` that has no images to read.

    Batches are {"features": (batch, channels) float32, "label": (batch,) int32}, a function of (seed, epoch, step)
    alone. An epoch is as many whole batches as hold every image; the last is filled up with its first images again.

    Args:
        features: Of all images to train on.
        batch_size: Images per batch.
        seed: Of the order.
        rows: Which rows of each batch are given here: all, or those of one process of several that share it.
    """

    def __init__(self, features: Features, batch_size: int, seed: int, rows: slice = slice(None)):
        self.batch_size = batch_size
        self.seed = seed
        self._rows_here = rows
        self.steps_per_epoch = -(-len(features.labels) // batch_size)
        with tf.device("CPU"):
            self._images = {"features": tf.constant(features.values), "label": tf.constant(features.labels)}

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """Returns the batches of one epoch from `first_step` on."""
        return self._batches(self._rows(epoch)[first_step:])

    def epochs(self, number: int) -> tf.data.Dataset:
        """Returns the batches of so many epochs, one after the other: as one dataset they begin once, not each."""
        return self._batches(np.concatenate([self._rows(epoch) for epoch in range(number)]))

    def _rows(self, epoch):
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._images["label"]))
        return np.resize(order, (self.steps_per_epoch, self.batch_size))[:, self._rows_here]

    def _batches(self, rows):
        return map_in_order(
            tf.data.Dataset.from_tensor_slices(rows),
            lambda rows: {name: tf.gather(values, rows) for name, values in self._images.items()},
        )
