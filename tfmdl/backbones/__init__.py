"""Backbones: wiring only. A new one is a file here and a line in BACKBONES."""

from tfmdl.backbones.backbone import Backbone
from tfmdl.backbones.keras_network import KerasNetwork
from tfmdl.backbones.resnet26 import PlainResNet26, SeparableResNet26
from tfmdl.backbones.wiring import Network, weights_of

BACKBONES: dict[str, type[Backbone]] = {
    "resnet26_separable": SeparableResNet26,
    "resnet26": PlainResNet26,
    "keras": KerasNetwork,
}

__all__ = ["BACKBONES", "Backbone", "KerasNetwork", "Network", "weights_of"]
