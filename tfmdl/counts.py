"""How many parameters a model has, and whose they are; `python -m tfmdl.params` says what counts as one."""

import dataclasses
import functools
import math
from collections.abc import Collection

from tfmdl.architecture import Architecture
from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Learned parameters of a network, in units of 32 bits.

    Attributes:
        shared: What all domains use.
        own: Convolutions, norm and all else but the classifier that belongs to a domain, by its name.
        classifier: The classifier of a domain, by its name.
    """

    shared: int
    own: dict[str, int]
    classifier: dict[str, int]

    @property
    def convolutions_and_norm(self) -> int:
        """All but the classifiers."""
        return self.shared + sum(self.own.values())

    @property
    def total(self) -> int:
        return self.convolutions_and_norm + sum(self.classifier.values())

    def as_dict(self, plain: int | None = None) -> dict:
        """Returns the counts for JSON; with `plain`, those of a plain ResNet-26, also the multiple of it."""
        domains = {name: {"own": self.own[name], "classifier": self.classifier[name]} for name in self.own}
        counts = {
            "shared": self.shared,
            "domains": domains,
            "convolutions_and_norm": self.convolutions_and_norm,
            "total": self.total,
        }
        if plain is not None:
            counts["multiple_of_resnet26"] = self.convolutions_and_norm / plain
        return counts


def count(model: MultiDomainClassifier, without_additions: Collection[str] = ()) -> ParameterCount:
    """Counts the parameters of `model`, frozen or not, in units of 32 bits.

    Args:
        model: The model.
        without_additions: Names of domains without what the method adds: it is not counted for them.
    """
    shared, own, classifier = 0, dict.fromkeys(model.domains, 0), dict.fromkeys(model.domains, 0)
    for bank in model.banks():
        if not bank.learned:
            continue
        for owner, variable in bank.variable_of.items():
            bits = math.prod(variable.shape) * bank.bits
            slot, _ = slot_and_owner(variable)
            if owner == SHARED or bank.pooled:
                shared += bits
            elif slot.startswith("head/"):
                classifier[owner] += bits
            elif not (owner in without_additions and model.base_lacks(slot)):
                own[owner] += bits

    def parameters(bits):
        return -(-bits // 32)

    return ParameterCount(
        parameters(shared),
        {name: parameters(bits) for name, bits in own.items()},
        {name: parameters(bits) for name, bits in classifier.items()},
    )


def unit(architecture: Architecture) -> int:
    """Returns the convolutions and norm of one network, which multiples are of.

    A network of Keras is its own unit; that of all others is the papers', one plain ResNet-26.
    """
    if architecture.network is None:
        return count_plain_resnet26(architecture.width, architecture.blocks_per_stage)
    alone = architecture.with_method("individual")
    return count(MultiDomainClassifier({"alone": 1}, alone)).convolutions_and_norm


@functools.cache
def count_plain_resnet26(width: int = 64, blocks_per_stage: int = 4) -> int:
    """Returns the convolutions and norm of one plain ResNet-26, the unit of the papers' multiples."""
    architecture = Architecture("individual", "resnet26", width, blocks_per_stage=blocks_per_stage)
    return count(MultiDomainClassifier({"plain": 1}, architecture)).convolutions_and_norm
