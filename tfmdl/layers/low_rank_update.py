"""One matrix of low rank per domain."""

import math

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank


class DomainLowRankUpdate(keras.layers.Layer):
    """Per domain a matrix that is the product of two thin ones, to be added to a kernel that the domains share.

    The left one starts from a normal distribution and the right one from zero: a new update is zero, and so without
    effect, but has a gradient.

    Args:
        domains: Names of the domains, in the order of their ids.
        rank: Columns of the left matrix and rows of the right one; less where the product has no more.

    Raises:
        ValueError: if `domains` is empty or names one twice, or `rank` is not positive.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1.
    """

    factored = True  # what it adds to an output can be computed from the factors

    def __init__(self, domains, rank, **kwargs):
        super().__init__(**kwargs)
        if rank < 1:
            raise ValueError(f"`rank` must be positive; received rank={rank}")
        self.domains = tuple(domains)
        self.rank = rank
        normal = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
        self.left = DomainBank(domains, initializer=normal, dtype=self.dtype_policy, name="left")
        self.right = DomainBank(domains, dtype=self.dtype_policy, name="right")

    def build(self, shape):
        """Makes the variables for updates of a kernel of `shape`.

        As a matrix a kernel has its last axis for columns; a depthwise one, (height, width, channels, 1), its channels.
        """
        columns = shape[-2] if shape[-1] == 1 else shape[-1]
        rows = math.prod(shape) // columns
        rank = min(self.rank, rows, columns)
        self.left.build((rows, rank))
        self.right.build((rank, columns))

    def factors(self, domain):
        """Returns (rows, rank) and (rank, columns), each with the batch in front for one domain per image."""
        return self.left.select(domain), self.right.select(domain)

    def select(self, domain):
        """Returns the product, (rows, columns), with the batch in front for one domain per image."""
        return ops.matmul(*self.factors(domain))

    def applied(self, kernel, domain):
        """Returns a kernel with the update of a domain, with the batch in front for one domain per image."""
        update = self.select(domain)
        batch = (-1,) if len(update.shape) == 3 else ()
        return kernel + ops.reshape(update, (*batch, *kernel.shape))

    def applied_exactly(self, kernel, domain):
        """Returns what a kernel, a float64 numpy array, comes to with the update of the domain of this name."""
        return kernel + (self.left.exact(domain) @ self.right.exact(domain)).reshape(kernel.shape)

    def get_config(self):
        return {**super().get_config(), "domains": list(self.domains), "rank": self.rank}
