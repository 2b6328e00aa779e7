"""What packs ask for whose method mixes the kernels of several domains, the experts.

Such a pack holds none of these kernels: it names the other packs by fingerprint. Its gates are for the experts of its
run. A model may have more of them, and domains beside it that have no gates: `with_gates_for_all` says what holds then.
"""

import dataclasses

import numpy as np

from tfmdl.architecture import Architecture
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs.format import Expert, Pack, Trunk, read_pack, read_packs
from tfmdl.packs.variables import slots
from tfmdl.sharing import METHODS

_SHUT = -1e4  # bias of a gate for an expert that is not to be mixed in: in float32 its softmax is exactly zero


def architecture_of_experts(architecture: Architecture) -> Architecture:
    """Returns the architecture of the packs whose kernels a run of `architecture` mixes."""
    return architecture.with_method(METHODS[architecture.method].experts_by)


def read_expert_packs(paths: list[str], trunk: Trunk, architecture: Architecture, domain: str) -> list[Pack]:
    """Reads the packs whose kernels a run of `architecture` is to mix for `domain`, by the names of their domains.

    Raises:
        FileNotFoundError, ValueError: as `read_packs`, and if a pack cannot be an expert or the domain has none.
    """
    wanted = architecture_of_experts(architecture)
    pack_of = {}
    for pack in (pack for path in paths for pack in read_packs(path)):
        if pack.domain in pack_of:
            raise ValueError(f"--packs: two packs of {pack.domain!r}: {pack_of[pack.domain].path} and {pack.path}")
        if pack.domain == trunk.base_domain:
            raise ValueError(f"--packs: {pack.path} is of the base domain, whose kernels come with the trunk")
        if pack.architecture != wanted:
            raise ValueError(f"--packs: {pack.path} has {pack.architecture}; wanted is {wanted}")
        pack.check_trunk(trunk)
        pack_of[pack.domain] = pack
    if domain not in pack_of:
        raise ValueError(
            f"--packs must have a pack of --domain={domain} itself, trained by --method={wanted.method}; "
            f"received packs of {', '.join(sorted(pack_of)) or 'no domain'}"
        )
    return [pack_of[name] for name in sorted(pack_of)]


def find_experts(trunk: Trunk, packs: list[Pack], given: list[Pack]) -> dict[str, Pack]:
    """Returns the packs of all experts of a model but the base domain, by the names of their domains.

    These are the packs that the mixing ones of `packs` name, and those of the other domains of the model.

    Args:
        trunk: Of the model.
        packs: Of the model.
        given: Packs of experts that may not be where they were.

    Raises:
        FileNotFoundError, ValueError: as `compose`.
    """
    mixing = [pack for pack in packs if pack.experts]
    if not mixing:
        return {}
    first = mixing[0]
    for other in mixing[1:]:
        _check_same_experts(first, other)
    expert_of = {expert.domain: _find_pack(expert, first, [*given, *packs]) for expert in first.experts}
    for pack in packs:
        if not pack.experts and pack.domain != trunk.base_domain:
            expert = expert_of.setdefault(pack.domain, pack)
            if expert.fingerprint != pack.fingerprint:
                raise ValueError(
                    f"pack {pack.path} of {pack.domain!r} has fingerprint {pack.fingerprint[:12]}; {first.path} "
                    f"mixes the kernels of one with {expert.fingerprint[:12]}"
                )
    return expert_of


def with_gates_for_all(pack: Pack, model: MultiDomainClassifier) -> Pack:
    """Returns the pack of one of the domains of `model` with gates for all of its experts.

    The gates are shut for experts that the pack does not know. A pack without gates is given such as are open for the
    domain itself and for nobody else.
    """
    tensors = dict(pack.tensors)
    for slot, owner, bank in slots(model):
        if owner != pack.domain or not model.is_addition(slot):
            continue
        # The biases, one per expert, decide alone: all else of what is added is zero.
        is_bias, shape = slot.endswith("/bias"), bank.stored_shape(owner)
        fill = _SHUT if is_bias else 0.0
        if slot in tensors:
            tensors[slot] = _widened(tensors[slot], shape, fill)
        elif not pack.experts:  # otherwise it lacks a slot, and is refused when it is restored
            tensors[slot] = np.full(shape, fill, "float32")
            if is_bias:
                tensors[slot][model.method.experts.index(pack.domain)] = 0.0
    return dataclasses.replace(pack, tensors=tensors)


def _widened(values, shape, fill):
    """Returns values of `shape`: along the last axis, that of the experts, `fill` stands for those that are missing."""
    fits = values.ndim == len(shape) and values.shape[:-1] == shape[:-1] and values.shape[-1] <= shape[-1]
    if not fits:
        return values  # is refused when it is restored
    missing = shape[-1] - values.shape[-1]
    return np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, missing)], constant_values=fill)


def _check_same_experts(first, other):
    ours, theirs = ({expert.domain: expert for expert in pack.experts} for pack in (first, other))
    for domain in sorted(ours.keys() | theirs.keys()):
        found = [one[domain].fingerprint[:12] if domain in one else "none" for one in (ours, theirs)]
        if found[0] != found[1]:
            raise ValueError(
                f"packs of one model mix the same experts; of {domain!r}, {first.path} has {found[0]}, "
                f"{other.path} has {found[1]}"
            )


def _find_pack(expert: Expert, mixing: Pack, given: list[Pack]) -> Pack:
    """Returns the pack of an expert that the pack `mixing` names: one of those `given`, or the one where it was."""
    for pack in given:
        if pack.fingerprint == expert.fingerprint:
            return pack
    what = f"pack {mixing.path} mixes the kernels of the pack of {expert.domain!r} with fingerprint "
    what += expert.fingerprint[:12]
    ask = "--expert_packs says where such packs are"
    found = next((pack for pack in given if pack.domain == expert.domain and not pack.experts), None)
    if not found:
        try:
            found = read_pack(expert.path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{what}, which is not at {expert.path} any more; {ask}") from error
    if found.fingerprint != expert.fingerprint:
        raise ValueError(f"{what}; {found.path} has {found.fingerprint[:12]}; {ask}")
    return found
