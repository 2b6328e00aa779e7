"""Locks on folders that one process at a time may write; they end with the process, however it ends."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

_LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """Keeps other processes out of `folder`, which is made if it is not there; `what` names the kind of work.

    Raises:
        ValueError: if another process has it.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
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
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
