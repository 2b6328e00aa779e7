"""One binary mask per domain, learned through real-valued scores."""

import keras
import numpy as np
from keras import ops

from tfmdl.layers.domain_bank import DomainBank


class DomainMask(DomainBank):
    """Per domain a mask of zeros and ones: one where a real-valued score is above a threshold.

    The gradient of the mask goes to the scores as it is (straight through). Scores start at one value above the
    threshold: a new mask lets all through. Files hold the mask alone, one bit per weight; what is read from one starts
    again from scores as far above or below the threshold as those of a new mask.

    Args:
        domains: Names of the domains, in the order of their ids.
        threshold: Scores above it mean one.
        initial_score: Where scores start.

    Raises:
        ValueError: if `domains` is empty or names one twice, or `initial_score` is not above `threshold`.

    Reference: Mallya, Davis, Lazebnik, "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask
    Weights", ECCV 2018.
    """

    bits = 1
    factored = False

    def __init__(self, domains, threshold=5e-3, initial_score=1e-2, **kwargs):
        initializer = keras.initializers.Constant(initial_score)
        super().__init__(domains, initializer=initializer, **{**kwargs, "dtype": "float32"})
        if initial_score <= threshold:
            raise ValueError(
                "`initial_score` must be above `threshold`; "
                f"received initial_score={initial_score}, threshold={threshold}"
            )
        self.threshold = threshold
        self.initial_score = initial_score

    def select(self, domain):
        """Returns a domain's mask, float32; arguments and result as in `DomainBank.select`."""
        scores = super().select(domain)
        mask = ops.cast(scores > self.threshold, "float32")
        return mask + (scores - ops.stop_gradient(scores))  # adds exactly zero, and the gradient

    def applied(self, kernel, domain):
        """Returns a kernel, zero where the mask is, with the batch in front for one domain per image."""
        return kernel * ops.cast(self.select(domain), kernel.dtype)

    def applied_exactly(self, kernel, domain):
        """Returns what a kernel, a float64 numpy array, comes to under the mask of the domain of this name."""
        return kernel * self.exact(domain)

    def stored(self, owner):
        return np.packbits(super().stored(owner).ravel() > self.threshold)

    def stored_shape(self, owner):
        return (-(-int(np.prod(self.variable_of[owner].shape)) // 8),)

    def restore(self, owner, stored):
        variable = self.variable_of[owner]
        mask = np.unpackbits(stored, count=int(np.prod(variable.shape))).reshape(variable.shape)
        variable.assign(np.where(mask, self.initial_score, 2 * self.threshold - self.initial_score))

    def get_config(self):
        config = {**super().get_config(), "threshold": self.threshold, "initial_score": self.initial_score}
        for argument in ("shared", "initializer", "learned", "axis"):
            del config[argument]
        return config
