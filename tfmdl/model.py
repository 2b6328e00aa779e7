"""One classifier for many domains: backbone, sharing method and one head per domain."""

import dataclasses

import keras

from tfmdl.backbones import BACKBONES
from tfmdl.domains import SHARED, check_name
from tfmdl.layers import DomainBank, DomainHead
from tfmdl.sharing import METHODS


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a network is made of, but for its domains; part of a run's configuration and of every pack.

    Attributes:
        method: A key of `tfmdl.sharing.METHODS`.
        backbone: A key of `tfmdl.backbones.BACKBONES`; None becomes the one of the method's paper.
        width: Channels after the stem of the separable ResNet-26; everything else is a multiple of it.
        share_last_pointwise: The last pointwise kernel is shared like the others.
        blocks_per_stage: Residual blocks of each stage: 4 make 26 layers, 1 makes 8.

    Raises:
        ValueError: if a value is not one of the known, naming the argument.
    """

    method: str = "pointwise_sharing"
    backbone: str | None = None
    width: int = 64
    share_last_pointwise: bool = False
    blocks_per_stage: int = 4

    def __post_init__(self):
        for argument, table in (("method", METHODS), ("backbone", BACKBONES)):
            if argument == "backbone" and self.backbone is None:
                object.__setattr__(self, "backbone", METHODS[self.method].default_backbone)  # the way of a frozen one
            if getattr(self, argument) not in table:
                raise ValueError(
                    f"`{argument}` must be one of {', '.join(table)}; received {getattr(self, argument)!r}"
                )
        if self.width < 2 or self.width % 2:
            raise ValueError(f"`width` must be even and positive; received width={self.width}")
        if self.blocks_per_stage < 1:
            raise ValueError(
                f"`blocks_per_stage` must be positive; received blocks_per_stage={self.blocks_per_stage}"
            )


class MultiDomainClassifier(keras.Model):
    """Backbone, sharing method and heads of any number of domains.

    Called on {"image": (batch, height, width, 3), "domain": () or (batch,) int32} it is the mixed graph: logits over
    the concatenated label space, the classes of other domains masked. `tower` gives the network of one domain. Both
    use the same variables. A variable's path is its slot ("backbone/stem_conv/depthwise/kernel") and its owner, a
    domain or "shared".

    Args:
        num_classes: Number of classes by name of the domain; the order of the names is the order of the ids.
        architecture: An `Architecture`.
        dtype: Keras dtype policy: float32, mixed_bfloat16 or mixed_float16.

    Raises:
        ValueError: if there is no domain, a name cannot name one, or the method does not work on the backbone.
    """

    def __init__(self, num_classes, architecture=None, dtype="float32", **kwargs):
        super().__init__(**{"dtype": dtype, "name": "multi_domain_classifier", **kwargs})
        for domain in num_classes:
            check_name(domain)
        self.num_classes = dict(num_classes)
        self.architecture = architecture or Architecture()
        self.method = METHODS[self.architecture.method](
            self.domains, share_last_pointwise=self.architecture.share_last_pointwise, dtype=dtype
        )
        self.backbone = BACKBONES[self.architecture.backbone](
            self.method, self.architecture.width, self.architecture.blocks_per_stage
        )
        self.head = DomainHead(num_classes, name="head")
        # Built here, outside any scope of the model's own name: a variable's path begins with "backbone" or "head".
        shape = (None, None, None, 3)
        self.backbone.build(shape)
        self.head.build(self.backbone.compute_output_shape(shape))
        self.built = True

    @property
    def domains(self):
        """Names of the domains in the order of their ids."""
        return tuple(self.num_classes)

    def domain_id(self, domain):
        """Returns the id that stands for `domain` in a batch.

        Raises:
            ValueError: if there is no such domain.
        """
        if domain not in self.num_classes:
            raise ValueError(f"`domain` must be one of {', '.join(self.domains)}; received domain={domain!r}")
        return self.domains.index(domain)

    def features(self, image, domain, training=False):
        """Returns the pooled features, (batch, channels) float32, of images of `domain` (a name or ids)."""
        return self.backbone(image, domain=domain, training=training)

    def call(self, inputs, training=False):
        return self.head(self.features(inputs["image"], inputs["domain"], training), domain=inputs["domain"])

    def tower(self, domain, dropout=0.0):
        """Returns the network of one domain as a Keras model: image (batch, height, width, 3) -> its logits.

        Args:
            domain: Name of the domain.
            dropout: Share of the pooled features that training drops.

        Raises:
            ValueError: if there is no such domain.
        """
        self.domain_id(domain)
        image = keras.Input((None, None, 3), dtype=self.compute_dtype, name="image")
        features = self.backbone(image, domain=domain)
        return self._network(image, self._classify(features, domain, dropout), "tower")

    def mixed(self, dropout=0.0):
        """Returns the mixed graph as a functional Keras model; arguments and result as in `call` and `tower`."""
        image = keras.Input((None, None, 3), dtype=self.compute_dtype, name="image")
        domain = keras.Input((), dtype="int32", name="domain")
        features = self.backbone(image, domain=domain)
        inputs = {"image": image, "domain": domain}
        return self._network(inputs, self._classify(features, domain, dropout), "mixed")

    def _classify(self, features, domain, dropout):
        if dropout:
            features = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(features)
        return self.head(features, domain=domain)

    def _network(self, inputs, outputs, name):
        network = keras.Model(inputs, outputs, name=name)
        network.dtype_policy = self.dtype_policy  # by it `compile` decides whether to scale the loss
        return network

    def train_only(self, domains=(), shared=False):
        """Freezes all variables but those of `domains` and, if `shared`, the shared ones.

        With `shared`, what is trained is a trunk, and the first of `domains` is its base domain: what a base domain
        lacks by the method stays without effect. Keras reads this when a model is compiled: call it before.

        Raises:
            ValueError: if there is no such domain.
        """
        for domain in domains:
            self.domain_id(domain)
        owners = {*domains, *((SHARED,) if shared else ())}
        for bank in self.banks():
            if bank.learned:
                for owner, variable in bank.variable_of.items():
                    base = shared and owner == next(iter(domains), None)
                    variable.trainable = owner in owners and not (base and self.base_lacks(slot_and_owner(variable)[0]))

    def is_addition(self, slot):
        """Returns whether the method adds this slot ("backbone/stem_conv/adapter/kernel") to the plain network."""
        return not self.method.additions.isdisjoint(slot.split("/"))

    def base_lacks(self, slot):
        """Returns whether a base domain does without this slot, which then has its initial value: no effect."""
        return self.is_addition(slot) and not self.method.base_has_additions

    def banks(self):
        """Returns the banks that hold all variables of the model."""
        return [layer for layer in self._flatten_layers(include_self=False) if isinstance(layer, DomainBank)]

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "architecture": dataclasses.asdict(self.architecture),
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(config["num_classes"], Architecture(**config["architecture"]), config["dtype"])


def slot_and_owner(variable):
    """Returns a variable's slot in the network ("backbone/stem_norm/gamma") and its owner: a domain or "shared"."""
    slot, _, owner = variable.path.rpartition("/")
    return slot, owner
