"""Backbones: wiring only. A new one is a file here and a line in BACKBONES."""

from tfmdl.backbones.backbone import Backbone
from tfmdl.backbones.resnet26 import PlainResNet26, SeparableResNet26

BACKBONES: dict[str, type[Backbone]] = {"resnet26_separable": SeparableResNet26, "resnet26": PlainResNet26}

__all__ = ["BACKBONES", "Backbone"]
