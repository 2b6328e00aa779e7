"""The versions of a served model: `<export_dir>/<whole number>/`, as TensorFlow Serving looks for them."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile

from tfmdl.serving.assets import MANIFEST

GRAPH = "saved_model.pb"


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


def read_manifest(version: pathlib.Path) -> dict:
    """Returns what `tfmdl.serving.assets` wrote of an export.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is damaged.
    """
    return _read_json(version / MANIFEST)


def read_domain(version: pathlib.Path, domain: str) -> dict:
    """Returns what `tfmdl.serving.assets` wrote of one domain; errors as `read_manifest`."""
    return _read_json(version / "assets" / "domains" / f"{domain}.json")


def _read_json(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there, so this is no export of this version of the tool")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error


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
    """
    export_dir = pathlib.Path(export_dir).absolute()
    taken = versions_of(export_dir)
    version = version or max(taken, default=0) + 1
    if version in taken:
        raise FileExistsError(f"--version: {taken[version]} exists already; versions are never overwritten")
    path = export_dir / str(version)
    export_dir.mkdir(parents=True, exist_ok=True)
    # TensorFlow Serving looks at folders with a whole number as their name, and at no others.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=export_dir) as aside:
        written = pathlib.Path(aside, str(version))
        written.mkdir()
        yield written, path
        for file in written.rglob("*"):
            _flush(file)
        os.rename(written, path)
    _flush(export_dir)


def prune(export_dir: str | os.PathLike, keep: int, written: pathlib.Path) -> list[pathlib.Path]:
    """Deletes all exports but the last `keep` ones, the newest and `written`, and returns what was deleted."""
    exports = [path for path in versions_of(export_dir).values() if (path / GRAPH).is_file()]
    deleted = [path for path in exports[: -max(keep, 1)] if path != written]
    for path in deleted:
        # Renamed first: a version that is half deleted is none.
        with tempfile.TemporaryDirectory(prefix=".deleted-", dir=export_dir) as aside:
            shutil.move(path, aside)
    return deleted


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
