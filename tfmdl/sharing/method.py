"""What a sharing method is asked for."""

import abc


class SharingMethod(abc.ABC):
    """Decides which parts of a network the domains share; knows nothing of how the parts are wired.

    A backbone asks it for convolutions and normalisations, each called as `layer(inputs, domain=domain)`. A method may
    add parts to the layers of the plain network; initial values of such parts are without effect.

    Attributes:
        name: The key of `METHODS`.
        default_backbone: A key of `tfmdl.backbones.BACKBONES`: the network of the method's paper.
        additions: Names of the parts that it adds, each domain's own.
        base_has_additions: They are trained with the trunk for the base domain, too. Otherwise a base domain has the
            plain network, and trunks of different methods are alike.
        sets_last_pointwise_apart: The last pointwise kernel is each domain's own unless asked otherwise.

    Args:
        domains: Names of the domains, in the order of their ids.
        share_last_pointwise: The last pointwise kernel is shared like the others; by default it is each domain's own,
            as the authors have it.
        dtype: Keras dtype policy of the layers.

    Raises:
        ValueError: if asked to share the last pointwise kernel by a method that does not treat it otherwise.
    """

    name: str
    default_backbone = "resnet26_separable"
    additions: frozenset[str] = frozenset()
    base_has_additions = False
    sets_last_pointwise_apart = False

    def __init__(self, domains, *, share_last_pointwise=False, dtype="float32"):
        if share_last_pointwise and not self.sets_last_pointwise_apart:
            raise ValueError(
                f"method {self.name} treats the last pointwise kernel like the others: --share_last_pointwise does not "
                "apply to it"
            )
        self.domains = tuple(domains)
        self.share_last_pointwise = share_last_pointwise
        self.dtype = dtype

    @abc.abstractmethod
    def separable_conv(self, filters, *, strides, last, name):
        """Returns a depthwise 3x3 and pointwise 1x1 convolution; `last` marks the network's last one."""

    @abc.abstractmethod
    def conv(self, filters, *, strides, name):
        """Returns a 3x3 convolution."""

    @abc.abstractmethod
    def normalization(self, *, name):
        """Returns a normalisation over (batch, height, width)."""
