"""Writes an export: aside, loaded back, checked, and only then renamed into place."""

import dataclasses
import os
import pathlib

import tensorflow as tf

from tfmdl import backend, files
from tfmdl.serving import assets
from tfmdl.serving.check import ask, check_unchanged, features_difference, largest_difference, requests_for
from tfmdl.serving.network import PRECISIONS, FoldedClassifier
from tfmdl.serving.samples import COUNT, samples_of
from tfmdl.serving.signatures import Served, all_signatures
from tfmdl.serving.source import ExportSource
from tfmdl.serving.values import held
from tfmdl.serving.versions import new_version, prune, reading

# By how much probabilities may differ from the live model's. Folding reorders float32 arithmetic; bfloat16 has 8 bits.
TOLERANCES = {"float32": 1e-5, "folded": 1e-4, "bfloat16": 0.1}
KEEP = 3
# Up to so many domains have signatures of their own, where that is not asked for: each takes two seconds.
MANY = 32
MOST_SAMPLES = 1000  # images to check with, but for one of each domain


@dataclasses.dataclass(frozen=True)
class Options:
    """How an export is written.

    Attributes:
        version: Its number, by default one more than the newest.
        domain_signatures: Each domain has signatures of its own, classify_<domain>; by default if there are at most
            `MANY` domains. One that batches cannot mix with the others has them in any case.
        fold: Fold the normalisation: see `FoldedClassifier`.
        precision: Of the convolutions, one of `PRECISIONS`.
        tolerance: By how much probabilities may differ from the live model's, by default as in `TOLERANCES`.
        data_dir: Folder of converted domains, for images to check and warm up with; without it images are drawn.
        license_line: For the model card.
        keep: How many versions to keep.
    """

    version: int | None = None
    domain_signatures: bool | None = None
    fold: bool = False
    precision: str = "float32"
    tolerance: float | None = None
    data_dir: str | None = None
    license_line: str | None = None
    keep: int = KEEP

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"--precision must be one of {', '.join(PRECISIONS)}; received {self.precision!r}")
        if self.keep < 1:
            raise ValueError(f"--keep must be positive; received {self.keep}")

    @property
    def allowed(self) -> float:
        """The tolerance."""
        if self.tolerance is not None:
            return self.tolerance
        return TOLERANCES[self.precision if self.precision != "float32" else "folded" if self.fold else "float32"]


@dataclasses.dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        path: Folder of the version.
        difference: Largest difference of its probabilities from the live model's.
        images: How many images were compared.
        drawn: Domains whose images were drawn, for lack of real ones.
        signatures: By name: inputs and outputs, each a `tf.TensorSpec` by name.
        unchanged: Domains whose answers were found to be those of the version before.
        change: By how much they differ from these: 0 is bit for bit.
        deleted: Versions that were deleted since there are newer ones.
    """

    path: pathlib.Path
    difference: float
    images: int
    drawn: list[str]
    signatures: dict[str, tuple[dict, dict]]
    unchanged: tuple[str, ...]
    change: float
    deleted: list[pathlib.Path]


def write_export(source: ExportSource, export_dir: str | os.PathLike, options: Options = Options()) -> Export:
    """Writes one version of a served model.

    Args:
        source: What to export.
        export_dir: Folder of all versions.
        options: How.

    Raises:
        FileExistsError: if there is such a version.
        OSError: if it cannot be written, naming it.
        ValueError: if Keras's backend is not TensorFlow, the export does not answer as the live model does, a domain's
            answers are not finite, or two domains want one signature.
    """
    backend.check_writes_graphs()
    manifest = {**source.manifest, "folded": options.fold, "precision": options.precision, "stacked": True}
    served = _served(source, options)
    of_each = max(1, min(COUNT, MOST_SAMPLES // len(source.packs)))
    samples, drawn = samples_of(source.packs, options.data_dir, of_each)
    requests = requests_for(served, source.model, samples)
    with new_version(export_dir, options.version) as (written, path):
        with held(served.model, served.gathers) as module:
            tf.saved_model.save(module, str(written), signatures=all_signatures(served))
        left = written / assets.VALUES / "variables_temp"  # where TensorFlow cannot remove it, it says nothing
        if left.exists():
            files.remove_folder(left)
        loaded = tf.saved_model.load(str(written))
        difference = largest_difference(loaded.signatures, requests)
        of_features = features_difference(loaded.signatures, requests)
        if max(difference, of_features) > options.allowed:
            raise ValueError(
                f"the export does not answer as the model does: probabilities differ by {difference:.2g} (features by "
                f"{of_features:.2g} of the largest); expected at most {options.allowed:g} (--tolerance)"
            )
        unchanged, change = _check_unchanged(source, options, loaded, requests)
        assets.write_assets(written, manifest, source.packs, source.ids)
        assets.write_model_card(
            written, source.model, source.packs, manifest, difference, options.data_dir, options.license_line
        )
        for request in assets.write_warmup(written, requests):
            ask(loaded.signatures, request)
    specs = {
        name: (signature.structured_input_signature[1], signature.structured_outputs)
        for name, signature in loaded.signatures.items()
    }
    images = sum(map(len, samples.values()))
    deleted = prune(path.parent, options.keep, path)
    return Export(path, difference, images, drawn, specs, unchanged, change, deleted)


def _served(source, options):
    model = source.model
    if options.fold:
        model = FoldedClassifier(model, options.precision)
    elif options.precision != "float32":
        model = model.of_dtype(options.precision)
    gathers = not (options.fold and len(source.packs) == 1)
    of_domains = options.domain_signatures
    if of_domains is None:
        of_domains = len(source.packs) <= MANY
    return Served(model, source.packs, source.ids, source.size, gathers, of_domains)


def _check_unchanged(source, options, loaded, requests):
    """Returns the domains that were in the version before, and by how much their answers have changed: hardly."""
    if source.previous is None or options.fold or options.precision != "float32":
        return (), 0.0
    with reading(source.previous):
        before = tf.saved_model.load(str(source.previous)).signatures
    kept = [pack.domain for pack in source.packs if pack.path == f"{source.previous} ({pack.domain})"]
    both = []
    for request in requests:
        rows = [row for row, pack in enumerate(request.packs) if pack.domain in kept]
        if rows:
            both.append(request.rows(rows))
    allowed = options.allowed if source.rewired else 0.0
    return tuple(kept), check_unchanged(before, loaded.signatures, both, allowed)
