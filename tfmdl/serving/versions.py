"""The versions of a served model: `<export_dir>/<whole number>/`, as TensorFlow Serving looks for them."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfmdl import files
from tfmdl.architecture import Architecture
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.domains import check_name
from tfmdl.outside import parse_json, printable, read_at_most
from tfmdl.serving.assets import GRAPH, MANIFEST, facts_path
from tfmdl.typed import check_types

# What TensorFlow raises where graph or values are not as they were written.
_OF_DAMAGED = (
    *(tf.errors.OpError, OSError, DecodeError, ArithmeticError, AssertionError, AttributeError, LookupError),
    *(TypeError, ValueError),
)


def versions_of(export_dir: str | os.PathLike) -> dict[int, pathlib.Path]:
    """Returns everything in `export_dir` that TensorFlow Serving would take for a version, in order."""
    folder = pathlib.Path(export_dir)
    found = [entry for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []
    return {int(entry.name): entry for entry in sorted(found, key=lambda entry: int(entry.name))}


def newest(path: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of the newest version in `path`, or `path` if it is one itself.

    Raises:
        FileNotFoundError: if there is none.
    """
    path = pathlib.Path(path).absolute()
    if (path / GRAPH).is_file():
        return path
    exports = [version for version in versions_of(path).values() if (version / GRAPH).is_file()]
    if not exports:
        raise FileNotFoundError(f"{path}: no version of an export here")
    return exports[-1]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an export is made of, as `tfmdl.serving.assets` writes it.

    Attributes:
        domains: Names, in their order.
        domain_ids: By domain, what serve_images calls it.
        next_domain_id: What the next domain will be called there.
        size: Height and width of the images of a batch that mixes domains.
        architecture: Of the model.
        base_domain: The domain that the trunk was trained on.
        trunk_fingerprint: Of the trunk.
        folded, precision: As in `tfmdl.serving.writer.Options`.
        stacked: Whether values lie as `tfmdl.serving.values` says; 0.1.0 had a variable for each domain and slot.
        files: Of graph and values, the SHA-256 by path; 0.1.0 had none.

    Raises:
        ValueError: if a field is of another type, or does not fit the others.
    """

    domains: list[str]
    domain_ids: dict[str, int]
    next_domain_id: int
    size: list[int]
    architecture: Architecture
    base_domain: str
    trunk_fingerprint: str
    folded: bool
    precision: str
    stacked: bool = False
    files: dict[str, str] | None = None

    def __post_init__(self):
        check_types(self)
        for domain in (*self.domains, self.base_domain):
            check_name(domain)
        ids = set(self.domain_ids.values())
        if not self.domains or set(self.domain_ids) != set(self.domains) or len(ids) != len(self.domains):
            raise ValueError(f"`domain_ids` must give each of {self.domains} an id; received {self.domain_ids}")
        if min(ids) < 0 or not max(ids) < self.next_domain_id < 2**31:
            raise ValueError(f"`next_domain_id` must be above all ids; received {self.next_domain_id}")


@dataclasses.dataclass(frozen=True)
class DomainFacts:
    """What `tfmdl.serving.assets` writes of a domain; attributes as those of `tfmdl.packs.Pack`.

    Raises:
        ValueError: if a field is of another type.
    """

    label_names: list[str]
    category_ids: list[int]
    accuracy: float | None
    architecture: Architecture
    preprocessing: Preprocessing

    def __post_init__(self):
        check_types(self)


def read_manifest(version: pathlib.Path) -> Manifest:
    """Returns what an export is made of.

    Raises:
        FileNotFoundError: if that is not there.
        ValueError: if it is damaged, naming the file.
    """
    return _read_as(Manifest, version / MANIFEST)


def read_domain(version: pathlib.Path, domain: str) -> DomainFacts:
    """Returns what is known of one domain; errors as `read_manifest`."""
    return _read_as(DomainFacts, facts_path(version, domain))


def _read_as(kind, path):
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there, so this is no export of this version of the tool")
    content = parse_json(read_at_most(path), str(path))
    readers = {"architecture": Architecture.from_json, "preprocessing": Preprocessing.from_json}
    try:
        fields = {
            field.name: content[field.name]
            for field in dataclasses.fields(kind)
            if field.name in content or field.default is dataclasses.MISSING
        }
        return kind(**{name: readers[name](value) if name in readers else value for name, value in fields.items()})
    except KeyError as error:
        raise ValueError(f"{path}: damaged, it lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, {error}") from error


@contextlib.contextmanager
def reading(version: pathlib.Path) -> Iterator[None]:
    """Says of what TensorFlow cannot read that the version is damaged.

    Raises:
        ValueError: naming it.
    """
    try:
        yield
    except _OF_DAMAGED as error:
        raise ValueError(f"{version}: damaged, or not what its {MANIFEST} tells ({printable(str(error))})") from error


@contextlib.contextmanager
def new_version(export_dir: str | os.PathLike, version: int | None = None):
    """Makes a folder, to be written in, that becomes a version when the context ends without an error.

    Args:
        export_dir: Folder of all versions; made if it is not there.
        version: By default one more than the newest.

    Yields:
        The folder to write in, and what it will be.

    Raises:
        FileExistsError: if there is such a version.
        OSError: if it cannot be written, naming it. Nothing is left of it then.
    """
    export_dir = pathlib.Path(export_dir).absolute()
    taken = versions_of(export_dir)
    version = version or max(taken, default=0) + 1
    if version in taken:
        raise FileExistsError(f"--version: {taken[version]} exists already; versions are never overwritten")
    path = export_dir / str(version)
    # TensorFlow Serving looks at folders with a whole number as their name, and at no others.
    with naming(path), aside(export_dir, ".partial-") as folder:
        written = folder / str(version)
        written.mkdir()
        yield written, path
        files.flush_all(written)
        try:
            os.rename(written, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise FileExistsError(f"{path}: another export has made it meanwhile; type the command again") from None
    files.flush(export_dir)


@contextlib.contextmanager
def aside(export_dir: pathlib.Path, prefix: str) -> Iterator[pathlib.Path]:
    """Gives a folder beside the versions, which is removed at the end, and so are those that killed exports left."""
    files.make_folder(export_dir)
    while True:
        for left in export_dir.glob(".*-*"):
            if left.name.startswith((".partial-", ".deleted-")):
                with _locked(left) as got:
                    if got:
                        shutil.rmtree(left, ignore_errors=True)
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=export_dir, ignore_cleanup_errors=True)
        with made as folder, _locked(folder) as got:
            if got:  # not by another, which took it for one that was left
                yield pathlib.Path(folder)
                return


@contextlib.contextmanager
def _locked(folder):
    """Gives whether the folder is there, and this process's as long as the context lasts."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        got = os.path.exists(folder)
    except BlockingIOError:
        got = False
    try:
        yield got
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: pathlib.Path):
    """Adds the path to errors without one, and makes TensorFlow's OSErrors: that of a full disk, say."""
    try:
        with files.naming(path):
            yield
    except tf.errors.OpError as error:
        raise OSError(f"{path}: cannot be written ({printable(error.message.strip())})") from error


def prune(export_dir: str | os.PathLike, keep: int, written: pathlib.Path) -> list[pathlib.Path]:
    """Deletes all exports but the last `keep` ones, the newest and `written`, and returns what was deleted."""
    exports = [path for path in versions_of(export_dir).values() if (path / GRAPH).is_file()]
    deleted = [path for path in exports[: -max(keep, 1)] if path != written]
    for path in deleted:
        # Renamed first: what is half deleted must not be taken for a version. Another export may delete it, too.
        with aside(pathlib.Path(export_dir), ".deleted-") as folder, contextlib.suppress(FileNotFoundError):
            os.rename(path, folder / path.name)
    return deleted
