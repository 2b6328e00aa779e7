"""The network of an export: in the dtype that is served, with its normalisation folded where that was asked for."""

from tfmdl.backbones import BACKBONES
from tfmdl.layers import DomainAffine, DomainConv2D, DomainHead, DomainSeparableConv2D
from tfmdl.layers.convolution import DomainConvolution
from tfmdl.model import MultiDomainClassifier, copy_variables
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
        self.domain_id = model.domain_id
        architecture = model.architecture
        alone = len(model.domains) == 1
        method = (_Alone if alone else _Several)(model, dtype)
        self.backbone = BACKBONES[architecture.backbone](method, architecture.width, architecture.blocks_per_stage)
        self.head = DomainHead(model.num_classes, name="head")
        shape = (None, None, None, 3)
        self.backbone.build(shape)
        self.backbone.trainable = False
        self.head.build(self.backbone.compute_output_shape(shape))
        copy_variables(model.head.variables, self.head.variables)
        # What does not fold stays: of one domain at most the gates, and the kernels that they mix.
        there = {variable.path for variable in model.backbone.variables}
        copy_variables(model.backbone.variables, [each for each in self.backbone.variables if each.path in there])
        theirs, ours = (backbone.normalized_convolutions() for backbone in (model.backbone, self.backbone))
        for (conv, norm), (folded_conv, affine) in zip(theirs, ours, strict=True):
            if alone:
                _fold_alone(conv, norm, folded_conv, affine, model.domains[0])
            else:
                _fold_norm(norm, affine)
        for norm, affine in zip(model.backbone.lone_norms(), self.backbone.lone_norms(), strict=True):
            _fold_norm(norm, affine)

    @property
    def variables(self):
        return [*self.backbone.variables, *self.head.variables]

    def features(self, image, domain):
        """Returns the pooled features, (batch, channels) float32, of images of `domain` (a name or ids)."""
        return self.backbone(image, domain=domain, training=False)


class _Several(SharingMethod):
    """The model's own method, with a scale and an offset in place of each normalisation."""

    def __init__(self, model, dtype):
        self.domains, self.dtype = model.domains, dtype
        self.method = model.method.of_dtype(dtype)
        self.side_by_side = self.method.side_by_side

    def separable_conv(self, filters, *, strides, number, count, name):
        return self.method.separable_conv(filters, strides=strides, number=number, count=count, name=name)

    def conv(self, filters, *, strides, name):
        return self.method.conv(filters, strides=strides, name=name)

    def normalization(self, *, name):
        return DomainAffine(self.domains, dtype=self.dtype, name=name)


class _Alone(SharingMethod):
    """Nothing shared, and nothing added but gates: convolutions of one domain, each with an offset."""

    def __init__(self, model, dtype):
        self.domains, self.dtype = model.domains, dtype
        convolutions = [conv for conv, _ in model.backbone.normalized_convolutions()]
        for conv in convolutions:
            if not isinstance(conv, DomainConvolution):
                raise TypeError(f"{type(conv).__name__} cannot be folded: it is no {DomainConvolution.__name__}")
        self.experts = iter([conv.experts for conv in convolutions])  # of the one that comes next
        self.scaled = {norm.name for norm in model.backbone.lone_norms()}

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

    def normalization(self, *, name):
        return DomainAffine(self.domains, scales=name in self.scaled, dtype=self.dtype, name=name)


def _fold_norm(norm, affine):
    for domain in norm.domains:
        scale, offset = norm.scale_and_offset(domain)
        affine.scale.variable(domain).assign(scale)
        affine.offset.variable(domain).assign(offset)


def _fold_alone(conv, norm, folded_conv, affine, domain):
    """Sets the kernels and the offset to what a convolution and the norm behind it come to, for one domain."""
    scale, offset = norm.scale_and_offset(domain)
    (*first, last), bias = conv.folded(domain)
    for bank, kernel in zip(folded_conv.kernels, (*first, last * scale), strict=True):
        if kernel is not None:
            bank.variable(domain).assign(kernel)
        else:
            assert conv.experts  # their kernels and the gates are there already
    affine.offset.variable(domain).assign(offset + bias * scale)
