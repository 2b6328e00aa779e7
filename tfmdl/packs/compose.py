"""From a trunk and domain packs to a model."""

import pathlib

import numpy as np

from tfmdl.architecture import own_budgets
from tfmdl.config import load_config
from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs.experts import architecture_of_experts, find_experts, with_gates_for_all
from tfmdl.packs.format import TRUNK_FILE, Pack, Trunk, read_packs, read_trunk
from tfmdl.packs.variables import slots
from tfmdl.sharing import METHODS, TOGETHER


def initialize(model: MultiDomainClassifier, trunk: Trunk, packs: list[Pack] = ()) -> None:
    """Sets every variable of `model` but the heads to the trunk's: what a new domain starts from.

    What the method adds to the network stays as it is where the trunk has none of it. A domain of `packs` starts
    from what its pack has instead, its head included.

    Raises:
        ValueError: if trunk and model differ in backbone or width, or in a variable.
    """
    _check_fits(trunk, model.architecture)
    pack_of = {pack.domain: pack for pack in packs}
    for slot, owner, bank in slots(model):
        pack = pack_of.get(owner)
        added = model.is_addition(slot) and slot not in trunk.tensors
        if pack and slot in pack.tensors:
            _restore(bank, owner, slot, pack)
        elif not slot.startswith("head/") and not added:
            _restore(bank, owner, slot, trunk)
    _check_trunk_is_used(model, trunk)


def compose(
    trunk: Trunk, packs: list[Pack], dtype: str = "float32", expert_packs: list[Pack] = ()
) -> MultiDomainClassifier:
    """Returns one model of the trunk and the packs' domains, in the packs' order.

    Args:
        trunk: The trunk.
        packs: One per domain. Packs that mix experts may stand beside packs of the method that trained these, and
            packs of methods that go together beside each other: each domain then has what its own pack has.
        dtype: Keras dtype policy of the model.
        expert_packs: Packs that `packs` mix the kernels of; those not given are read from where they were.

    Raises:
        FileNotFoundError: if an expert's pack is neither given nor where it was.
        ValueError: if a pack was trained on another trunk, two packs are of one domain, their methods do not go
            together, their experts differ, or an expert's pack is another than the one that was used.
    """
    if not packs:
        raise ValueError("a model needs at least one domain pack; received none")
    path_of = {}
    for pack in packs:
        if pack.domain in path_of:
            raise ValueError(f"two packs of domain {pack.domain!r}: {path_of[pack.domain]} and {pack.path}")
        path_of[pack.domain] = pack.path
        pack.check_trunk(trunk)
    architecture, budgets = _architectures(trunk, packs)
    mixes = METHODS[architecture.method].experts_by is not None
    expert_of = find_experts(trunk, packs, expert_packs) if mixes else {}
    experts = (trunk.base_domain, *expert_of) if mixes else ()
    num_classes = {pack.domain: len(pack.label_names) for pack in packs}
    model = MultiDomainClassifier(num_classes, architecture, dtype, experts, budgets)
    pack_of = {pack.domain: with_gates_for_all(pack, model) if mixes else pack for pack in packs}
    for slot, owner, bank in slots(model):
        pack = (expert_of if bank.pooled else pack_of).get(owner)
        if pack and slot in pack.tensors:
            _restore(bank, owner, slot, pack)
        elif owner != trunk.base_domain and model.is_addition(slot):
            raise ValueError(f"{pack.path}: lacks {slot}, which the model needs")
        elif slot in trunk.tensors or not model.is_addition(slot):
            _restore(bank, owner, slot, trunk)
    _check_trunk_is_used(model, trunk)
    _check_packs_are_used(model, trunk, packs)
    return model


def load_model(
    workdirs: list[str] | None = None,
    trunk: str | None = None,
    pack_paths: list[str] | None = None,
    dtype: str = "float32",
    expert_paths: list[str] | None = None,
) -> tuple[MultiDomainClassifier, list[Pack]]:
    """Returns the model of finished runs, or of a trunk and packs, and the packs in the order of its domains.

    Args:
        workdirs: Runs of train.py; a run that added a domain names the run of its trunk in its config.json.
        trunk: Instead: a run or file with the trunk.
        pack_paths: With `trunk`: runs or pack files.
        dtype: Keras dtype policy of the model.
        expert_paths: Runs or pack files of experts that are no longer where they were.

    Raises:
        FileNotFoundError, ValueError: as `read_trunk`, `read_packs` and `compose`.
    """
    trunk, packs, expert_packs = read_parts(workdirs, trunk, pack_paths, expert_paths)
    return compose(trunk, packs, dtype, expert_packs), packs


def read_parts(
    workdirs: list[str] | None = None,
    trunk: str | None = None,
    pack_paths: list[str] | None = None,
    expert_paths: list[str] | None = None,
) -> tuple[Trunk, list[Pack], list[Pack]]:
    """Returns trunk, packs and given packs of experts; arguments and errors as `load_model`, which composes them."""
    if bool(workdirs) == bool(trunk) or (workdirs and pack_paths):
        raise ValueError("give either --workdir, or --trunk and --packs")
    if workdirs:
        pack_paths = workdirs
        holds_trunk = pathlib.Path(workdirs[0], TRUNK_FILE).exists()
        trunk = workdirs[0] if holds_trunk else load_config(workdirs[0]).init_from or workdirs[0]
    elif not pack_paths:
        raise ValueError("--trunk wants the domains' --packs")
    packs, expert_packs = (
        [pack for path in paths or () for pack in read_packs(path)] for paths in (pack_paths, expert_paths)
    )
    return read_trunk(trunk), packs, expert_packs


def domains_without_additions(model: MultiDomainClassifier, packs: list[Pack]) -> list[str]:
    """Returns the domains whose packs have nothing that the method adds: a base domain, or those without gates."""
    return [pack.domain for pack in packs if not any(model.is_addition(slot) for slot in pack.tensors)]


def _architectures(trunk, packs):
    """Returns the architecture of the added domains and, where they differ, the one of each by its name.

    The base domain's own pack fits any method on its trunk. Beside packs that mix experts, packs of the method that
    trained these fit, too.
    """
    added = [pack for pack in packs if pack.domain != trunk.base_domain] or packs
    first = next((pack for pack in added if pack.experts), added[0])
    fitting = [first.architecture]
    if first.experts:
        fitting.append(architecture_of_experts(first.architecture))
    for pack in added:
        _check_fits(trunk, pack.architecture)
        if pack.architecture not in fitting and not _go_together(first, pack):
            groups = " or all ".join(", ".join(_methods_of(key)) for key in TOGETHER)
            raise ValueError(
                f"packs of one model are of one method and its options, or all of {groups}; "
                f"{first.path} has {first.architecture.method_and_options}, "
                f"{pack.path} has {pack.architecture.method_and_options}"
            )
    if first.experts:
        return first.architecture, {}
    return first.architecture, own_budgets({pack.domain: pack.architecture for pack in added})


def _go_together(*packs):
    keys = {METHODS[pack.architecture.method].together for pack in packs}
    return len(keys) == 1 and None not in keys


def _methods_of(key):
    return [name for name, method in METHODS.items() if method.together == key]


def _check_fits(trunk, architecture):
    for argument in ("backbone", "width", "blocks_per_stage", "network"):
        theirs, ours = getattr(trunk.architecture, argument), getattr(architecture, argument)
        if theirs != ours:
            raise ValueError(f"--{argument}: the trunk {trunk.path} has {theirs!r}; received {ours!r}")


def _check_trunk_is_used(model, trunk):
    unused = trunk.tensors.keys() - {slot_and_owner(variable)[0] for variable in model.variables}
    if unused:
        raise ValueError(
            f"trunk {trunk.path} has {min(unused)}, which method {model.architecture.method} has no use for; "
            f"it was trained by method {trunk.architecture.method}"
        )


def _check_packs_are_used(model, trunk, packs):
    """A pack may hold what the model shares (the base domain's own kernels, say), if it equals the trunk's."""
    present = {variable.path for variable in model.variables}
    for pack in packs:
        for slot, value in pack.tensors.items():
            if f"{slot}/{pack.domain}" in present:
                continue
            if f"{slot}/{SHARED}" not in present or not np.array_equal(value, trunk.tensors[slot]):
                raise ValueError(
                    f"pack {pack.path} has its own {slot}, which method {model.architecture_of(pack.domain).method} "
                    "shares"
                )


def _restore(bank, owner, slot, part):
    """Sets a variable to what `part`, a trunk or a pack, has in its slot."""
    if slot not in part.tensors:
        raise ValueError(f"{part.path}: lacks {slot}, which the model needs")
    found, wanted = tuple(part.tensors[slot].shape), bank.stored_shape(owner)
    if found != wanted:
        raise ValueError(f"{part.path}: {slot} has shape {found}, the model needs {wanted}")
    bank.restore(owner, part.tensors[slot])
