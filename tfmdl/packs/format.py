"""The files of trunks and packs, and what they say of themselves."""

import dataclasses
import os
import pathlib
import re
import reprlib

import numpy as np

import tfmdl
from tfmdl.architecture import Architecture
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.domains import SHARED, check_name
from tfmdl.files import fingerprint, read_tensors, write_tensors
from tfmdl.model import MultiDomainClassifier
from tfmdl.outside import printable
from tfmdl.packs.variables import slots, values_of
from tfmdl.sharing import METHODS
from tfmdl.typed import check_types, naming_file

TRUNK_FILE = "trunk.safetensors"
PACKS_DIR = "packs"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The network of the base domain, without its head.

    Attributes:
        path: The file.
        base_domain: The domain whose values it holds.
        architecture: Of the run that trained it.
        tensors: Values by slot.
        fingerprint: SHA-256 of `tensors`.
        preprocessing: How the network wants its images, of whatever domain; None where each domain's images are
            normalised by statistics of their own.

    Raises:
        ValueError: if a field is of another type or cannot be true, or a number is not finite, naming it.
    """

    path: str
    base_domain: str
    architecture: Architecture
    tensors: dict[str, np.ndarray]
    fingerprint: str
    preprocessing: Preprocessing | None = None

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
                raise ValueError(f"`label_names` must be {bias.size}, one per class of the head; received {classes}")
            if len(self.category_ids) != classes or len(set(self.category_ids)) != classes:
                received = reprlib.repr(self.category_ids)
                raise ValueError(f"`category_ids` must be {classes}, one per class, each once; received {received}")
            if self.accuracy is not None and not 0 <= self.accuracy <= 1:
                raise ValueError(f"`accuracy` must be in 0..1; received {self.accuracy}")
            if self.experts and not METHODS[self.architecture.method].experts_by:
                raise ValueError(
                    f"`experts` are of methods that mix kernels, which {self.architecture.method} does not; "
                    f"received {', '.join(expert.domain for expert in self.experts)}"
                )
            _check_values(self.tensors)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `tensors`."""
        return fingerprint(self.tensors)

    def check_trunk(self, trunk: Trunk) -> None:
        """Raises ValueError if the pack was trained on another trunk, naming both."""
        if self.trunk_fingerprint != trunk.fingerprint:
            raise ValueError(
                f"pack {self.path} was trained on the trunk with fingerprint {self.trunk_fingerprint[:12]}; "
                f"{trunk.path} has {trunk.fingerprint[:12]}"
            )


def pack_path(workdir: str | os.PathLike, domain: str) -> pathlib.Path:
    """Returns where the run in `workdir` writes the pack of `domain`."""
    return pathlib.Path(workdir, PACKS_DIR, f"{domain}.safetensors")


def write_trunk(
    path: str | os.PathLike,
    model: MultiDomainClassifier,
    base_domain: str,
    preprocessing: Preprocessing | None = None,
) -> str:
    """Writes the trunk of `model` as `base_domain` sees it, and returns its fingerprint.

    Args:
        path: The file.
        model: The model.
        base_domain: One of its domains.
        preprocessing: As in `Trunk`.

    Raises:
        ValueError: as `Trunk`, and if the domains differ in method or options: each then has its own view of a trunk.
    """
    if model.budgets:
        raise ValueError("`model` must have domains of one method, which a trunk is written of; received several")
    tensors = {
        slot: bank.stored(owner)
        for slot, owner, bank in slots(model)
        if owner in (SHARED, base_domain) and not slot.startswith("head/") and not model.base_lacks(slot)
    }
    trunk = Trunk(str(path), base_domain, model.architecture, tensors, fingerprint(tensors), preprocessing)
    write_tensors(
        path,
        trunk.tensors,
        {
            "kind": "trunk",
            "base_domain": trunk.base_domain,
            "architecture": trunk.architecture.to_json(),
            "preprocessing": preprocessing and dataclasses.asdict(preprocessing),
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
        base_domain, architecture = header["base_domain"], Architecture.from_json(header["architecture"])
        preprocessing = header.get("preprocessing")
        if preprocessing is not None:
            preprocessing = Preprocessing.from_json(preprocessing)
    return Trunk(str(path), base_domain, architecture, tensors, fingerprint(tensors), preprocessing)


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
    pack = Pack(
        path=str(path),
        domain=domain,
        label_names=label_names,
        category_ids=category_ids,
        architecture=model.architecture_of(domain),
        preprocessing=preprocessing,
        trunk_fingerprint=trunk_fingerprint,
        accuracy=accuracy,
        tensors=values_of(model, domain, is_base=base),
        experts=tuple(experts),
    )
    header = dataclasses.asdict(dataclasses.replace(pack, tensors={}))
    header["architecture"] = pack.architecture.to_json()
    del header["path"], header["tensors"]
    write_tensors(path, pack.tensors, {"kind": "pack", **header, "tool_version": tfmdl.__version__})


def read_pack(path: str | os.PathLike) -> Pack:
    """Reads one pack file; errors as `read_tensors` and `Pack`, and ValueError if the file is not a pack."""
    tensors, header = _read_kind(path, "pack")
    with naming_file(path):
        experts = header.get("experts", [])
        if not isinstance(experts, list):
            raise ValueError(f"`experts` must be a list; received {reprlib.repr(experts)}")
        fields = {
            "path": str(path),
            "domain": header["domain"],
            "label_names": header["label_names"],
            "category_ids": header["category_ids"],
            "architecture": Architecture.from_json(header["architecture"]),
            "preprocessing": Preprocessing.from_json(header["preprocessing"]),
            "trunk_fingerprint": header["trunk_fingerprint"],
            "accuracy": header["accuracy"],
            "tensors": tensors,
            "experts": tuple(Expert(**expert) for expert in experts),
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
    files = sorted(path.glob(f"{PACKS_DIR}/*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path}: has no {PACKS_DIR}/*.safetensors; the run is not finished")
    return [read_pack(file) for file in files]


def _read_kind(path, kind):
    tensors, header = read_tensors(path)
    if header.get("kind") != kind:
        raise ValueError(f"{path}: is a {printable(str(header.get('kind'))[:80])}, not a {kind}")
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
