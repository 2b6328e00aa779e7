"""The outputs of the convolutions of one domain's network."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops
from PIL import Image

from tfmdl.backbones import Backbone
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.layers import DomainBatchNormalization
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.depthwise_conv import depthwise_conv
from tfmdl.model import MultiDomainClassifier

COMPARED = ("depthwise", "pointwise")
KINDS = (*COMPARED, "plain")
CALIBRATED_BY = 128  # images, which the statistics of a network with random weights are of


@dataclasses.dataclass(frozen=True)
class UnitLayer:
    """A layer whose channels are units.

    Attributes:
        name: As in `Backbone.name_of`; of a separable convolution's halves "<name>/depthwise" and "<name>/pointwise".
        kind: One of `KINDS`.
        units: Their number.
        size: Height and width of its maps.
    """

    name: str
    kind: str
    units: int
    size: tuple[int, int]


class Units:
    """The maps of the units of one domain's network.

    A depthwise unit of a separable convolution is a channel between its two halves, where the paper's network has no
    normalisation. What a normalisation follows is seen behind it: only that gives a channel the sign with which the
    network goes on.

    Args:
        model: The model.
        domain: One of its domains.
        size: Height and width of the images.
        names: Of the layers that are wanted; all if it is None.

    Attributes:
        layers: Those that are wanted, in the order of the network.

    Raises:
        ValueError: if there is no such domain or layer, or no layer whose maps have more than one position.
    """

    def __init__(
        self, model: MultiDomainClassifier, domain: str, size: tuple[int, int], names: list[str] | None = None
    ):
        model.domain_id(domain)
        self.model, self.domain, self.size = model, domain, tuple(size)
        image = keras.Input((*size, 3), dtype=model.compute_dtype, name="image")
        outputs = _Watched(model.backbone, domain, name="watched")(image)
        layers = [
            UnitLayer(name, _kind_of(name, model.backbone), output.shape[-1], tuple(output.shape[1:3]))
            for name, output in outputs.items()
            if len(output.shape) == 4 and tuple(output.shape[1:3]) != (1, 1)
        ]
        known = [layer.name for layer in layers]
        for name in names or ():
            if name not in known:
                raise ValueError(f"--layers names {name!r}; the units of {domain!r} are in: {', '.join(known)}")
        self.layers = tuple(layer for layer in layers if names is None or layer.name in names)
        if not self.layers:
            raise ValueError(f"the network of {domain!r} has no layer with units: no map has more than one position")
        wanted = {layer.name: outputs[layer.name] for layer in self.layers}
        self._network = keras.Model(image, wanted, name="units")

    def maps(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the maps of images, float32 (batch, *size, 3): (batch, height, width, units) by name of the layer."""
        return {name: np.asarray(values, "float32") for name, values in self._network.predict_on_batch(images).items()}


def prepared(pixels: np.ndarray, preprocessing: Preprocessing, size: tuple[int, int]) -> np.ndarray:
    """Returns an image as the network wants it: whole, so that it lies on its masks, and normalised.

    Args:
        pixels: uint8 (height, width, 3).
        preprocessing: Whose mean and deviation it takes.
        size: Height and width of the result.

    Returns:
        float32 (*size, 3).
    """
    if pixels.shape[:2] != tuple(size):
        pixels = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    return ((pixels / 255 - preprocessing.mean) / preprocessing.std).astype("float32")


def with_random_weights(
    model: MultiDomainClassifier, domain: str, images: np.ndarray, rng: np.random.Generator
) -> MultiDomainClassifier:
    """Returns a network of the same wiring that has learnt nothing.

    Kernels are normal, of variance 2 by what one output sums up (He et al., ICCV 2015). Batch normalisation has the
    statistics of images, as it would after a few steps that change no weight: otherwise activations would vanish.

    Args:
        model: Whose wiring.
        domain: The domain that is looked at.
        images: Such as the network takes, (images, height, width, 3), of all sorts.
        rng: Of the weights.
    """
    copy = model.from_config(model.get_config())
    for bank in copy.backbone._flatten_layers():
        for variable in getattr(bank, "variable_of", {}).values():
            if bank.name == "kernel":
                *window, channels, filters = variable.shape
                summed = np.prod(window) * (1 if filters == 1 and window != [1, 1] else channels)
                variable.assign(rng.normal(0, np.sqrt(2 / summed), variable.shape))
    norms = [layer for layer in copy.backbone._flatten_layers() if isinstance(layer, DomainBatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the statistics become those of this one batch
    copy.backbone(ops.convert_to_tensor(images), domain=domain, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copy


class _Watched(keras.layers.Layer):
    """A backbone that gives the outputs of its convolutions, by name."""

    def __init__(self, backbone, domain, **kwargs):
        super().__init__(dtype=backbone.dtype_policy, **kwargs)
        self.backbone = backbone
        self.domain = domain
        # What a method does to a kernel is in `folded`: not all methods call the halves of a convolution as layers.
        self.kernel_of = {
            backbone.name_of(conv): conv.folded(domain)[0][0]
            for conv in convolutions(backbone)
            if _is_separable(conv) and not conv.experts
        }
        self.built = True  # it has no variables of its own

    def call(self, inputs):
        seen = {}

        def see(name):
            return lambda _, outputs: seen.update({name: outputs})

        def see_between(name, conv):
            return lambda inputs, _: seen.update({f"{name}/depthwise": self._between_halves(name, conv, inputs)})

        norm_of = {id(conv): norm for conv, norm in self.backbone.normalized_convolutions()}
        with contextlib.ExitStack() as stack:
            for conv in convolutions(self.backbone):
                name, last = self.backbone.name_of(conv), norm_of.get(id(conv), conv)
                if _is_separable(conv):
                    stack.enter_context(_watch(conv, see_between(name, conv)))
                    name = f"{name}/pointwise"
                stack.enter_context(_watch(last, see(name)))
            self.backbone(inputs, domain=self.domain)
        return {name: ops.cast(output, "float32") for name, output in seen.items()}

    def _between_halves(self, name, conv, inputs):
        if name not in self.kernel_of:  # mixed anew for each image
            return conv.depthwise(inputs, domain=self.domain)
        return depthwise_conv(inputs, ops.convert_to_tensor(self.kernel_of[name], self.compute_dtype), conv.strides)


def convolutions(backbone: Backbone) -> list[DomainConvolution]:
    """Returns the convolutions of a backbone in the order of the network."""
    paired = [conv for conv, _ in backbone.normalized_convolutions()]
    return [*paired, *backbone.lone_convolutions()]


def kinds_of(conv: DomainConvolution) -> tuple[str, ...]:
    """Returns the kind of each kernel of a convolution, one of `KINDS`."""
    if _is_separable(conv):
        return COMPARED
    kind = getattr(conv, "kind", "plain")
    return ("pointwise" if kind == "dense" else kind,)


def _is_separable(conv):
    return len(conv.kernels) == 2


def _kind_of(name, backbone):
    for conv in convolutions(backbone):
        own = backbone.name_of(conv)
        if name == own:
            return kinds_of(conv)[0]
        if name.startswith(f"{own}/"):
            return name.rpartition("/")[2]
    raise ValueError(f"no convolution {name!r}")


@contextlib.contextmanager
def _watch(layer: keras.layers.Layer, tell: Callable) -> Iterator[None]:
    """Tells of each call of a layer, while the context lasts, its input and output."""
    call = layer.call

    def watched(inputs, *args, **kwargs):
        outputs = call(inputs, *args, **kwargs)
        tell(inputs, outputs)
        return outputs

    layer.call = watched
    try:
        yield
    finally:
        del layer.call
