"""How the layers of a Keras network are wired, as plain data: what a file says of a network."""

import dataclasses
import functools
import json
import math
import re
import reprlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfmdl.typed import check_types, checked_fields

# Layers with weights, by class: the kinds of the steps that they become, and where the weights of each step are.
_OF_CONVOLUTION = {"kernel": "kernel", "bias": "bias"}
_WEIGHTED = {
    "Conv2D": {"plain": _OF_CONVOLUTION},
    "DepthwiseConv2D": {"depthwise": _OF_CONVOLUTION},
    "SeparableConv2D": {
        "depthwise": {"kernel": "depthwise_kernel"},
        "pointwise": {"kernel": "pointwise_kernel", "bias": "bias"},
    },
    "Dense": {"dense": _OF_CONVOLUTION},
    "BatchNormalization": {
        "batch_norm": {name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    },
    "LayerNormalization": {"layer_norm": {"gamma": "gamma", "beta": "beta"}},
    "LayerScale": {"layer_scale": {"gamma": "gamma"}},
}

# What is read of the configuration of such a layer; the rest says how it is trained, or must be as in `_MUST_BE`.
_READ = ("filters", "units", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "epsilon")
_MUST_BE = {"groups": 1, "depth_multiplier": 1, "data_format": "channels_last", "rms_scaling": False}

_CONVOLUTIONS = ("plain", "depthwise", "pointwise", "dense")
_KINDS = (*_CONVOLUTIONS, "batch_norm", "layer_norm", "layer_scale", "layer")
_MAX_WEIGHTS = 1 << 28  # of a layer, 1 GiB; the largest of VGG16 has 0.4 of that

# What only training has: here recipes decide on such things, not networks.
_ONLY_IN_TRAINING = re.compile(r"\w*Dropout\w*|StochasticDepth|GaussianNoise|Random\w+|ActivityRegularization")


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of one layer.

    Attributes:
        name: Of the layer; if it has weights, in the paths of its variables.
        kind: "plain", "depthwise", "pointwise", "dense", "batch_norm", "layer_norm", "layer_scale"; or "layer": one
            without weights.
        config: What the layer is asked for; a "layer" as Keras serialises it.
        channels: Of the input of a layer with weights.
        args, kwargs: What it is called with; {"step": name} stands for what that step, or the image, has given.
    """

    name: str
    kind: str
    config: dict[str, Any]
    channels: int | None
    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def inputs(self) -> list[str]:
        """The names of the steps that it is given."""
        found = []
        _replaced([self.args, self.kwargs], found.append)
        return found

    def called(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Returns args and kwargs with values in place of the names of steps."""
        return _replaced(self.args, values.__getitem__), _replaced(self.kwargs, values.__getitem__)


@dataclasses.dataclass(frozen=True)
class _Layer:
    """`Step.config` of a layer without weights."""

    module: str
    class_name: str
    registered_name: str | None
    config: dict[str, Any]

    def __post_init__(self):
        check_types(self)


@dataclasses.dataclass(frozen=True)
class _Scale:
    """`Step.config` of a layer that scales channels."""


@dataclasses.dataclass(frozen=True)
class _Normalization:
    """`Step.config` of a normalisation."""

    epsilon: float

    def __post_init__(self):
        check_types(self)
        if self.epsilon < 0:
            raise ValueError(f"`epsilon` must not be negative; received {self.epsilon}")


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """`Step.config` of a convolution or a dense layer."""

    filters: int
    use_bias: bool
    kernel_size: list[int] = dataclasses.field(default_factory=lambda: [1, 1])
    strides: list[int] = dataclasses.field(default_factory=lambda: [1, 1])
    dilation_rate: list[int] = dataclasses.field(default_factory=lambda: [1, 1])
    padding: str = "same"

    def __post_init__(self):
        check_types(self)
        for name in ("kernel_size", "strides", "dilation_rate"):
            sides = getattr(self, name)
            if len(sides) != 2 or not all(0 < side < 1 << 16 for side in sides):
                raise ValueError(f"`{name}` must be two numbers in 1..65535; received {reprlib.repr(sides)}")
        if self.padding not in ("same", "valid"):
            raise ValueError(f"`padding` must be same or valid; received {self.padding!r:.80}")

    def check(self, kind, channels):
        depthwise = kind == "depthwise"
        weights = math.prod(self.kernel_size) * channels * (1 if depthwise else self.filters)
        if not 0 < weights <= _MAX_WEIGHTS or (depthwise and self.filters != channels):
            raise ValueError(
                f"`filters` of a {kind} layer of {channels} channels, kernels {self.kernel_size}, must give 1 to "
                f"{_MAX_WEIGHTS} weights; received {self.filters}"
            )


_CONFIGS = {"layer": _Layer, "layer_scale": _Scale, "batch_norm": _Normalization, "layer_norm": _Normalization}


@dataclasses.dataclass(frozen=True)
class Network:
    """Wiring from an image to its features, without weights.

    Attributes:
        name: What the network is called.
        text: The rest, as JSON: `steps` in the order in which they are taken, the name of the `output` step, how many
            `channels` that has, and the `stride` by which height and width shrink on the way.

    Raises:
        ValueError: if this is no network.
    """

    IMAGE = "image"  # stands for the input among the names of steps

    name: str
    text: str

    def __post_init__(self):
        check_types(self)
        try:
            known = {self.IMAGE}
            for step in self.steps:
                if step.name in known or not known.issuperset(step.inputs):
                    raise ValueError(f"its step {step.name}")
                known.add(step.name)
            if self.output not in known:
                raise ValueError("its output")
            for name in ("channels", "stride"):
                if type(self._content[name]) is not int or not 0 < self._content[name] <= _MAX_WEIGHTS:
                    raise ValueError(f"its {name}")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"`network` {self.name!r:.80} is not wired as a network: {error}") from error

    @functools.cached_property
    def _content(self):
        return json.loads(self.text)

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(map(_step, self._content["steps"]))

    @property
    def output(self) -> str:
        return self._content["output"]

    @property
    def channels(self) -> int:
        return self._content["channels"]

    @property
    def stride(self) -> int:
        return self._content["stride"]

    def __repr__(self):
        return f"Network({self.name!r}, {len(self.steps)} steps)"

    def to_json(self) -> dict:
        return {"name": self.name, **self._content}

    @classmethod
    def from_json(cls, fields: dict) -> "Network":
        content = checked_fields(fields)
        return cls(content.pop("name"), json.dumps(content, sort_keys=True, separators=(",", ":")))

    @classmethod
    def of(cls, model: keras.Model) -> "Network":
        """Returns the wiring of a Keras network: image (batch, height, width, 3) -> features (batch, channels).

        Models inside of it are opened. What only training has (dropout, augmentation) is left out.

        Raises:
            ValueError: if it is not functional or sequential, has several inputs or outputs, gives no features, or has
                a layer with weights that is not known, naming it.
        """
        reader = _Reader()
        output = reader.read(model, cls.IMAGE)
        shapes = model.inputs[0].shape, model.outputs[0].shape
        if len(shapes[0]) != 4 or shapes[0][-1] != 3 or len(shapes[1]) != 2:
            raise ValueError(
                f"{model.name}: must give features, (batch, channels), of images, (batch, height, width, 3); "
                f"gives {shapes[1]} of {shapes[0]}"
            )
        steps = [dataclasses.asdict(step) for step in reader.steps]
        return cls.from_json(
            {"name": model.name, "steps": steps, "output": output, "channels": shapes[1][-1], "stride": reader.stride()}
        )


def _step(fields):
    """Returns what a file says of a step; raises ValueError where a field is not what a layer can be asked for."""
    try:
        step = Step(**fields)
        check_types(step)
        if step.kind not in _KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(_KINDS)}; received {step.kind!r:.80}")
        if step.kind != "layer" and (step.channels is None or not 0 < step.channels <= _MAX_WEIGHTS):
            raise ValueError(f"`channels` must be in 1..{_MAX_WEIGHTS}; received {step.channels}")
        if step.kind in _CONVOLUTIONS:
            _Convolution(**step.config).check(step.kind, step.channels)
        else:
            _CONFIGS[step.kind](**step.config)
    except (TypeError, ValueError) as error:
        name = fields.get("name") if isinstance(fields, dict) else fields
        raise ValueError(f"its step {reprlib.repr(name)}: {error}") from error
    return step


def weights_of(model: keras.Model) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields the weights of a Keras network, each with the name of its step in `Network.of` and its own."""
    reader = _Reader()
    reader.read(model, Network.IMAGE)
    kinds = {step.name: step.kind for step in reader.steps}
    for step, (layer, attributes) in reader.sources.items():
        for name, attribute in attributes.items():
            value = getattr(layer, attribute, None)
            if value is not None:  # a normalisation may lack scale or offset, a convolution its bias
                value = keras.ops.convert_to_numpy(value)
                as_groups = kinds[step] == "depthwise" and name == "kernel" and value.shape[2] == 1
                yield step, name, value.swapaxes(2, 3) if as_groups else value


class _Reader:
    """Takes models apart into steps; `sources` says, by step, which layer has its weights and under which names."""

    def __init__(self):
        self.steps = []
        self.sources = {}

    def read(self, model, image):
        """Adds the steps of a model that is given what the step `image` gives, and returns the name of its last."""
        inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
        if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"{model.name}: must be a functional or sequential model with one input and one output")
        config = keras.Model(inputs, outputs, name=model.name).get_config()
        given = {}  # by layer, the steps that give what its calls gave
        for entry in config["layers"]:
            given[entry["name"]] = [image] if entry["class_name"] == "InputLayer" else []
            for call, node in enumerate(entry["inbound_nodes"]):
                given[entry["name"]].append(self._add(model, entry, call, node, given))
        (name, call, _), *_ = _flat(config["output_layers"])
        return _of_call(given[name], call)

    def stride(self):
        """Returns by how much height and width shrink up to the smallest map."""
        stride_of = {Network.IMAGE: 1}
        for step in self.steps:
            config = step.config["config"] if step.kind == "layer" else step.config
            own = config.get("strides") or 1
            own = max(own) if isinstance(own, list | tuple) else own
            stride_of[step.name] = own * max((stride_of[name] for name in step.inputs), default=1)
        return max(stride_of.values())

    def _add(self, model, entry, call, node, given):
        tensors = []

        def step_of(tensor):
            tensors.append(tensor["shape"])
            name, number, _ = tensor["keras_history"]
            return {"step": _of_call(given[name], number)}

        args, kwargs = (_with_steps(node[part], step_of) for part in ("args", "kwargs"))
        kind, config = entry["class_name"], entry["config"]
        if _ONLY_IN_TRAINING.fullmatch(kind):
            return args[0]["step"]
        layer = next((layer for layer in model.layers if layer.name == entry["name"]), None)
        if isinstance(layer, keras.Model):
            return self.read(layer, args[0]["step"])
        name = self._free_name(entry["name"] if not call else f"{entry['name']}_{call + 1}", model)
        if kind == "Normalization":
            numbers = {each: np.ravel(getattr(layer, each)).tolist() for each in ("mean", "variance")}
            config = {**config, **numbers}
        elif layer is not None and layer.weights:
            if kind not in _WEIGHTED or call:
                why = "is used more than once" if call else f"is a {kind}, whose weights are not known"
                raise ValueError(f"{model.name}: its layer {entry['name']} {why}")
            return self._add_weighted(model, layer, config, name, args, tensors[0][-1])
        self.steps.append(Step(name, "layer", _serialized(entry, config, model), None, args, kwargs))
        return name

    def _add_weighted(self, model, layer, config, name, args, channels):
        kinds = _WEIGHTED[type(layer).__name__]
        if "plain" in kinds and config["groups"] == channels == config["filters"]:
            kinds, config = {"depthwise": _OF_CONVOLUTION}, {**config, "groups": 1}
        for setting, value in _MUST_BE.items():
            if config.get(setting, value) != value:
                raise ValueError(f"{model.name}: `{setting}` of its layer {layer.name} must be {value}")
        last_axis = len(layer.input.shape) - 1
        if any(axis not in (-1, last_axis) for axis in np.ravel(config.get("axis", -1))):
            raise ValueError(f"{model.name}: its layer {layer.name} must normalise by its last axis")
        read = {setting: config[setting] for setting in _READ if setting in config}
        read["filters"] = read.pop("units", read.get("filters"))
        for kind, attributes in kinds.items():
            asked = dict(read)
            if kind == "depthwise":
                asked["filters"] = channels
                asked["use_bias"] = "bias" in attributes and config["use_bias"]
            elif "depthwise" in kinds:  # the second half of a separable one
                asked.update(kernel_size=(1, 1), strides=(1, 1), dilation_rate=(1, 1))
            if kind == "plain" and tuple(asked["kernel_size"]) == (1, 1):
                kind = "pointwise"
            own = f"{name}_{kind}" if len(kinds) > 1 else name
            asked = {setting: value for setting, value in asked.items() if value is not None}
            self.steps.append(Step(own, kind, asked, channels, args, {}))
            self.sources[own] = layer, attributes
            args = [{"step": own}]
        activation = config.get("activation", "linear")
        if activation in (None, "linear"):
            return own
        entry = {"module": "keras.layers", "class_name": "Activation"}
        serialized = _serialized(entry, {"activation": activation, "dtype": None}, model)
        self.steps.append(Step(f"{name}_activation", "layer", serialized, None, args, {}))
        return f"{name}_activation"

    def _free_name(self, name, model):
        taken = {step.name for step in self.steps} | {Network.IMAGE}
        return f"{model.name}_{name}" if name in taken else name


def _serialized(entry, config, model):
    """Returns a layer without weights as Keras reads it again, but for its dtype; null stands for that."""
    module = entry.get("module") or ""
    if entry["class_name"] == "Lambda" or module.split(".")[0] != "keras":
        raise ValueError(f"{model.name}: {entry['class_name']} is no layer of Keras that a file could describe")
    config = {name: value for name, value in config.items() if name not in ("trainable", "name")}
    if "dtype" in config:
        config["dtype"] = None
    return {
        "module": module,
        "class_name": entry["class_name"],
        "registered_name": entry.get("registered_name"),
        "config": config,
    }


def _of_call(steps, call):
    """Returns the step of a layer's call; Keras does not always count the calls of a model from 0."""
    return steps[0] if len(steps) == 1 else steps[call]


def _flat(layers):
    """Returns [name, call, tensor] of each of the outputs, which Keras writes as one such or as a list of them."""
    return [layers] if isinstance(layers[0], str) else layers


def _with_steps(value, step_of):
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return step_of(value["config"])
        return {name: _with_steps(each, step_of) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_steps(each, step_of) for each in value]
    return value


def _replaced(value, by_name):
    if isinstance(value, dict):
        if value.keys() == {"step"}:
            return by_name(value["step"])
        return {name: _replaced(each, by_name) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, by_name) for each in value]
    return value
