"""What all convolutions here have in common."""

import keras
import numpy as np

from tfmdl.layers.side_by_side import SideBySide


class DomainConvolution(keras.layers.Layer):
    """A convolution for several domains, which says of itself what the rest of the program may do with it.

    In inference it is linear in its input, whatever a method adds to it: for one domain it comes to kernels and a bias,
    and only the layer knows to which. One with variables besides its kernels therefore overrides `folded`.

    Attributes:
        kernel: The `DomainBank` of the kernel; a layer of several kernels overrides `kernels` instead.
        takes_side_by_side: Whether the domain may be a `SideBySide`, and the input images that lie side by side.
        experts: Names of the domains whose kernels it mixes anew for each image: what it mixes does not fold.
        gives_gates: Whether it calls its attribute `observer`, where that is set, with the weights of this mix,
            (batch, experts) float32.

    Raises:
        ValueError: when called with images side by side where it does not take them.
    """

    takes_side_by_side = False
    experts: tuple[str, ...] = ()
    gives_gates = False

    @property
    def kernels(self):
        """The banks of its kernels, in the order in which they are applied."""
        return (self.kernel,)

    def folded(self, domain):
        """Returns the kernels and the bias that the layer comes to in inference.

        Args:
            domain: A name.

        Returns:
            kernels: One array for each bank of `kernels`, float64, applied one after the other with the strides of the
                layer at the first: (height, width, channels, filters), or of a depthwise one (height, width, channels,
                1). None in place of one that is mixed anew for each image.
            bias: (filters,), float64, added at the end.

        Raises:
            ValueError: if there is no such domain, or nothing of the layer folds.
            NotImplementedError: if the layer has variables that no kernel accounts for, and does not override this.
        """
        if len(self.variables) != sum(len(bank.variables) for bank in self.kernels):
            raise NotImplementedError(
                f"{type(self).__name__} has more variables than its kernels: it must override `folded`, which says "
                "what they come to"
            )
        kernels = tuple(bank.exact(domain) for bank in self.kernels)
        filters = self.compute_output_shape((1, 1, 1, kernels[0].shape[2]))[-1]
        return kernels, np.zeros(filters)

    def __call__(self, inputs, *args, domain, **kwargs):
        if isinstance(domain, SideBySide) and not self.takes_side_by_side:
            raise ValueError(
                f"{type(self).__name__} does not take images side by side; `domain` must be a name or ids, received "
                f"{domain}"
            )
        return super().__call__(inputs, *args, domain=domain, **kwargs)
