"""Image files of one domain by name, in a folder or in an archive: which there are, and their bytes.

A name is relative to the release's `data/` folder: `<domain>/train/0001/000001.jpg`. Archives are read where
they are: one pass over the headers notes where each file begins in the decompressed stream, and reading goes
through the stream once more, forwards. The first pass reads to the last byte: gzip's checksum and length stand at
the end, and so do the zeros without which a tar was cut off.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import os
import pathlib
import stat
import tarfile
from collections.abc import Iterable, Iterator

from data_prep.headers import size_fault
from data_prep.plan import DataError
from tfmdl.files import file_sha256
from tfmdl.outside import is_utf8

# Of an annotation file, which is read whole: that of ImageNet has a third.
MAX_TEXT_BYTES = 1 << 30
# Folders that archives of the release put around the domains.
_WRAPPERS = {".", "data", "decathlon-1.0", "decathlon-1.0-data", "decathlon-1.0-data-imagenet"}
# One byte of deflated data becomes at most so many.
_MAX_INFLATION = 1032
# Headers that hold the name, or other fields, of the member behind them: they are read into memory.
_EXTENDED = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
_MAX_EXTENDED = 1 << 20
_BLOCK = 1 << 16


def check_relative(name: str, told_by: str) -> tuple[str, ...]:
    """Returns the parts of a relative path that stays below its folder.

    Raises:
        DataError: if `name` is absolute, has ".." or a backslash, or is not UTF-8; the message begins with
            `told_by`.
    """
    check_utf8(name, told_by)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not parts:
        raise DataError(f"{told_by}: {name!r} leaves the folder; expected a relative path without '..'")
    return parts


def check_utf8(name: str, told_by: str) -> None:
    """Refuses names that are not UTF-8, which neither records nor JSON can hold.

    Raises:
        DataError: if `name` is not UTF-8; the message begins with `told_by`.
    """
    if not is_utf8(name):
        raise DataError(f"{told_by}: {name!r} is not UTF-8; expected a name in UTF-8")


def check_regular(root: pathlib.Path, parts: Iterable[str]) -> os.stat_result | None:
    """Returns the status of the file `root/parts`, None if there is none.

    Raises:
        DataError: if it or a folder on the way from `root` is a symbolic link, or if it is not a file.
    """
    *folders, last = parts
    directory = _check_folder(root, tuple(folders))
    try:
        status = os.lstat(directory / last)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        raise DataError(f"{directory / last}: is a link; expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{directory / last}: is not a file")
    return status


@functools.lru_cache(maxsize=4096)
def _check_folder(root: pathlib.Path, folders: tuple[str, ...]) -> pathlib.Path:
    directory = root
    for folder in folders:
        directory = directory / folder
        if directory.is_symlink():
            raise DataError(f"{directory}: is a link; expected a folder")
    return directory


def tree_sha256(root: pathlib.Path, names: Iterable[str]) -> str:
    """Returns one SHA-256 over the names, sizes and contents of files below `root`."""
    digest = hashlib.sha256()
    for name in sorted(names):
        path = root / name
        digest.update(f"{name}\0{path.stat().st_size}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class FolderStore:
    """Images below `root`, which holds the folder of the domain."""

    root: pathlib.Path

    def unreadable(self, names: Iterable[str]) -> dict[str, str]:
        """Returns those of `names` that are not there or too long, and why."""
        found = {name: check_regular(self.root, check_relative(name, str(self.root))) for name in names}
        return _unreadable({name: status and status.st_size for name, status in found.items()})

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yields each name with its bytes."""
        for name in sorted(names):
            yield name, (self.root / name).read_bytes()

    def inputs(self, domain: str, names: Iterable[str]) -> dict[str, str]:
        """Returns the hash of the named files."""
        return {f"{self.root.name}/{domain}/": tree_sha256(self.root, names)}


@dataclasses.dataclass(frozen=True)
class ArchiveStore:
    """Images in a tar, gzipped or not, or in the per-domain tars that such a tar holds."""

    path: pathlib.Path

    def unreadable(self, names: Iterable[str]) -> dict[str, str]:
        """Returns those of `names` that are not there or too long, and why."""
        index = _index(self.path)
        return _unreadable({name: index[name][1] if name in index else None for name in names})

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yields each name with its bytes, in the order of the archive."""
        index = _index(self.path)
        with _open_stream(self.path) as stream:
            for name in sorted(names, key=index.__getitem__):
                offset, size = index[name]
                with _naming_damage(self.path):
                    stream.seek(offset)
                    encoded = stream.read(size)
                yield name, encoded

    def inputs(self, domain: str, names: Iterable[str]) -> dict[str, str]:
        """Returns the hash of the archive."""
        return {self.path.name: _archive_sha256(self.path)}

    def domains(self) -> set[str]:
        """Returns the domains that have an image here."""
        return {name.split("/", 1)[0] for name in _index(self.path)}


def read_members(path: pathlib.Path, folder: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yields base name and bytes of each member of a tar that lies in a `folder` and ends with `suffix`.

    Raises:
        DataError: if the archive is damaged, or such a member leaves the archive, is a link, or has more
            than `MAX_TEXT_BYTES`.
    """
    with _open_stream(path) as stream:
        for tar, member in _members(stream, path, _stream_limit(path)):
            parent, _, base = member.name.rpartition("/")
            if parent.rpartition("/")[2] == folder and base.endswith(suffix) and not base.startswith("."):
                _check_member(member, path)
                if member.size > MAX_TEXT_BYTES:
                    raise DataError(
                        f"{path}: member {member.name!r} has {member.size:,} bytes; expected at most {MAX_TEXT_BYTES:,}"
                    )
                with _naming_damage(path):
                    contents = tar.extractfile(member).read()
                yield base, contents


def _unreadable(sizes: dict[str, int | None]) -> dict[str, str]:
    faults = {name: "is not there" if size is None else size_fault(size) for name, size in sizes.items()}
    return {name: fault for name, fault in faults.items() if fault}


_archive_sha256 = functools.lru_cache(maxsize=None)(file_sha256)


def _open_stream(path: pathlib.Path):
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


def _stream_limit(path: pathlib.Path) -> int:
    """Returns how many bytes `_open_stream` can yield at most."""
    return path.stat().st_size * (_MAX_INFLATION if path.suffix == ".gz" else 1)


class _Header(tarfile.TarInfo):
    """A header that is refused before tarfile acts on what it claims."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # tarfile takes anything but a header for the end, and drops the rest without a word.
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error}; expected a header, or the zeros that end a tar") from None
        if header.type in _EXTENDED and not 0 <= header.size <= _MAX_EXTENDED:
            raise tarfile.ReadError(f"extended header of {header.size:,} bytes; expected at most {_MAX_EXTENDED:,}")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"member {header.name!r} is sparse; expected a file or a folder")
        return header


@contextlib.contextmanager
def _naming_damage(path) -> Iterator[None]:
    """Turns whatever tarfile, gzip and zlib raise on bytes that are not theirs into an error that names `path`."""
    try:
        yield
    except DataError:
        raise
    # Their parsers raise IndexError, OverflowError and others besides their own errors.
    except Exception as error:
        raise DataError(f"{path}: is no tar, or a damaged one ({str(error) or type(error).__name__})") from error


def _members(stream, path, limit: int) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yields tar and member one by one, lets go of them, and reads `stream` to its end.

    Args:
        stream: The bytes of a tar.
        path: What to call it in messages.
        limit: How many bytes `stream` has at most.

    Raises:
        DataError: if it is no whole tar and nothing but that.
    """
    with _naming_damage(path):
        tar = tarfile.TarFile(fileobj=stream, tarinfo=_Header)
    while True:
        with _naming_damage(path):
            member = tar.next()
        if member is None:
            break
        # tarfile does not notice a member that ends behind the archive, or its error does not name it.
        if not 0 <= member.size <= limit:
            raise DataError(
                f"{path}: member {member.name!r} claims {member.size:,} bytes; the archive can hold {limit:,}"
            )
        yield tar, member
        # tarfile keeps every header that it has seen.
        tar.members = []
    with _naming_damage(path):
        while block := stream.read(_BLOCK):
            if any(block):
                raise DataError(f"{path}: goes on behind the zeros that end a tar; expected one tar and no more")


def _check_member(member: tarfile.TarInfo, path) -> tuple[str, ...]:
    parts = check_relative(member.name, f"{path}: member")
    if member.issym() or member.islnk():
        raise DataError(f"{path}: member {member.name!r} is a link to {member.linkname!r}; expected a file")
    if not member.isdir() and (not member.isfile() or member.sparse is not None):
        raise DataError(f"{path}: member {member.name!r} is neither a file nor a folder")
    return parts


@functools.lru_cache(maxsize=4)
def _index(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Returns offset in the decompressed stream and size of every file of the archive, by name."""
    index: dict[str, tuple[int, int]] = {}
    with _open_stream(path) as stream:
        for tar, member in _members(stream, path, _stream_limit(path)):
            parts = _check_member(member, path)
            if not member.isfile():
                continue
            if parts[-1].endswith(".tar"):
                inner_path = f"{path}/{member.name}"
                for _, inner in _members(tar.extractfile(member), inner_path, member.size):
                    _note(index, inner, inner_path, member.offset_data)
            else:
                _note(index, member, path, 0)
    return index


def _note(index: dict, member: tarfile.TarInfo, path, offset: int) -> None:
    parts = _check_member(member, path)
    if not member.isfile():
        return
    while parts[0] in _WRAPPERS and len(parts) > 1:
        parts = parts[1:]
    name = "/".join(parts)
    if name in index:
        raise DataError(f"{path}: member {member.name!r} occurs twice")
    index[name] = (offset + member.offset_data, member.size)
