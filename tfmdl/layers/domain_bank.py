"""One variable per domain, selected by name or gathered by id."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from tfmdl.domains import SHARED
from tfmdl.layers.side_by_side import SideBySide


class DomainBank(keras.layers.Layer):
    """One variable per domain (or one for all or some), and the only place where a domain picks its own.

    `select` takes the domain as a name, and then gives that domain's variable without any gather; as an int32
    scalar; or as an int32 vector, and then gives one value per image: the domain-indexed gather. Ids count the
    `domains` from 0. Each domain has a variable of its own rather than a slice of a stacked one, so that weight
    decay, momentum and moving statistics of a domain cannot touch another's.

    Args:
        domains: Names of the domains, in the order of their ids.
        shared: One variable, named `shared`, serves all domains; or the names of those that it serves, while each of
            the others has its own.
        initializer: Initializer of each variable. Keras's give the same value at each call: domains start equal.
        learned: False for variables that no gradient changes (moving statistics).
        axis: Where the batch goes in the shape of what is gathered.

    Attributes:
        sharing: Names of the domains that the shared variable serves.
        one_for_all: Whether these are all.

    Raises:
        ValueError: if `domains` is empty or names one twice, or `shared` names another.
    """

    bits = 32  # per weight in a file
    pooled = False  # whether all domains use, and mix, all variables

    def __init__(self, domains, shared=False, initializer="zeros", learned=True, axis=0, **kwargs):
        super().__init__(**kwargs)
        if not domains or len(set(domains)) != len(domains):
            raise ValueError(f"`domains` must name at least one domain, each once; received domains={domains}")
        self.domains = tuple(domains)
        self.shared = shared if isinstance(shared, bool) else tuple(shared)
        self.sharing = (self.domains if shared else ()) if isinstance(shared, bool) else self.shared
        if not set(self.sharing) <= set(self.domains):
            raise ValueError(f"`shared` must name some of {', '.join(self.domains)}; received shared={shared}")
        self.one_for_all = len(set(self.sharing)) == len(self.domains)
        self.initializer = keras.initializers.get(initializer)
        self.learned = learned
        self.axis = axis
        self.variable_of = {}
        self._read = None  # a stack that values are taken out of, and its row of each domain

    def build(self, shape):
        """Makes the variables, each of `shape`: the shape of one domain's value, not of an input."""
        own = [domain for domain in self.domains if domain not in self.sharing]
        for owner in (SHARED, *own) if self.sharing else own:
            self.make_variable(owner, shape)

    def make_variable(self, owner, shape):
        """Makes the variable of `owner`."""
        # Under a mixed policy values are cast down for the layer that calls; a float32 bank stays float32 in any.
        mixed = self.compute_dtype != self.variable_dtype
        self.variable_of[owner] = self.add_weight(
            shape=shape,
            initializer=self.initializer_of(owner),
            trainable=self.learned,
            autocast=mixed,
            # On several devices, what a layer assigns becomes the mean of what each assigns.
            aggregation="none" if self.learned else "mean",
            name=owner,
        )

    def initializer_of(self, owner):
        """Returns the initializer of `owner`'s variable."""
        return self.initializer

    def variable(self, domain):
        """Returns the variable that serves the domain named `domain`.

        Raises:
            ValueError: if there is no such domain.
        """
        if domain not in self.domains:
            raise ValueError(f"`domain` must be one of {', '.join(self.domains)}; received domain={domain!r}")
        return self.variable_of[SHARED if domain in self.sharing else domain]

    def select(self, domain):
        """Returns a domain's value, in the compute dtype of the layer that calls.

        Args:
            domain: A name, an int32 scalar, an int32 vector of shape (batch,), or a `SideBySide` of one.

        Returns:
            A tensor of the bank's shape; for a vector, unless one variable serves all, of that with the batch at
            `axis`.
        """
        if isinstance(domain, str):
            variable = self.variable(domain)
            return variable.value if self._read is None else self.out_of(*self._read, domain)
        if self.one_for_all:
            return self.variable_of[SHARED].value
        ids = domain.ids if isinstance(domain, SideBySide) else domain
        if self._read is not None:
            stack, rows = self._read
            if rows != list(range(len(rows))):
                ids = ops.take(np.array(rows, "int32"), ids)
            return ops.take(stack, ids, axis=self.axis)
        if len(ops.shape(ids)) == 0:
            return ops.take(self.stacked(), ids, axis=self.axis)
        return gather(self.stacked(), ids, self.axis)

    def stacked(self):
        """Returns the values of all domains, stacked along `axis`: (number of domains, *shape) where that is 0."""
        if self._read is not None:
            stack, rows = self._read
            return ops.take(stack, np.array(rows, "int32"), axis=self.axis)
        return ops.stack([self.variable(domain).value for domain in self.domains], self.axis)

    def stack(self):
        """Returns the values of all variables, stacked along `axis`, and which row of that serves each domain."""
        return ops.stack([variable.value for variable in self.variable_of.values()], self.axis), self.rows()

    def rows(self):
        """Returns which row of `stack` serves each domain."""
        row_of = {owner: row for row, owner in enumerate(self.variable_of)}
        return [row_of[SHARED if domain in self.sharing else domain] for domain in self.domains]

    def out_of(self, stack, rows, domain):
        """Returns the value of the domain named `domain` out of what `stack` returns."""
        return ops.take(stack, rows[self.domains.index(domain)], axis=self.axis)

    @contextlib.contextmanager
    def reading(self, stack) -> Iterator[None]:
        """As long as the context lasts, values are taken out of `stack`, which has the values that `stack()` returns.

        The variables are not read then. In a graph that serves, one variable takes the place of many.
        """
        self._read = (stack, self.rows())
        try:
            yield
        finally:
            self._read = None

    def unstack(self, stack):
        """Sets all variables to what `stack()` returned."""
        rows = self.rows()
        for owner, variable in self.variable_of.items():
            variable.assign(self.out_of(stack, rows, self.sharing[0] if owner == SHARED else owner))

    def exact(self, domain):
        """Returns what `select` gives for the domain named `domain`, as a numpy array, float64."""
        return np.array(ops.convert_to_numpy(self.select(domain)), "float64")

    def stored(self, owner):
        """Returns what a file holds of `owner`'s variable (a domain's, or "shared"), a numpy array."""
        return ops.convert_to_numpy(self.variable_of[owner].value)

    def stored_shape(self, owner):
        """Returns the shape of what a file holds of `owner`'s variable."""
        return tuple(self.variable_of[owner].shape)

    def restore(self, owner, stored):
        """Sets `owner`'s variable to what `stored` returned."""
        self.variable_of[owner].assign(stored)

    def get_config(self):
        return {
            **super().get_config(),
            "domains": list(self.domains),
            "shared": self.shared,
            "initializer": keras.initializers.serialize(self.initializer),
            "learned": self.learned,
            "axis": self.axis,
        }


def gather(values, ids, axis):
    """Returns, for each of `ids`, its slice of `values` along `axis`.

    As `ops.take`, but its gradient is one matrix product instead of a sum image by image.
    """
    before, count = values.shape[:axis], values.shape[axis]
    member = ops.one_hot(ids, count, axis=0, dtype=values.dtype)

    @ops.custom_gradient
    def taken(values):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            rows = ops.reshape(upstream, (*before, ops.shape(member)[1], -1))
            return ops.reshape(ops.matmul(member, rows), values.shape)

        return ops.take(values, ids, axis=axis), gradient

    return taken(values)
