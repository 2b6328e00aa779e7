"""The network of an export: in the dtype that is served, with its normalisation folded where that was asked for."""

from tfmdl.backbones import BACKBONES
from tfmdl.domains import SHARED
from tfmdl.layers import DomainAffine, DomainBank, DomainConv2D, DomainHead, DomainSeparableConv2D
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.model import MultiDomainClassifier, copy_variables, slot_and_owner
from tfmdl.sharing.method import SharingMethod

PRECISIONS = ("float32", "bfloat16")


class FoldedClassifier:
    """What a model computes in inference, with less to compute.

    The normalisations of several domains become a scale and an offset per domain. A network of one domain becomes one
    of convolutions with an offset: scales go into the kernels, and so does whatever the sharing method adds (masks,
    adapters, controllers): each layer says to what. Only a normalisation that follows no convolution keeps its scale.

    Args:
        model: A `MultiDomainClassifier`, float32.
        dtype: Of the convolutions.

    Raises:
        TypeError: if a model of one domain has a convolution that does not say what it folds to.
    """

    def __init__(self, model: MultiDomainClassifier, dtype: str = "float32"):
        self.domains = model.domains
        self.num_classes = model.num_classes
        self.budgets = model.budgets
        self.domain_id = model.domain_id
        architecture = model.architecture
        alone = len(model.domains) == 1
        method = (_Alone if alone else _Several)(model, dtype)
        self.backbone = BACKBONES[architecture.backbone].of(method, architecture)
        self.head = DomainHead(model.num_classes, name="head")
        shape = (None, None, None, 3)
        self.backbone.build(shape)
        self.backbone.trainable = False
        self.head.build(self.backbone.compute_output_shape(shape))
        copy_variables(model.head.variables, self.head.variables)
        # What does not fold stays: gates and the kernels that they mix, biases, normalisation of another kind.
        value_of = {variable.path: variable.value for variable in model.backbone.variables}
        for variable in self.backbone.variables:
            slot, _ = slot_and_owner(variable)
            value = value_of.get(variable.path, value_of.get(f"{slot}/{SHARED}"))
            if value is not None:
                variable.assign(value)
        theirs, ours = (backbone.normalized_convolutions() for backbone in (model.backbone, self.backbone))
        for (conv, norm), (folded_conv, affine) in zip(theirs, ours, strict=True):
            if alone:
                _fold_alone(conv, norm, folded_conv, affine, model.domains[0])
            else:
                _fold_norm(norm, affine)
        if alone:
            lone = (backbone.lone_convolutions() for backbone in (model.backbone, self.backbone))
            for conv, folded_conv in zip(*lone, strict=True):
                _fold_conv(conv, folded_conv, model.domains[0])
        for norm, affine in zip(model.backbone.lone_norms(), self.backbone.lone_norms(), strict=True):
            _fold_norm(norm, affine)

    @property
    def variables(self):
        return [*self.backbone.variables, *self.head.variables]

    def banks(self):
        """Returns the banks that hold all variables."""
        layers = (*self.backbone._flatten_layers(), *self.head._flatten_layers())
        return [layer for layer in layers if isinstance(layer, DomainBank)]

    def features(self, image, domain):
        """Returns the pooled features, (batch, channels) float32, of images of `domain` (a name or ids)."""
        return self.backbone(image, domain=domain, training=False)


class _Several(SharingMethod):
    """The model's own method, with a scale and an offset in place of each normalisation."""

    def __init__(self, model, dtype):
        self.domains, self.dtype = model.domains, dtype
        self.method = model.method.of_dtype(dtype)
        self.side_by_side = self.method.side_by_side

    def shares(self, part, *, last=False):
        return self.method.shares(part, last=last)

    def adjustment(self, part):
        return self.method.adjustment(part)

    def separable_conv(self, filters, *, strides, number, count, name):
        return self.method.separable_conv(filters, strides=strides, number=number, count=count, name=name)

    def conv(self, filters, *, strides, name):
        return self.method.conv(filters, strides=strides, name=name)

    def normalization(self, *, name, epsilon=None):
        return DomainAffine(self.domains, dtype=self.dtype, name=name)


class _Alone(SharingMethod):
    """Nothing shared, and nothing added but gates: convolutions of one domain, most with an offset."""

    def __init__(self, model, dtype):
        self.domains, self.dtype = model.domains, dtype
        convolutions = [conv for conv, _ in model.backbone.normalized_convolutions()]
        for conv in (*convolutions, *model.backbone.lone_convolutions()):
            if not isinstance(conv, DomainConvolution):
                raise TypeError(f"{type(conv).__name__} cannot be folded: it is no {DomainConvolution.__name__}")
        self.experts = iter([conv.experts for conv in convolutions])  # of the one that comes next
        self.scaled = {norm.name for norm in model.backbone.lone_norms()}

    def shares(self, part, *, last=False):
        return False

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_pointwise=False,
            experts=next(self.experts),
            dtype=self.dtype,
            name=name,
        )

    def conv(self, filters, *, strides, name):
        next(self.experts)
        return DomainConv2D(filters, self.domains, strides=strides, shared=False, dtype=self.dtype, name=name)

    def normalization(self, *, name, epsilon=None):
        return DomainAffine(self.domains, scales=name in self.scaled, dtype=self.dtype, name=name)


def _fold_norm(norm, affine):
    for domain in norm.domains:
        scale, offset = norm.scale_and_offset(domain)
        affine.scale.variable(domain).assign(scale)
        affine.offset.variable(domain).assign(offset)


def _fold_conv(conv, folded_conv, domain):
    """Sets kernels and bias to what a convolution comes to by itself, for one domain."""
    kernels, bias = conv.folded(domain)
    for bank, kernel in zip(folded_conv.kernels, kernels, strict=True):
        bank.variable(domain).assign(kernel)
    if folded_conv.bias is not None:
        folded_conv.bias.variable(domain).assign(bias)


def _fold_alone(conv, norm, folded_conv, affine, domain):
    """Sets the kernels and the offset to what a convolution and the norm behind it come to, for one domain."""
    scale, offset = norm.scale_and_offset(domain)
    (*first, last), bias = conv.folded(domain)
    depthwise = last.shape[-1] != scale.size
    scaled = last * (scale[:, None] if depthwise else scale)
    for bank, kernel in zip(folded_conv.kernels, (*first, scaled), strict=True):
        if kernel is not None:
            bank.variable(domain).assign(kernel)
        else:
            assert conv.experts  # their kernels and the gates are there already
    affine.offset.variable(domain).assign(offset + bias * scale)
