"""Sharing methods: one file each. A new method is a file here and a line in METHODS."""

import dataclasses

from tfmdl.sharing.classifier_only import ClassifierOnly
from tfmdl.sharing.dan import DeepAdaptation
from tfmdl.sharing.depthwise_sharing import DepthwiseSharing
from tfmdl.sharing.individual import Individual
from tfmdl.sharing.low_rank import LowRank
from tfmdl.sharing.method import SharingMethod
from tfmdl.sharing.options import MethodOptions
from tfmdl.sharing.own_budgets import OwnBudgets
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
        LowRank,
    )
}

# What makes one model of packs of several methods, by what these methods name in `together`.
TOGETHER: dict[str, type[SharingMethod]] = {"own_budgets": OwnBudgets}

# By name, all options of all methods, and which methods have them.
OPTIONS: dict[str, dataclasses.Field] = {
    field.name: field for method in METHODS.values() for field in dataclasses.fields(method.Options)
}


def methods_with(option: str) -> list[str]:
    """Returns the names of the methods that have an option of this name, none if there is no such option."""
    return [
        name
        for name, method in METHODS.items()
        if option in (field.name for field in dataclasses.fields(method.Options))
    ]


def options_of(method: str, values: dict) -> MethodOptions:
    """Returns the options of a method, out of values by name as flags and files have them.

    Options of other methods may be among these, as long as they have their default.

    Raises:
        ValueError: if a value is not one of the option, or the method has no such option.
    """
    own = {}
    for name, value in values.items():
        methods = methods_with(name)
        if method in methods:
            own[name] = value
        elif not methods:
            raise ValueError(f"`{name}` is an option of no method")
        elif value != OPTIONS[name].default:
            raise ValueError(
                f"method {method} has no option --{name}, which is for {', '.join(methods)}; received {value!r}"
            )
    return METHODS[method].Options(**own)


__all__ = ["METHODS", "OPTIONS", "TOGETHER", "MethodOptions", "SharingMethod", "methods_with", "options_of"]
