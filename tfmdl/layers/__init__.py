"""Keras layers whose variables belong to domains. Each takes the domain as a name or as int32 ids."""

from tfmdl.layers.conv import DomainConv2D
from tfmdl.layers.depthwise_conv import DomainDepthwiseConv2D
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.head import DomainHead
from tfmdl.layers.normalization import DomainBatchNormalization
from tfmdl.layers.pointwise_conv import DomainPointwiseConv2D
from tfmdl.layers.separable_conv import DomainSeparableConv2D

__all__ = [
    "DomainBank",
    "DomainBatchNormalization",
    "DomainConv2D",
    "DomainDepthwiseConv2D",
    "DomainHead",
    "DomainPointwiseConv2D",
    "DomainSeparableConv2D",
]
