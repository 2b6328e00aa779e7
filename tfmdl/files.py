"""Files that are whole or not there (text, JSON, tensors), and locks on folders that one process at a time may write.

What is written here is written aside, flushed to the disk and renamed into place, and so is the name: a kill, a full
disk or a power cut leaves the file that was there before, and what was written earlier is there, too. Files of tensors
hold a hash over all of their bytes.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tfmdl.outside import parse_json, read_at_most

_LOCK_FILE = ".lock"
# A file of tensors is a safetensors file. Its metadata are flat strings: one key holds our JSON, which begins with the
# hash, so that its place in the file can be told before anything is believed.
_HEADER = "tfmdl"
_HASH = "sha256"
_UNKNOWN = "0" * 64
_PLACE_OF_HASH = re.compile(rf'"__metadata__":\{{"{_HEADER}":"\{{\\"{_HASH}\\": \\"([0-9a-f]{{64}})\\"'.encode())
_MAX_HEADER_BYTES = 100_000_000  # as safetensors has it


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file aside and renames it into place, in a folder that is made if it is not there.

    Processes that write the same file do so one after the other.

    Raises:
        OSError: if it cannot be written, naming it; what was there before is still there then, and nothing else.
    """
    path = pathlib.Path(path)
    make_folder(path.parent)
    partial = path.with_name(path.name + ".partial")
    with naming(path), _alone_with(partial) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:  # a signal, too
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    flush(path.parent)


@contextlib.contextmanager
def _alone_with(path):
    """Gives a file to write that no other process has, and that is empty."""
    while True:
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another may have renamed it since it was opened: what it wrote is in place, and not to be touched.
            if not is_at(file, path):
                continue
            file.truncate(0)
            yield file
            return


def is_at(file: IO, path: str | os.PathLike) -> bool:
    """Returns whether an open file is the one that a path names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def make_folder(path: str | os.PathLike) -> None:
    """Makes a folder, and those that it lies in, if they are not there; a power cut leaves what it returned from."""
    path = pathlib.Path(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        flush(folder.parent)


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder with all that is in it.

    Raises:
        OSError: if it cannot be removed, naming it.
    """
    try:
        shutil.rmtree(path)
    except OSError as error:  # it names what is in the folder without the folder
        raise OSError(error.errno, error.strerror, str(path)) from error


def flush(path: str | os.PathLike) -> None:
    """Has a file's content, or the names in a folder, on the disk when it returns.

    Raises:
        OSError: if it cannot be done, naming it.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush_all(folder: str | os.PathLike) -> None:
    """Does as `flush` for a folder and all that is in it."""
    for path in (*pathlib.Path(folder).rglob("*"), folder):
        flush(path)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, content) -> None:
    """Writes JSON as `write_bytes` does."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: str | os.PathLike) -> dict:
    """Returns the object that a JSON file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, no object or too long, naming the file.
    """
    content = parse_json(read_at_most(path), str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object; received {type(content).__name__}")
    return content


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Adds the file's name to OSErrors of the body that have none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:  # one of ours says all in its text
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(tensors: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 over names, dtypes, shapes and bytes of `tensors`, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.asarray(tensors[name], order="C")
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def write_tensors(path: str | os.PathLike, tensors: dict[str, np.ndarray], header: dict) -> None:
    """Writes tensors and a JSON header as `write_bytes` does, with a hash over the whole file."""
    # Not `ascontiguousarray`, which would make vectors of scalars.
    tensors = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    content = save(tensors, {_HEADER: json.dumps({_HASH: _UNKNOWN, **header})})
    place = _PLACE_OF_HASH.search(content)
    start, end = place.span(1)
    write_bytes(path, b"".join((content[:start], _hash(content, place).encode(), content[end:])))


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the tensors, sorted by name, and the header of a file that `write_tensors` wrote.

    Earlier versions hashed the tensors only. What they wrote is read too, with a warning.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
        ValueError: if it is damaged, edited or of another origin.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content, text = _read(path)
    place = _PLACE_OF_HASH.search(content, 0, 8 + len(text))
    if place and place[1].decode() != _hash(content, place):
        raise ValueError(f"{path}: damaged or edited, its content is not what was written")
    try:
        header = parse_json(json.loads(text)["__metadata__"][_HEADER], "its header")
        tensors = dict(sorted(load(content).items()))
        before = header.pop(_HASH if place else "fingerprint")
    except (SafetensorError, TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a file of this tool, or damaged ({error})") from error
    if not place:
        if before != fingerprint(tensors):
            raise ValueError(f"{path}: damaged, its tensors are not those that were written")
        # Not refused: it may be the work of days.
        warnings.warn(
            f"{path}: of an earlier version, which vouched for its tensors but not for its header; the command of "
            "train.py that made it, typed again, writes it anew",
            stacklevel=2,
        )
    return tensors, header


def _read(path):
    """Returns the bytes of a file of tensors, and those of its header; of anything else the rest is not read."""
    with naming(path), open(path, "rb") as file:
        size = file.read(8)
        text = file.read(min(int.from_bytes(size, "little"), _MAX_HEADER_BYTES))
        if not text.startswith(b"{") or f'"{_HEADER}":'.encode() not in text:
            raise ValueError(f"{path}: not a file of this tool, or damaged")
        expected, found = 8 + len(text) + _data_bytes(text), os.fstat(file.fileno()).st_size
        if found != expected:
            raise ValueError(f"{path}: damaged, it has {found:,} bytes and its header tells of {expected:,}")
        return b"".join((size, text, file.read())), text


def _data_bytes(text):
    """Returns where the last tensor ends, as the header of a file of tensors tells; 0 where it makes no sense."""
    try:
        fields = json.loads(text)
        ends = [field["data_offsets"][1] for name, field in fields.items() if name != "__metadata__"]
        return max((end for end in ends if type(end) is int), default=0)
    except (TypeError, LookupError, AttributeError, ValueError, RecursionError):
        return 0


def _hash(content, place):
    """Returns the SHA-256 of a file of tensors, with `_UNKNOWN` in the place of the hash itself."""
    content, (start, end) = memoryview(content), place.span(1)
    digest = hashlib.sha256(content[:start])
    digest.update(_UNKNOWN.encode())
    digest.update(content[end:])
    return digest.hexdigest()


@contextlib.contextmanager
def locked(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """Keeps other processes out of `folder`, which is made if it is not there; `what` names the kind of work.

    Raises:
        ValueError: if another process has it.
    """
    folder = pathlib.Path(folder)
    make_folder(folder)
    with open(folder / _LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another {what} is at work in it") from None
        yield


def is_locked(folder: str | os.PathLike) -> bool:
    """Returns whether a process has `folder`."""
    try:
        with open(pathlib.Path(folder, _LOCK_FILE)) as lock:
            # Shared: two that ask are in nobody's way, and NFS has no exclusive lock on a file that is only read.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
