"""The network of an export: in the dtype that is served, with its normalisation folded where that was asked for."""

import keras
import numpy as np

from tfmdl.backbones import BACKBONES
from tfmdl.layers import (
    DomainAdaptedConv2D,
    DomainAffine,
    DomainControlledConv2D,
    DomainConv2D,
    DomainHead,
    DomainMaskedConv2D,
    DomainMaskedSeparableConv2D,
    DomainSeparableConv2D,
)
from tfmdl.model import MultiDomainClassifier
from tfmdl.sharing.method import SharingMethod

PRECISIONS = ("float32", "bfloat16")


def of_dtype(model: MultiDomainClassifier, dtype: str) -> MultiDomainClassifier:
    """Returns the model with its convolutions in another dtype: their kernels are stored and applied in it."""
    copy = MultiDomainClassifier(model.num_classes, model.architecture, dtype, model.method.experts)
    _copy_variables(model.variables, copy.variables)
    return copy


class FoldedClassifier:
    """What a model computes in inference, with less to compute.

    The normalisations of several domains become a scale and an offset per domain. A network of one domain becomes one
    of convolutions with an offset: scales go into the kernels, and so does whatever the sharing method adds (masks,
    adapters, controllers). Only the last normalisation, which follows on an addition, keeps its scale.

    Args:
        model: A `MultiDomainClassifier`, float32.
        dtype: Of the convolutions.
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
        _copy_variables(model.head.variables, self.head.variables)
        if not alone:
            kept = {variable.path for variable in model.backbone.variables}
            _copy_variables(
                model.backbone.variables, [each for each in self.backbone.variables if each.path in kept], some=True
            )
        theirs, ours = (backbone.normalized_convolutions() for backbone in (model.backbone, self.backbone))
        for (conv, norm), (folded_conv, affine) in zip(theirs, ours, strict=True):
            if alone:
                _fold_alone(conv, norm, folded_conv, affine, model.domains[0])
            else:
                _fold_norm(norm, affine)
        _fold_norm(model.backbone.final_norm, self.backbone.final_norm)

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
        self.folded = [conv for conv, _ in model.backbone.normalized_convolutions()]

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_pointwise=False,
            experts=self.folded[number - 1].experts,
            dtype=self.dtype,
            name=name,
        )

    def conv(self, filters, *, strides, name):
        return DomainConv2D(filters, self.domains, strides=strides, shared=False, dtype=self.dtype, name=name)

    def normalization(self, *, name):
        return DomainAffine(self.domains, scales=name == "final_norm", dtype=self.dtype, name=name)


def _fold_norm(norm, affine):
    for domain in norm.domains:
        scale, offset = _scale_and_offset(norm, domain)
        affine.scale.variable(domain).assign(scale)
        affine.offset.variable(domain).assign(offset)


def _fold_alone(conv, norm, folded_conv, affine, domain):
    scale, offset = _scale_and_offset(norm, domain)
    if isinstance(conv, DomainSeparableConv2D):
        pointwise = conv.pointwise.kernel.select(domain)
        if isinstance(conv, DomainMaskedSeparableConv2D):
            pointwise = pointwise * conv.pointwise_mask.select(domain)
        if conv.experts:  # which each image mixes anew
            _copy_variables(conv.depthwise.variables, folded_conv.depthwise.variables)
        else:
            depthwise = conv.depthwise.kernel.select(domain)
            if isinstance(conv, DomainMaskedSeparableConv2D):
                depthwise = depthwise * conv.depthwise_mask.select(domain)
            folded_conv.depthwise.kernel.variable(domain).assign(_exact(depthwise))
        folded_conv.pointwise.kernel.variable(domain).assign(_exact(pointwise) * scale)
        affine.offset.variable(domain).assign(offset)
        return
    kernel, bias = _plain_kernel(conv, domain)
    folded_conv.kernel.variable(domain).assign(kernel * scale)
    affine.offset.variable(domain).assign(offset + bias * scale)


def _plain_kernel(conv, domain):
    """Returns the one kernel, and the bias, that a convolution comes to for a domain: all methods' are linear."""
    kernel = _exact(conv.kernel.select(domain))
    if isinstance(conv, DomainMaskedConv2D):
        return kernel * _exact(conv.mask.select(domain)), 0.0
    if isinstance(conv, DomainControlledConv2D):
        return kernel @ _exact(conv.controller.select(domain)), 0.0
    if isinstance(conv, DomainAdaptedConv2D):
        adapter = _exact(conv.adapter.kernel.select(domain))[0, 0]
        if conv.parallel:
            centre = conv.kernel_size // 2
            kernel[centre, centre] += adapter
            return kernel, 0.0
        scale, offset = _scale_and_offset(conv.adapter_norm, domain)
        return kernel @ (np.eye(conv.filters) + scale[:, None] * adapter), offset @ adapter
    return kernel, 0.0


def _scale_and_offset(norm, domain):
    gamma, beta, mean, variance = (
        _exact(bank.select(domain)) for bank in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def _exact(value):
    return np.array(keras.ops.convert_to_numpy(value), "float64")


def _copy_variables(source, target, some=False):
    value_of = {variable.path: variable.value for variable in source}
    assert some or len(source) == len(target)
    for variable in target:
        variable.assign(value_of[variable.path])
