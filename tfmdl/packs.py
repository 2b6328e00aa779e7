"""Trunks and domain packs: what a finished run leaves, and how models are put together from them.

A trunk holds the whole network of the base domain but its head, by slot ("backbone/stem_conv/depthwise/kernel"). A
pack holds the slots that one domain owns, its head included, and its label space. A domain's value of a slot is the
pack's where the pack has it, the trunk's otherwise: so packs of any method compose on the trunk that they were
trained on. What a method adds to the network may be missing in a trunk: a new domain's begins, and the base domain's
stays, at its initial value, which is without effect. Both are safetensors files; what they mean is JSON in their
header.

Where a method mixes the kernels of several domains, the experts, a pack holds none of them: it names the other packs
by fingerprint. A domain without gates is given such as let its own kernels through, and nothing else.
"""

import dataclasses
import os
import pathlib
import re
import reprlib

import numpy as np

import tfmdl
from tfmdl.config import load_config
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.domains import SHARED, check_name
from tfmdl.files import fingerprint, read_tensors, write_tensors
from tfmdl.model import Architecture, MultiDomainClassifier, slot_and_owner
from tfmdl.sharing import METHODS
from tfmdl.typed import check_types, naming_file

TRUNK_FILE = "trunk.safetensors"
PACKS_DIR = "packs"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SHUT = -1e4  # bias of a gate for an expert that is not to be mixed in: in float32 its softmax is exactly zero


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The network of the base domain, without its head.

    Attributes:
        path: The file.
        base_domain: The domain whose values it holds.
        architecture: Of the run that trained it.
        tensors: Values by slot.
        fingerprint: SHA-256 of `tensors`.

    Raises:
        ValueError: if a field is of another type or cannot be true, or a number is not finite, naming it.
    """

    path: str
    base_domain: str
    architecture: Architecture
    tensors: dict[str, np.ndarray]
    fingerprint: str

    def __post_init__(self):
        with naming_file(self.path):
            check_types(self)
            check_name(self.base_domain)
            _check_fingerprint("fingerprint", self.fingerprint)
            _check_values(self.tensors)


@dataclasses.dataclass(frozen=True)
class Expert:
    """What a pack says of another pack whose depthwise kernels it mixes.

    Attributes:
        domain: Name of the other pack's domain.
        fingerprint: Of the other pack.
        path: Where that was when it was used.

    Raises:
        ValueError: if a field is of another type or cannot be true.
    """

    domain: str
    fingerprint: str
    path: str

    def __post_init__(self):
        check_types(self)
        check_name(self.domain)
        _check_fingerprint("fingerprint", self.fingerprint)


@dataclasses.dataclass(frozen=True)
class Pack:
    """One domain's own variables and label space.

    Attributes:
        path: The file.
        domain: Name of the domain.
        label_names, category_ids: As in its dataset_info.json.
        architecture: Of the run that trained it.
        preprocessing: How its images become inputs.
        trunk_fingerprint: Of the trunk that it was trained on.
        accuracy: On val, in 0..1, or None where there was no val split.
        tensors: Values by slot.
        experts: The packs whose kernels it mixes with those of the trunk, by the names of their domains.

    Raises:
        ValueError: if a field is of another type or cannot be true, or a number is not finite, naming it.
    """

    path: str
    domain: str
    label_names: list[str]
    category_ids: list[int]
    architecture: Architecture
    preprocessing: Preprocessing
    trunk_fingerprint: str
    accuracy: float | None
    tensors: dict[str, np.ndarray]
    experts: tuple[Expert, ...] = ()

    def __post_init__(self):
        with naming_file(self.path):
            check_types(self)
            check_name(self.domain)
            _check_fingerprint("trunk_fingerprint", self.trunk_fingerprint)
            classes, bias = len(self.label_names), self.tensors.get("head/bias")
            if bias is not None and bias.shape != (classes,):
                raise ValueError(f"`label_names` must be {bias.size}, one a class of the head; received {classes}")
            if len(self.category_ids) != classes or len(set(self.category_ids)) != classes:
                received = reprlib.repr(self.category_ids)
                raise ValueError(f"`category_ids` must be {classes}, one a class, each once; received {received}")
            if self.accuracy is not None and not 0 <= self.accuracy <= 1:
                raise ValueError(f"`accuracy` must be in 0..1; received {self.accuracy}")
            _check_values(self.tensors)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `tensors`."""
        return fingerprint(self.tensors)


def write_trunk(path: str | os.PathLike, model: MultiDomainClassifier, base_domain: str) -> str:
    """Writes the trunk of `model` as `base_domain` sees it, and returns its fingerprint; errors as `Trunk`."""
    tensors = {
        slot: bank.stored(owner)
        for slot, owner, bank in _slots(model)
        if owner in (SHARED, base_domain) and not slot.startswith("head/") and not model.base_lacks(slot)
    }
    trunk = Trunk(str(path), base_domain, model.architecture, tensors, fingerprint(tensors))
    write_tensors(
        path,
        trunk.tensors,
        {
            "kind": "trunk",
            "base_domain": trunk.base_domain,
            "architecture": dataclasses.asdict(trunk.architecture),
            "tool_version": tfmdl.__version__,
        },
    )
    return trunk.fingerprint


def read_trunk(path: str | os.PathLike) -> Trunk:
    """Reads a trunk: a file, or a run's folder that holds one.

    Raises:
        FileNotFoundError, ValueError: as `read_tensors` and `Trunk`, and if the file is not a trunk.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / TRUNK_FILE).is_file():
            raise FileNotFoundError(f"{path}: has no {TRUNK_FILE}; either the run is not finished or it added a domain")
        path = path / TRUNK_FILE
    tensors, header = _read_kind(path, "trunk")
    with naming_file(path):
        base_domain, architecture = header["base_domain"], Architecture(**header["architecture"])
    return Trunk(str(path), base_domain, architecture, tensors, fingerprint(tensors))


def write_pack(
    path: str | os.PathLike,
    model: MultiDomainClassifier,
    domain: str,
    *,
    label_names: list[str],
    category_ids: list[int],
    preprocessing: Preprocessing,
    trunk_fingerprint: str,
    accuracy: float | None,
    base: bool = False,
    experts: tuple[Expert, ...] = (),
) -> None:
    """Writes what `domain` owns in `model`; `base` says that it is the base domain, trained with the trunk.

    Raises:
        ValueError: as `Pack`; nothing is written then.
    """
    tensors = {
        slot: bank.stored(owner)
        for slot, owner, bank in _slots(model)
        if owner == domain and not bank.pooled and not (base and model.base_lacks(slot))
    }
    pack = Pack(
        path=str(path),
        domain=domain,
        label_names=label_names,
        category_ids=category_ids,
        architecture=model.architecture,
        preprocessing=preprocessing,
        trunk_fingerprint=trunk_fingerprint,
        accuracy=accuracy,
        tensors=tensors,
        experts=tuple(experts),
    )
    header = dataclasses.asdict(dataclasses.replace(pack, tensors={}))
    del header["path"], header["tensors"]
    write_tensors(path, pack.tensors, {"kind": "pack", **header, "tool_version": tfmdl.__version__})


def read_pack(path: str | os.PathLike) -> Pack:
    """Reads one pack file; errors as `read_tensors` and `Pack`, and ValueError if the file is not a pack."""
    tensors, header = _read_kind(path, "pack")
    with naming_file(path):
        fields = {
            "path": str(path),
            "domain": header["domain"],
            "label_names": header["label_names"],
            "category_ids": header["category_ids"],
            "architecture": Architecture(**header["architecture"]),
            "preprocessing": Preprocessing.from_json(header["preprocessing"]),
            "trunk_fingerprint": header["trunk_fingerprint"],
            "accuracy": header["accuracy"],
            "tensors": tensors,
            "experts": tuple(Expert(**expert) for expert in header.get("experts", ())),
        }
    return Pack(**fields)


def read_packs(path: str | os.PathLike) -> list[Pack]:
    """Reads one pack file, or all packs of a run's folder.

    Raises:
        FileNotFoundError, ValueError: as `read_pack`, and if the folder has no packs.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        return [read_pack(path)]
    files = sorted((path / PACKS_DIR).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path}: has no {PACKS_DIR}/*.safetensors; the run is not finished")
    return [read_pack(file) for file in files]


def read_expert_packs(paths: list[str], trunk: Trunk, architecture: Architecture, domain: str) -> list[Pack]:
    """Reads the packs whose kernels a run of `architecture` is to mix for `domain`, by the names of their domains.

    Raises:
        FileNotFoundError, ValueError: as `read_packs`, and if a pack cannot be an expert or the domain has none.
    """
    wanted = _of_experts(architecture)
    pack_of = {}
    for pack in (pack for path in paths for pack in read_packs(path)):
        if pack.domain in pack_of:
            raise ValueError(f"--packs: two packs of {pack.domain!r}: {pack_of[pack.domain].path} and {pack.path}")
        if pack.domain == trunk.base_domain:
            raise ValueError(f"--packs: {pack.path} is of the base domain, whose kernels come with the trunk")
        if pack.architecture != wanted:
            raise ValueError(f"--packs: {pack.path} has {pack.architecture}; wanted is {wanted}")
        _check_trunk_of(pack, trunk)
        pack_of[pack.domain] = pack
    if domain not in pack_of:
        raise ValueError(
            f"--packs must have a pack of --domain={domain} itself, trained by --method={wanted.method}; "
            f"received packs of {', '.join(sorted(pack_of)) or 'no domain'}"
        )
    return [pack_of[name] for name in sorted(pack_of)]


def initialize(model: MultiDomainClassifier, trunk: Trunk, packs: list[Pack] = ()) -> None:
    """Sets every variable of `model` but the heads to the trunk's: what a new domain starts from.

    What the method adds to the network stays as it is where the trunk has none of it. A domain of `packs` starts
    from what its pack has instead, its head included.

    Raises:
        ValueError: if trunk and model differ in backbone or width, or in a variable.
    """
    _check_fits(trunk, model.architecture)
    pack_of = {pack.domain: pack for pack in packs}
    for slot, owner, bank in _slots(model):
        pack = pack_of.get(owner)
        added = model.is_addition(slot) and slot not in trunk.tensors
        if pack and slot in pack.tensors:
            _restore(bank, owner, slot, pack.tensors, pack.path)
        elif not slot.startswith("head/") and not added:
            _restore(bank, owner, slot, trunk.tensors, trunk.path)
    _check_trunk_is_used(model, trunk)


def compose(
    trunk: Trunk, packs: list[Pack], dtype: str = "float32", expert_packs: list[Pack] = ()
) -> MultiDomainClassifier:
    """Returns one model of the trunk and the packs' domains, in the packs' order.

    Args:
        trunk: The trunk.
        packs: One a domain. Packs that mix experts may stand beside packs of the method that trained these.
        dtype: Keras dtype policy of the model.
        expert_packs: Packs that `packs` mix the kernels of; those not given are read from where they were.

    Raises:
        FileNotFoundError: if an expert's pack is neither given nor where it was.
        ValueError: if a pack was trained on another trunk, two packs are of one domain, their methods or experts
            differ, or an expert's pack is another than the one that was used.
    """
    if not packs:
        raise ValueError("a model needs at least one domain pack; received none")
    path_of = {}
    for pack in packs:
        if pack.domain in path_of:
            raise ValueError(f"two packs of domain {pack.domain!r}: {path_of[pack.domain]} and {pack.path}")
        path_of[pack.domain] = pack.path
        _check_trunk_of(pack, trunk)
    architecture = _common_architecture(trunk, packs)
    _check_fits(trunk, architecture)
    expert_of = _experts(trunk, packs, list(expert_packs))
    experts = (trunk.base_domain, *expert_of) if METHODS[architecture.method].experts_by else ()
    num_classes = {pack.domain: len(pack.label_names) for pack in packs}
    model = MultiDomainClassifier(num_classes, architecture, dtype, experts)
    pack_of = {pack.domain: _with_gates(pack, model) for pack in packs}
    for slot, owner, bank in _slots(model):
        pack = (expert_of if bank.pooled else pack_of).get(owner)
        if pack and slot in pack.tensors:
            _restore(bank, owner, slot, pack.tensors, pack.path)
        elif owner != trunk.base_domain and model.is_addition(slot):
            raise ValueError(f"{pack.path}: lacks {slot}, which the model needs")
        elif slot in trunk.tensors or not model.is_addition(slot):
            _restore(bank, owner, slot, trunk.tensors, trunk.path)
    _check_trunk_is_used(model, trunk)
    _check_packs_are_used(model, trunk, packs)
    return model


def domains_without_additions(model: MultiDomainClassifier, packs: list[Pack]) -> list[str]:
    """Returns the domains whose packs have nothing that the method adds: a base domain, or those without gates."""
    return [pack.domain for pack in packs if not any(model.is_addition(slot) for slot in pack.tensors)]


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
        trunk = load_config(workdirs[0]).init_from or workdirs[0]
    elif not pack_paths:
        raise ValueError("--trunk wants the domains' --packs")
    packs, expert_packs = (
        [pack for path in paths or () for pack in read_packs(path)] for paths in (pack_paths, expert_paths)
    )
    return read_trunk(trunk), packs, expert_packs


def values_of(model: MultiDomainClassifier, owner: str) -> dict[str, np.ndarray]:
    """Returns what a file holds of the variables of a domain, or of "shared", by slot."""
    return {slot: bank.stored(owner) for slot, of, bank in _slots(model) if of == owner}


def _common_architecture(trunk, packs):
    """The method of the added domains; the base domain's own pack is at home in any method on its trunk.

    So are packs of the method that trains experts beside those that mix them.
    """
    added = [pack for pack in packs if pack.domain != trunk.base_domain] or packs
    first = next((pack for pack in added if pack.experts), added[0])
    for pack in added:
        fits = (first.architecture, _of_experts(first.architecture)) if first.experts else (first.architecture,)
        if pack.architecture not in fits:
            raise ValueError(
                f"packs of one model are of one method; {first.path} has {first.architecture}, "
                f"{pack.path} has {pack.architecture}"
            )
    return first.architecture


def _of_experts(architecture):
    """The architecture of the packs whose kernels one of this architecture mixes."""
    method = METHODS[architecture.method].experts_by
    return dataclasses.replace(architecture, method=method, soft_layers=Architecture.soft_layers)


def _experts(trunk, packs, given):
    """Returns the packs of all experts but the base domain, by name of the domain.

    Beside the packs that the mixing packs name, these are the packs of the other domains themselves.
    """
    mixing = [pack for pack in packs if pack.experts]
    if not mixing:
        return {}
    named = {expert.domain: expert for expert in mixing[0].experts}
    for pack in mixing[1:]:
        others = {expert.domain: expert for expert in pack.experts}
        for domain in sorted(named.keys() | others.keys()):
            found = [one[domain].fingerprint[:12] if domain in one else "none" for one in (named, others)]
            if found[0] != found[1]:
                raise ValueError(
                    f"packs of one model mix the same experts; of {domain!r}, {mixing[0].path} has {found[0]}, "
                    f"{pack.path} has {found[1]}"
                )
    expert_of = {}
    for domain, expert in named.items():
        expert_of[domain] = _expert_pack(expert, mixing[0], [*given, *packs])
    for pack in packs:
        if not pack.experts and pack.domain != trunk.base_domain:
            expert = expert_of.setdefault(pack.domain, pack)
            if expert.fingerprint != pack.fingerprint:
                raise ValueError(
                    f"pack {pack.path} of {pack.domain!r} has fingerprint {pack.fingerprint[:12]}; {mixing[0].path} "
                    f"mixes the kernels of one with {expert.fingerprint[:12]}"
                )
    return expert_of


def _expert_pack(expert, mixing, given):
    """Finds the pack of an expert that the pack `mixing` names: among those `given`, or where it was."""
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


def _with_gates(pack, model):
    """Returns the pack with gates for all experts of `model`: a pack may know fewer, or have no gates at all.

    The bias shuts out what it does not know; without gates, all but the domain itself.
    """
    experts = model.method.experts
    tensors = dict(pack.tensors)
    if not experts:
        return pack
    for slot, owner, bank in _slots(model):
        if owner != pack.domain or not model.is_addition(slot) or (pack.experts and slot not in tensors):
            continue
        value = np.full(bank.stored_shape(owner), _SHUT if slot.endswith("/bias") else 0.0, "float32")
        known = tensors.get(slot)
        if known is None and slot.endswith("/bias"):
            value[experts.index(pack.domain)] = 0.0
        if known is not None:
            if known.shape[:-1] != value.shape[:-1] or known.shape[-1] > value.shape[-1]:
                continue  # is refused when it is restored
            value[..., : known.shape[-1]] = known
        tensors[slot] = value
    return dataclasses.replace(pack, tensors=tensors)


def _check_trunk_of(pack, trunk):
    if pack.trunk_fingerprint != trunk.fingerprint:
        raise ValueError(
            f"pack {pack.path} was trained on the trunk with fingerprint {pack.trunk_fingerprint[:12]}; "
            f"{trunk.path} has {trunk.fingerprint[:12]}"
        )


def _check_fits(trunk, architecture):
    for argument in ("backbone", "width", "blocks_per_stage"):
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
                    f"pack {pack.path} has its own {slot}, which method {model.architecture.method} shares"
                )


def _slots(model):
    """Yields slot, owner and bank of each variable: files hold what banks make of them."""
    for bank in model.banks():
        for owner, variable in bank.variable_of.items():
            yield slot_and_owner(variable)[0], owner, bank


def _restore(bank, owner, slot, tensors, path):
    if slot not in tensors:
        raise ValueError(f"{path}: lacks {slot}, which the model needs")
    found, wanted = tuple(tensors[slot].shape), bank.stored_shape(owner)
    if found != wanted:
        raise ValueError(f"{path}: {slot} has shape {found}, the model needs {wanted}")
    bank.restore(owner, tensors[slot])


def _read_kind(path, kind):
    tensors, header = read_tensors(path)
    if header.get("kind") != kind:
        raise ValueError(f"{path}: is a {header.get('kind')}, not a {kind}")
    return tensors, header


def _check_fingerprint(name, value):
    if not _FINGERPRINT.fullmatch(value):
        raise ValueError(f"`{name}` must be a SHA-256; received {reprlib.repr(value)}")


def _check_values(tensors):
    for slot, value in tensors.items():
        if value.dtype not in (np.float32, np.uint8):
            raise ValueError(f"{slot} must be of float32 or uint8; received {value.dtype}")
        if not np.isfinite(value).all():
            raise ValueError(f"{slot} has values that are not finite")
