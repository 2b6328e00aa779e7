"""Keras layers whose variables belong to domains. Each takes the domain as a name or as int32 ids."""

from tfmdl.layers.affine import DomainAffine
from tfmdl.layers.controlled_conv import DomainControlledConv2D
from tfmdl.layers.conv import DomainConv2D
from tfmdl.layers.depthwise_conv import DomainDepthwiseConv2D
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.domain_mask import DomainMask
from tfmdl.layers.head import DomainHead
from tfmdl.layers.keras_conv import DomainKerasConv2D
from tfmdl.layers.layer_normalization import DomainLayerNormalization
from tfmdl.layers.layer_scale import DomainLayerScale
from tfmdl.layers.low_rank_conv import DomainLowRankConv2D
from tfmdl.layers.low_rank_separable_conv import DomainLowRankSeparableConv2D
from tfmdl.layers.low_rank_update import DomainLowRankUpdate
from tfmdl.layers.masked_conv import DomainMaskedConv2D
from tfmdl.layers.masked_separable_conv import DomainMaskedSeparableConv2D
from tfmdl.layers.normalization import DomainBatchNormalization
from tfmdl.layers.pointwise_conv import DomainPointwiseConv2D
from tfmdl.layers.residual_adapter import DomainAdaptedConv2D
from tfmdl.layers.separable_conv import DomainSeparableConv2D
from tfmdl.layers.soft_sharing import DomainSoftDepthwiseConv2D

__all__ = [
    "DomainAdaptedConv2D",
    "DomainAffine",
    "DomainBank",
    "DomainBatchNormalization",
    "DomainControlledConv2D",
    "DomainConv2D",
    "DomainDepthwiseConv2D",
    "DomainHead",
    "DomainKerasConv2D",
    "DomainLayerNormalization",
    "DomainLayerScale",
    "DomainLowRankConv2D",
    "DomainLowRankSeparableConv2D",
    "DomainLowRankUpdate",
    "DomainMask",
    "DomainMaskedConv2D",
    "DomainMaskedSeparableConv2D",
    "DomainPointwiseConv2D",
    "DomainSeparableConv2D",
    "DomainSoftDepthwiseConv2D",
]
