"""One matrix of low rank per domain."""

import math

import keras
import numpy as np
from keras import ops

from tfmdl.layers.domain_bank import DomainBank


class DomainLowRankUpdate(keras.layers.Layer):
    """Per domain a matrix that is the product of two thin ones, to be added to a kernel that the domains share.

    The left one starts from a normal distribution and the right one from zero: a new update is zero, and so without
    effect, but has a gradient. Domains may differ in rank, and some may have no update: for a batch that mixes them,
    factors are filled up with zeros, which no variable holds.

    Args:
        domains: Names of the domains, in the order of their ids.
        rank: Columns of the left matrix and rows of the right one, less where the product has no more; or the rank of
            each domain that has an update, by its name.

    Raises:
        ValueError: if `domains` is empty or names one twice, `rank` names another, or a rank is not positive.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1.
    """

    factored = True  # what it adds to an output can be computed from the factors

    def __init__(self, domains, rank, **kwargs):
        super().__init__(**kwargs)
        ranks = rank if isinstance(rank, dict) else dict.fromkeys(domains, rank)
        if not set(ranks) <= set(domains) or any(each < 1 for each in ranks.values()):
            raise ValueError(f"`rank` must be positive, or so by name of a domain; received rank={rank}")
        self.domains = tuple(domains)
        self.rank = rank
        self._rank_of = {domain: ranks[domain] for domain in domains if domain in ranks}
        normal = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
        self.left = _Factor(domains, initializer=normal, dtype=self.dtype_policy, name="left")
        self.right = _Factor(domains, dtype=self.dtype_policy, name="right")

    def build(self, shape):
        """Makes the variables for updates of a kernel of `shape`.

        As a matrix a kernel has its last axis for columns; a depthwise one, (height, width, channels, 1), its channels.
        """
        self._shape = tuple(shape)
        # One of a single position, (1, 1, channels, filters), is a matrix already, also where it has one filter.
        columns = shape[-2] if shape[-1] == 1 and math.prod(shape[:-2]) > 1 else shape[-1]
        rows = math.prod(shape) // columns
        rank_of = {domain: min(rank, rows, columns) for domain, rank in self._rank_of.items()}
        self.left.build({domain: (rows, rank) for domain, rank in rank_of.items()})
        self.right.build({domain: (rank, columns) for domain, rank in rank_of.items()})

    def factors(self, domain):
        """Returns (rows, rank) and (rank, columns), each with the batch in front for one domain per image.

        Where there is no update, of the domain of this name or of any, it returns None.
        """
        if not self._rank_of or (isinstance(domain, str) and domain not in self._rank_of):
            return None
        return self.left.select(domain), self.right.select(domain)

    def select(self, domain):
        """Returns the product, (rows, columns), with the batch in front for one domain per image, or None."""
        factors = self.factors(domain)
        return None if factors is None else ops.matmul(*factors)

    def applied(self, kernel, domain):
        """Returns a kernel with the update of a domain, with the batch in front for one domain per image.

        The kernel may have the batch in front, too.
        """
        update = self.select(domain)
        if update is None:
            return kernel
        batch = (-1,) if len(update.shape) == 3 else ()
        return kernel + ops.reshape(update, (*batch, *self._shape))

    def applied_exactly(self, kernel, domain):
        """Returns what a kernel, a float64 numpy array, comes to with the update of the domain of this name."""
        if domain not in self._rank_of:
            return kernel
        return kernel + (self.left.exact(domain) @ self.right.exact(domain)).reshape(kernel.shape)

    def get_config(self):
        return {**super().get_config(), "domains": list(self.domains), "rank": self.rank}


class _Factor(DomainBank):
    """One factor of each domain that has an update, of a shape of its own."""

    def build(self, shape_of):
        """Makes the variables, by name of the domain."""
        for domain, shape in shape_of.items():
            self.make_variable(domain, shape)

    def stacked(self):
        """Returns the factors of all domains, stacked: filled up with zeros to the largest."""
        if self._read is not None:
            return self._read[0]
        largest = tuple(np.max([variable.shape for variable in self.variable_of.values()], axis=0).tolist())

        def filled(domain):
            if domain not in self.variable_of:
                return ops.zeros(largest, self.compute_dtype)
            value = self.variable_of[domain].value
            missing = [size - length for size, length in zip(largest, value.shape, strict=True)]
            return ops.pad(value, [(0, number) for number in missing]) if any(missing) else value

        return ops.stack([filled(domain) for domain in self.domains], self.axis)

    def stack(self):
        return self.stacked(), self.rows()

    def rows(self):
        return list(range(len(self.domains)))

    def out_of(self, stack, rows, domain):
        value = super().out_of(stack, rows, domain)
        return value[tuple(slice(length) for length in self.variable_of[domain].shape)]
