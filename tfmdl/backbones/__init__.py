"""Backbones: wiring only. A new one is a file here and a line in BACKBONES."""

from tfmdl.backbones.resnet26 import resnet26, resnet26_separable

BACKBONES = {"resnet26_separable": resnet26_separable, "resnet26": resnet26}

__all__ = ["BACKBONES"]
