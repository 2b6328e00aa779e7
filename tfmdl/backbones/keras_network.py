"""A network that Keras describes, layer by layer for several domains."""

import keras
import numpy as np
from keras import ops

from tfmdl.backbones.backbone import Backbone
from tfmdl.backbones.mixed_batch import MixedBatch
from tfmdl.backbones.wiring import Network, weights_of
from tfmdl.layers import DomainKerasConv2D, DomainLayerNormalization, DomainLayerScale
from tfmdl.layers.side_by_side import mixes

_KINDS_OF_CONVOLUTIONS = ("plain", "depthwise", "pointwise", "dense")
# Wirings that have passed their trial: it takes as long as making the layers, and models of one wiring are made often.
_TRIED = set()


class KerasNetwork(Backbone):
    """Takes the steps of a `Network`: each layer with weights is the method's, all others are as in Keras.

    Convolutions of 1x1 and dense layers are pointwise, whatever they stand for (those of squeeze-and-excitation too).
    Biases, layer normalisations and scales of branches are shared or a domain's own as normalisation is.

    Args:
        method: A `SharingMethod`.
        network: The wiring.

    Raises:
        ValueError: if a layer without weights cannot be made, or nothing in the network is what the method is about.
    """

    convolutions = frozenset({"keras"})
    shares_last_pointwise = True
    scales = False

    def __init__(self, method, network, **kwargs):
        super().__init__(method, **kwargs)
        self.network = network
        self._a_domain = method.domains[0]
        self.total_stride = network.stride
        pointwise = [step.name for step in network.steps if step.kind == "pointwise"]
        self._last_pointwise = pointwise[-1] if pointwise else None
        kinds = {step.kind for step in network.steps}
        if "depthwise" not in kinds and "plain" not in method.convolutions:
            raise ValueError(f"method {method.name} {method.refusal}: {network.name} has no depthwise convolution")
        self.layer_of = {step.name: self._made(method, step) for step in network.steps}

    @classmethod
    def of(cls, method, architecture):
        return cls(method, architecture.network)

    def _made(self, method, step):
        named = {"dtype": method.dtype, "name": step.name}
        if step.kind in _KINDS_OF_CONVOLUTIONS:
            part = "pointwise" if step.kind == "dense" else step.kind
            return DomainKerasConv2D(
                step.kind,
                domains=method.domains,
                shared=method.shares(part, last=step.name == self._last_pointwise),
                share_bias=method.shares("norm"),
                adjustment=method.adjustment(part),
                **step.config,
                **named,
            )
        if step.kind == "batch_norm":
            return method.normalization(name=step.name, epsilon=step.config["epsilon"])
        if step.kind == "layer_norm":
            return DomainLayerNormalization(method.domains, method.shares("norm"), step.config["epsilon"], **named)
        if step.kind == "layer_scale":
            return DomainLayerScale(method.domains, method.shares("norm"), **named)
        return _layer(step, method.dtype)

    def take_weights(self, model):
        """Sets the weights of all domains to those of a Keras model that has this wiring.

        Raises:
            ValueError: if a weight has another shape.
        """
        for step, name, value in weights_of(model):
            for variable in getattr(self.layer_of[step], name).variables:
                variable.assign(value)

    def normalized_convolutions(self):
        return [(self.layer_of[conv], self.layer_of[norm]) for conv, norm in self._pairs()]

    def lone_convolutions(self):
        paired = {conv for conv, _ in self._pairs()}
        return [self.layer_of[name] for name in self._of_kinds(_KINDS_OF_CONVOLUTIONS) if name not in paired]

    def lone_norms(self):
        paired = {norm for _, norm in self._pairs()}
        return [self.layer_of[name] for name in self._of_kinds(("batch_norm",)) if name not in paired]

    def _of_kinds(self, kinds):
        return [step.name for step in self.network.steps if step.kind in kinds]

    def _pairs(self):
        """Yields the names of each convolution that only a normalisation takes, and of this."""
        taken_by = {}
        for step in self.network.steps:
            for name in step.inputs:
                taken_by.setdefault(name, []).append(step)
        for name in self._of_kinds(_KINDS_OF_CONVOLUTIONS):
            takers = taken_by.get(name, [])
            if [step.kind for step in takers] == ["batch_norm"] and name != self.network.output:
                yield name, takers[0].name

    def build(self, input_shape):
        for step in self.network.steps:
            if step.kind != "layer":
                self.layer_of[step.name].build((None, None, None, step.channels))
        # What a file says need not go together. Found in a first call, it would be told by Keras, on many lines.
        if self.network not in _TRIED:
            _Trial(self, self._a_domain).check(keras.KerasTensor((None, None, None, 3), self.compute_dtype))
            _TRIED.add(self.network)

    def call(self, inputs, domain, training=False):
        if mixes(domain):
            values = self._values_of_mixed(MixedBatch(inputs, Network.IMAGE, domain), training)
        else:
            values = {Network.IMAGE: inputs}
            for step in self.network.steps:
                values[step.name] = self.output_of(step, values, domain, training)
        return ops.cast(values[self.network.output], "float32")

    def _values_of_mixed(self, batch, training):
        for step in self.network.steps:
            layer = self.layer_of[step.name]
            laid_out = batch.better_side_by_side(step, layer)
            values = batch.side_by_side if laid_out else batch.apart
            batch.give(step, layer, self.output_of(step, values, values.domain, training), laid_out)
        return batch.apart

    def output_of(self, step, values, domain, training=False):
        """Returns what a step gives of `values`, by name: the image, and what the steps before it have given."""
        args, kwargs = step.called(values)
        if step.kind != "layer":
            kwargs["domain"] = domain
        if step.kind == "batch_norm":
            kwargs["training"] = training
        return self.layer_of[step.name](*args, **kwargs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.network.channels)


class _Trial(keras.Operation):
    """A network that is called for shapes alone, step by step."""

    def __init__(self, backbone, domain):
        super().__init__()
        self._backbone, self._domain = backbone, domain
        self._step = None

    def check(self, image):
        """Raises ValueError if a step does not take what it is given, or the last gives other features than is said."""
        network = self._backbone.network
        try:
            features = self.compute_output_spec(image)
        except Exception as error:  # of whatever class: these are Keras's and TensorFlow's
            told = " ".join(str(error).rpartition("Error encountered:")[2].split())[:300]
            raise ValueError(f"`network` {network.name!r}: its step {self._step}: {told}") from error
        shape = tuple(getattr(features, "shape", ()))
        if shape[1:] != (network.channels,):
            raise ValueError(
                f"`network` {network.name!r} must give {network.channels} features of an image; its step "
                f"{network.output} gives {shape or type(features).__name__}"
            )

    def call(self, image):
        values = {Network.IMAGE: image}
        for step in self._backbone.network.steps:
            self._step = step.name
            values[step.name] = self._backbone.output_of(step, values, self._domain)
        return values[self._backbone.network.output]


def _layer(step, dtype):
    serialized = dict(step.config, config=dict(step.config["config"], name=step.name))
    module, kind = str(serialized["module"]), serialized["class_name"]
    if module.split(".")[0] != "keras" or kind == "Lambda":
        raise ValueError(f"step {step.name} is no layer of Keras, but {module}.{kind}")
    if "dtype" in serialized["config"]:
        # A mean over all positions has more digits than what it is the mean of.
        serialized["config"]["dtype"] = "float32" if kind.startswith("Global") else dtype
    try:
        layer = keras.saving.deserialize_keras_object(serialized)
        if kind == "Normalization":
            # Built by its first call, its mean would be a tensor of the graph that is traced then, and of no other.
            layer.build((None, None, None, len(serialized["config"]["mean"])))
        if kind == "Rescaling":
            _check_numbers(layer.scale, layer.offset)
        return layer
    except Exception as error:  # of whatever class: its config is a file's
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"step {step.name}, a {kind}, cannot be made by Keras {keras.__version__}: {told}") from error


def _check_numbers(*values):
    # Of a text TensorFlow says so when the network is called, not when it is traced.
    for value in values:
        if np.asarray(value).dtype.kind not in "iuf":
            raise ValueError(f"expected numbers; received {value!r:.80}")
