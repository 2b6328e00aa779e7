"""What a sharing method is asked for."""

import abc

from tfmdl.layers import DomainBatchNormalization, DomainConv2D, DomainSeparableConv2D
from tfmdl.sharing.options import MethodOptions

# Kinds of convolutions that a backbone may ask for: by `separable_conv`, by `conv`, and, for a network of Keras with
# kernels of all kinds, by what it `shares` and its `adjustment`.
CONVOLUTIONS = frozenset({"separable", "plain", "keras"})

# What a network consists of, for `SharingMethod.shares`. Biases and scales of branches are shared as norms are.
PARTS = ("depthwise", "pointwise", "plain", "norm")


class SharingMethod(abc.ABC):
    """Decides which parts of a network the domains share; knows nothing of how the parts are wired.

    A backbone asks it for convolutions and normalisations, each called as `layer(inputs, domain=domain)`. Most methods
    need only say what is shared, by `shares`. A method may add parts to the layers of the plain network; initial values
    of such parts are without effect (those of soft sharing's gates nearly so).

    Attributes:
        name: The key of `METHODS`.
        Options: What it can be asked for: a frozen dataclass, derived from `tfmdl.sharing.options.MethodOptions`.
        convolutions: The kinds of convolutions that it works on, of `CONVOLUTIONS`; it makes no others.
        refusal: Why only on these: what an error says behind the method's name.
        default_backbone: A key of `tfmdl.backbones.BACKBONES`: the network of the method's paper.
        additions: Names of the parts that it adds, each domain's own.
        base_has_additions: They are trained with the trunk for the base domain, too. Otherwise a base domain has the
            plain network, and trunks of different methods are alike.
        side_by_side: Its batches that mix domains are better laid out side by side: what an image has of its own is
            mostly depthwise kernels and normalisation. They are if all layers take it (`takes_side_by_side`).
        experts_by: The method that trained the packs of the experts, whose kernels this one mixes; None if it has none.
        fixed: Ends of the slots that a domain owns or uses but does not train.
        together: The key of `tfmdl.sharing.TOGETHER` by which packs of this method make one model with packs of other
            methods and options that name the same; None if its packs go only with such as are alike.

    Args:
        domains: Names of the domains, in the order of their ids.
        options: Its `Options`; by default their defaults.
        experts: Names of the domains whose kernels are mixed, for a method that has experts.
        dtype: Keras dtype policy of the layers.

    Raises:
        ValueError: if given experts that it has no use for.
    """

    name: str
    Options = MethodOptions
    convolutions = CONVOLUTIONS
    refusal = ""
    default_backbone = "resnet26_separable"
    additions: frozenset[str] = frozenset()
    base_has_additions = False
    side_by_side = False
    experts_by: str | None = None
    fixed: tuple[str, ...] = ()
    together: str | None = None

    def __init__(self, domains, options=None, experts=(), dtype="float32"):
        if experts and not self.experts_by:
            raise ValueError(f"method {self.name} has no experts to mix; received experts={experts}")
        self.domains = tuple(domains)
        self.options = options or self.Options()
        self.experts = tuple(experts)
        self.dtype = dtype

    def of_dtype(self, dtype):
        """Returns the same method, for layers of another dtype."""
        return type(self)(self.domains, self.options, self.experts, dtype)

    @abc.abstractmethod
    def shares(self, part, *, last=False):
        """Returns whether all domains use the same; or the names of those that do.

        Args:
            part: One of `PARTS`.
            last: It is the last pointwise kernel of the network.
        """

    def adjustment(self, part):
        """Returns what a domain does to a shared kernel of such a part, as `DomainKerasConv2D` takes it; or None."""
        return None

    def separable_conv(self, filters, *, strides, number, count, name):
        """Returns a depthwise 3x3 and pointwise 1x1 convolution, the `number`th, from 1, of the network's `count`."""
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_depthwise=self.shares("depthwise"),
            share_pointwise=self.shares("pointwise", last=number == count),
            dtype=self.dtype,
            name=name,
        )

    def conv(self, filters, *, strides, name):
        """Returns a 3x3 convolution."""
        return DomainConv2D(
            filters, self.domains, strides=strides, shared=self.shares("plain"), dtype=self.dtype, name=name
        )

    def normalization(self, *, name, epsilon=1e-5):
        """Returns a normalisation over (batch, height, width)."""
        return DomainBatchNormalization(
            self.domains, shared=self.shares("norm"), epsilon=epsilon, dtype=self.dtype, name=name
        )
