"""What an export is made of: runs of train.py, or an earlier export with domains added and removed."""

import dataclasses
import os
import pathlib

from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfmdl.architecture import own_budgets
from tfmdl.config import load_config
from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Pack, Trunk, compose, read_packs, read_parts, values_of
from tfmdl.serving.assets import GRAPH, VALUES, check_files
from tfmdl.serving.signatures import most_common_size
from tfmdl.serving.values import restore
from tfmdl.serving.versions import newest, read_domain, read_manifest, reading
from tfmdl.sharing import METHODS


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """A model to export, and what has to stay as it was.

    Attributes:
        model: The live model, float32.
        packs: The packs of its domains, in their order.
        base_domain: The domain that the trunk was trained on.
        trunk_fingerprint: Of the trunk.
        ids: By domain, what serve_images calls it.
        next_id: What the next domain will be called there.
        size: Height and width of the images of a batch that mixes domains.
        previous: The version that this one follows, or None.
        rewired: It is not computed as in that version, since domains differ in method in one of the two, or 0.1.0 wrote
            it: answers are the same up to rounding.
    """

    model: MultiDomainClassifier
    packs: tuple[Pack, ...]
    base_domain: str
    trunk_fingerprint: str
    ids: dict[str, int]
    next_id: int
    size: tuple[int, int]
    previous: pathlib.Path | None = None
    rewired: bool = False

    @property
    def manifest(self) -> dict:
        """What `from_export` needs to know of an export of this source, for JSON."""
        return {
            "domains": list(self.model.domains),
            "domain_ids": self.ids,
            "next_domain_id": self.next_id,
            "size": list(self.size),
            "architecture": self.model.architecture.to_json(),
            "base_domain": self.base_domain,
            "trunk_fingerprint": self.trunk_fingerprint,
        }


def from_runs(
    workdirs: list[str] | None = None,
    trunk: str | None = None,
    pack_paths: list[str] | None = None,
    expert_paths: list[str] | None = None,
) -> ExportSource:
    """Returns what finished runs, or a trunk and packs, give to export; arguments and errors as `packs.load_model`."""
    trunk, packs, expert_packs = read_parts(workdirs, trunk, pack_paths, expert_paths)
    model = compose(trunk, packs, expert_packs=expert_packs)
    ids = {domain: number for number, domain in enumerate(model.domains)}
    size = most_common_size(packs)
    return ExportSource(model, tuple(packs), trunk.base_domain, trunk.fingerprint, ids, len(ids), size)


def from_export(path: str | os.PathLike, added: list[str] = (), removed: list[str] = ()) -> ExportSource:
    """Returns an earlier export as an `ExportSource`, with the domains of some runs added and some domains removed.

    Args:
        path: Folder of all versions, of which the newest is taken, or of one.
        added: Runs or pack files. A domain that is there already is replaced.
        removed: Names of domains.

    Raises:
        FileNotFoundError: if there is no export.
        ValueError: if it is damaged or cannot be taken apart, a domain to remove is not in it or none would be left, or
            as `packs.compose`.
    """
    version = newest(path)
    manifest = read_manifest(version)
    if manifest.folded or manifest.precision != "float32":
        raise ValueError(
            f"--from_export: {version} was written with --fold or another --precision, which cannot be undone; export "
            "from the runs again, or from a version without"
        )
    method = manifest.architecture.method
    if METHODS[method].experts_by:
        raise ValueError(
            f"--from_export: {version} is of method {method}, whose domains mix kernels that are no longer told apart "
            "by pack; export from the runs again"
        )
    for domain in removed:
        if domain not in manifest.domains:
            raise ValueError(
                f"--remove_domain: {version} has no domain {domain!r}; it has {', '.join(manifest.domains)}"
            )
    new = [pack for run in added for pack in read_packs(run)]
    replaced = {pack.domain for pack in new}
    trunk, old = _take_apart(version, manifest)
    packs = [pack for pack in old if pack.domain not in {*removed, *replaced}] + new
    if not packs:
        raise ValueError(f"--remove_domain: no domain of {version} would be left")
    ids, next_id = dict(manifest.domain_ids), manifest.next_domain_id
    for pack in new:
        # What takes a domain's place takes its id, too.
        if pack.domain not in ids:
            ids[pack.domain] = next_id
            next_id += 1
    ids = {pack.domain: ids[pack.domain] for pack in packs}
    size = tuple(manifest.size)
    if all(pack.preprocessing.size != size for pack in packs):
        size = most_common_size(packs)
    model = compose(trunk, packs)
    before = own_budgets(_added_architectures({pack.domain: pack for pack in old}, trunk.base_domain))
    rewired = bool(before or model.budgets or not manifest.stacked)
    return ExportSource(
        model, tuple(packs), trunk.base_domain, trunk.fingerprint, ids, next_id, size, version, rewired
    )


def data_dir_of(paths) -> str | None:
    """Returns the folder of converted domains that the first run in `paths` was trained on, if it is still there."""
    for path in paths:
        if pathlib.Path(path).is_dir():
            data_dir = load_config(path).data_dir
            return data_dir if pathlib.Path(data_dir).is_dir() else None
    return None


def _added_architectures(domains, base):
    """Returns the architectures by domain of all but the base domain."""
    return {domain: facts.architecture for domain, facts in domains.items() if domain != base}


def _take_apart(version, manifest):
    """Returns trunk and packs out of the variables of an export."""
    if manifest.files is not None:
        check_files(version, manifest.files)
    domains = {domain: read_domain(version, domain) for domain in manifest.domains}
    model = MultiDomainClassifier(
        {domain: len(facts.label_names) for domain, facts in domains.items()},
        manifest.architecture,
        budgets=own_budgets(_added_architectures(domains, manifest.base_domain)),
    )
    with reading(version):
        # Its values need no graph, which takes seconds to load; that it can be read is all that is asked here.
        SavedModel.FromString((version / GRAPH).read_bytes())
        restore(model, str(version / VALUES / "variables"), manifest.stacked)
    base, fingerprint = manifest.base_domain, manifest.trunk_fingerprint

    def owned(domain):
        return values_of(model, domain, is_base=domain == base)

    shared = values_of(model, SHARED)
    # The base domain's own values are the trunk's; where it is not served, nothing else needs them.
    of_base = owned(base) if base in domains else {}
    trunk_tensors = {**shared, **{slot: value for slot, value in of_base.items() if not slot.startswith("head/")}}
    trunk = Trunk(str(version), base, manifest.architecture, trunk_tensors, fingerprint)
    packs = [
        Pack(
            path=f"{version} ({domain})",
            domain=domain,
            label_names=facts.label_names,
            category_ids=facts.category_ids,
            architecture=facts.architecture,
            preprocessing=facts.preprocessing,
            trunk_fingerprint=fingerprint,
            accuracy=facts.accuracy,
            tensors=owned(domain),
        )
        for domain, facts in domains.items()
    ]
    return trunk, packs
