"""Sharing methods: one file each. A new method is a file here and a line in METHODS."""

from tfmdl.sharing.classifier_only import ClassifierOnly
from tfmdl.sharing.dan import DeepAdaptation
from tfmdl.sharing.depthwise_sharing import DepthwiseSharing
from tfmdl.sharing.individual import Individual
from tfmdl.sharing.method import SharingMethod
from tfmdl.sharing.parallel_adapters import ParallelAdapters
from tfmdl.sharing.piggyback import Piggyback
from tfmdl.sharing.pointwise_sharing import PointwiseSharing
from tfmdl.sharing.serial_adapters import SerialAdapters
from tfmdl.sharing.soft_sharing import SoftSharing

METHODS: dict[str, type[SharingMethod]] = {
    method.name: method
    for method in (
        PointwiseSharing,
        ClassifierOnly,
        Individual,
        DepthwiseSharing,
        SoftSharing,
        SerialAdapters,
        ParallelAdapters,
        Piggyback,
        DeepAdaptation,
    )
}

__all__ = ["METHODS", "SharingMethod"]
