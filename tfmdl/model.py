"""One classifier for many domains: backbone, sharing method and one head per domain."""

import keras

from tfmdl.architecture import Architecture
from tfmdl.backbones import BACKBONES
from tfmdl.domains import SHARED, check_name
from tfmdl.layers import DomainBank, DomainBatchNormalization, DomainHead
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.sharing import METHODS, TOGETHER


class MultiDomainClassifier(keras.Model):
    """Backbone, sharing method and heads of any number of domains.

    Called on {"image": (batch, height, width, 3), "domain": () or (batch,) int32} it is the mixed graph: logits over
    the concatenated label space, the classes of other domains masked. `tower` gives the network of one domain,
    `extractor` and `classifier` its two halves. All use the same variables. A variable's path is its slot
    ("backbone/stem_conv/depthwise/kernel") and its owner, a domain or "shared".

    Args:
        num_classes: Number of classes by name of the domain; the order of the names is the order of the ids.
        architecture: An `Architecture`; of domains that differ in method or options, that of one of them.
        dtype: Keras dtype policy: float32, mixed_bfloat16 or mixed_float16.
        experts: For a method that mixes the kernels of several domains, the names of these; by default the domains.
        budgets: Where domains differ in method or options, the `Architecture` of each by its name. A domain that is
            missing then uses the shared network as it is. Methods are such as go together.

    Raises:
        ValueError: if there is no domain, a name cannot name one, the method does not work on the backbone, or methods
            do not go together.
    """

    def __init__(self, num_classes, architecture=None, dtype="float32", experts=(), budgets=None, **kwargs):
        super().__init__(**{"dtype": dtype, "name": "multi_domain_classifier", **kwargs})
        for domain in num_classes:
            check_name(domain)
        self.num_classes = dict(num_classes)
        self.architecture = architecture or Architecture()
        self.budgets = dict(budgets or {})
        if self.budgets:
            self.method = _together(self.domains, self.budgets, dtype)
        else:
            self.method = METHODS[self.architecture.method](self.domains, self.architecture.options, experts, dtype)
        check_convolutions(self.method, self.architecture.backbone)
        self.backbone = BACKBONES[self.architecture.backbone].of(self.method, self.architecture)
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

    @property
    def num_features(self):
        """Channels of the pooled features."""
        return self.backbone.compute_output_shape((None, None, None, 3))[-1]

    def architecture_of(self, domain):
        """Returns the `Architecture` that a domain was trained with, or has the shared network of."""
        return self.budgets.get(domain, self.architecture)

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

    def tower(self, domain, dropout=0.0, gates=False):
        """Returns the network of one domain as a Keras model: image (batch, height, width, 3) -> its logits.

        Args:
            domain: Name of the domain.
            dropout: Share of the pooled features that training drops.
            gates: Where there are layers that mix experts, give (logits, gates) instead, the gates (batch, layers,
                experts) in the order of `gated_layers`.

        Raises:
            ValueError: if there is no such domain.
        """
        self.domain_id(domain)
        image = self._image()
        return self._network(image, image, domain, dropout, gates, "tower")

    def extractor(self, domain):
        """Returns the first half of a `tower`: image (batch, height, width, 3) -> pooled features (batch, channels).

        Raises:
            ValueError: if there is no such domain.
        """
        self.domain_id(domain)
        image = self._image()
        return keras.Model(image, self.backbone(image, domain=domain), name="extractor")

    def classifier(self, domain, dropout=0.0):
        """Returns the second half of a `tower`, with its dropout: pooled features (batch, channels) -> logits.

        Raises:
            ValueError: if there is no such domain.
        """
        features = keras.Input((self.num_features,), dtype="float32", name="features")
        return keras.Model(features, self._logits(features, domain, dropout), name="classifier")

    def mixed(self, dropout=0.0, gates=False):
        """Returns the mixed graph as a functional Keras model; arguments and result as in `call` and `tower`."""
        image = self._image()
        domain = keras.Input((), dtype="int32", name="domain")
        return self._network({"image": image, "domain": domain}, image, domain, dropout, gates, "mixed")

    def _network(self, inputs, image, domain, dropout, gates, name):
        gated = list(self.gated_layers().values()) if gates else []
        if gated:
            features, seen = _Observed(self.backbone, gated, name="observed")(image, domain=domain)
        else:
            features = self.backbone(image, domain=domain)
        logits = self._logits(features, domain, dropout)
        network = keras.Model(inputs, (logits, seen) if gated else logits, name=name)
        network.dtype_policy = self.dtype_policy  # `compile` decides by this whether to scale the loss
        return network

    def _image(self):
        return keras.Input((None, None, 3), dtype=self.compute_dtype, name="image")

    def _logits(self, features, domain, dropout):
        if dropout:
            features = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(features)
        return self.head(features, domain=domain)

    def train_only(self, domains=(), shared=False, keeps_statistics=False):
        """Freezes all variables but those of `domains` and, if `shared`, the shared ones.

        With `keeps_statistics`, the moving statistics of batch normalisation stay as they are, and are what training
        normalises by.

        With `shared`, what is trained is a trunk, and the first of `domains` is its base domain: what the method does
        not add to a base domain stays without effect. What the method fixes stays frozen. Keras reads this when a model
        is compiled: call it before.

        Raises:
            ValueError: if there is no such domain.
        """
        for domain in domains:
            self.domain_id(domain)
        owners = {*domains, *((SHARED,) if shared else ())}
        for bank in self.banks():
            if bank.learned:
                for owner, variable in bank.variable_of.items():
                    slot, _ = slot_and_owner(variable)
                    base = shared and owner == next(iter(domains), None)
                    still = self.is_fixed(slot) or (base and self.base_lacks(slot))
                    variable.trainable = owner in owners and not still
        for layer in self._flatten_layers():
            if isinstance(layer, DomainBatchNormalization):
                layer.keeps_statistics = keeps_statistics

    def synchronize(self):
        """Lets batch normalisation see the whole of a batch that several devices share; call it before compiling."""
        for layer in self._flatten_layers():
            if isinstance(layer, DomainBatchNormalization):
                layer.synchronized = True

    def is_addition(self, slot):
        """Returns whether the method adds this slot ("backbone/stem_conv/adapter/kernel") to the plain network."""
        return not self.method.additions.isdisjoint(slot.split("/"))

    def base_lacks(self, slot):
        """Returns whether a base domain does without this slot, which then has its initial value: no effect."""
        return self.is_addition(slot) and not self.method.base_has_additions

    def is_fixed(self, slot):
        """Returns whether the method leaves this slot as it was before: no training moves it."""
        return slot.endswith(self.method.fixed)

    def gated_layers(self):
        """Returns the layers that mix experts in the order of the network, by their names ("stage1_block1/conv1").

        A part of a convolution has the name of the whole.
        """
        return {
            self.backbone.name_of(conv): layer
            for conv, _ in self.backbone.normalized_convolutions()
            for layer in conv._flatten_layers()
            if isinstance(layer, DomainConvolution) and layer.gives_gates
        }

    def named_gates(self, gates):
        """Returns gates, (layers, experts) numbers, as {layer: {expert: gate}}; without any layers, nothing."""
        experts = self.method.experts
        return {
            layer: dict(zip(experts, row, strict=True))
            for layer, row in zip(self.gated_layers(), [] if gates is None else gates.tolist(), strict=True)
        }

    def banks(self):
        """Returns the banks that hold all variables of the model."""
        return [layer for layer in self._flatten_layers(include_self=False) if isinstance(layer, DomainBank)]

    def of_dtype(self, dtype):
        """Returns a copy with convolutions of another dtype policy, in which kernels are stored unless it is mixed."""
        copy = self.from_config({**self.get_config(), "dtype": dtype})
        copy_variables(self.variables, copy.variables)
        return copy

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "architecture": self.architecture.to_json(),
            "dtype": self.dtype_policy.name,
            "experts": self.method.experts,
            "budgets": {domain: architecture.to_json() for domain, architecture in self.budgets.items()},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        architecture = Architecture.from_json(config["architecture"])
        budgets = {domain: Architecture.from_json(fields) for domain, fields in config["budgets"].items()}
        return cls(config["num_classes"], architecture, config["dtype"], config["experts"], budgets)


class _Observed(keras.layers.Layer):
    """A backbone, with the gates of its layers on the way: gives its features and (batch, layers, experts)."""

    def __init__(self, backbone, gated, **kwargs):
        super().__init__(dtype=backbone.dtype_policy, **kwargs)
        self.backbone = backbone
        self.gated = gated
        self.built = True  # it has no variables of its own

    def call(self, inputs, domain, training=False):
        seen = []
        for layer in self.gated:
            layer.observer = seen.append
        try:
            features = self.backbone(inputs, domain=domain, training=training)
        finally:
            for layer in self.gated:
                layer.observer = None
        return features, keras.ops.stack(seen, axis=1)


def _together(domains, budgets, dtype):
    """Returns the method that makes the layers of domains of several methods."""
    names = sorted({architecture.method for architecture in budgets.values()})
    keys = {METHODS[name].together for name in names}
    if len(keys) > 1 or None in keys:
        raise ValueError(f"`budgets` must be of methods that go together; received {', '.join(names)}")
    methods = {
        domain: METHODS[architecture.method]((domain,), architecture.options)
        for domain, architecture in budgets.items()
    }
    return TOGETHER[keys.pop()](domains, methods, dtype)


def check_convolutions(method, backbone):
    """Checks that a `SharingMethod` makes the convolutions of a backbone, a key of `BACKBONES`.

    Raises:
        ValueError: if it does not, with its reason and the backbones that fit.
    """
    fitting = [name for name, each in BACKBONES.items() if each.convolutions <= method.convolutions]
    if backbone not in fitting:
        use = " or ".join(f"--backbone={name}" for name in fitting if BACKBONES[name].scales)
        raise ValueError(f"method {method.name} {method.refusal}: use {use}")


def copy_variables(source, target):
    """Sets each variable of `target` to the one of `source` of its path."""
    value_of = {variable.path: variable.value for variable in source}
    for variable in target:
        variable.assign(value_of[variable.path])


def slot_and_owner(variable):
    """Returns a variable's slot in the network ("backbone/stem_norm/gamma") and its owner: a domain or "shared"."""
    slot, _, owner = variable.path.rpartition("/")
    return slot, owner
