"""The variables of a model as files hold them: by slot and owner."""

from collections.abc import Iterator

import numpy as np

from tfmdl.layers import DomainBank
from tfmdl.model import MultiDomainClassifier, slot_and_owner


def slots(model: MultiDomainClassifier) -> Iterator[tuple[str, str, DomainBank]]:
    """Yields slot, owner and bank of each variable: files hold what banks make of them."""
    for bank in model.banks():
        for owner, variable in bank.variable_of.items():
            yield slot_and_owner(variable)[0], owner, bank


def values_of(model: MultiDomainClassifier, owner: str, *, is_base: bool = False) -> dict[str, np.ndarray]:
    """Returns the stored values of all that one owner has in a model, by slot.

    Args:
        model: The model.
        owner: A domain, of which the result is what its pack holds, or "shared".
        is_base: The owner is a base domain, trained with the trunk: what such a domain lacks is left out.
    """
    values = {}
    for bank in model.banks():
        # What is pooled serves all domains: another pack, or the trunk, holds it.
        if owner in bank.variable_of and not bank.pooled:
            slot, _ = slot_and_owner(bank.variable_of[owner])
            if not (is_base and model.base_lacks(slot)):
                values[slot] = bank.stored(owner)
    return values
