"""What a command does to files below a folder: counted, traced, and at one operation killed or failed.

It is done by watched.c, which is compiled when it is needed and preloaded: it sees what goes through the C library, as
do the files of Python and of TensorFlow. Processes take part by an environment variable, and so do those they start.
"""

import dataclasses
import enum
import mmap
import os
import pathlib
import signal
import struct
from collections.abc import Iterator

from faults.compiler import compile_c

SOURCE = pathlib.Path(__file__).with_name("watched.c")
VARIABLE = "FAULTS_STATE"
_STATE = struct.Struct("=QQQIIII4096s4096s")
_RECORD = struct.Struct("=IIQQqII")


class Operation(enum.IntEnum):
    """What is counted; `OPEN` is of files that may be written."""

    OPEN = 0
    WRITE = 1
    FSYNC = 2
    RENAME = 3
    MKDIR = 4
    UNLINK = 5
    RMDIR = 6
    LINK = 7
    TRUNCATE = 8


class Action(enum.IntEnum):
    """What happens at the operation that a fault is at; halfway is half of what is to be written."""

    NOTHING = 0
    SIGNAL_BEFORE = 1
    SIGNAL_AFTER = 2
    SIGNAL_HALFWAY = 3
    ERROR = 4


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a command.

    Attributes:
        at: The number of an operation, from 1; 0: it is only counted.
        action: What happens at it.
        number: Of the signal, or of the error.
        lasting: All later operations fail, too.
        kinds: The operations that are counted; all if it is empty.
    """

    at: int = 0
    action: Action = Action.NOTHING
    number: int = 0
    lasting: bool = False
    kinds: tuple[Operation, ...] = ()

    def __str__(self):
        if self.action == Action.ERROR:
            later = " and all later ones" if self.lasting else ""
            return f"{os.strerror(self.number)} at operation {self.at}{later}"
        where = self.action.name.removeprefix("SIGNAL_").lower()
        return f"{signal.Signals(self.number).name} {where} operation {self.at}"


NO_FAULT = Fault()


@dataclasses.dataclass(frozen=True)
class Done:
    """An operation of a trace.

    Attributes:
        kind: What it is.
        number: Which, from 1: those that fail are counted and not traced.
        path: Of the file or folder.
        inode: Of the file that was opened, written, synced or cut.
        flags: That it was opened with.
        offset: Where it was written, or cut.
        data: What was written, or the path after a rename.
    """

    kind: Operation
    number: int
    path: str
    inode: int
    flags: int
    offset: int
    data: bytes


def library(folder: pathlib.Path) -> pathlib.Path:
    """Compiles watched.c into a folder and returns the library.

    Raises:
        FileNotFoundError, ValueError: as `compile_c`.
    """
    path = folder / "watched.so"
    compile_c("-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-ldl", "-lpthread")
    return path


class Watch:
    """A command's file operations below a folder.

    Args:
        state: File that the processes share.
        folder: What is watched.
        fault: What happens.
        trace: File that operations are appended to.
    """

    def __init__(
        self,
        state: pathlib.Path,
        folder: pathlib.Path,
        fault: Fault = NO_FAULT,
        trace: pathlib.Path | None = None,
    ):
        kinds = sum(1 << kind for kind in fault.kinds or Operation)
        if trace:
            trace.unlink(missing_ok=True)
        watched = os.path.realpath(folder).encode()
        fields = (0, fault.at, 0, kinds, fault.action, fault.number, fault.lasting)
        state.write_bytes(_STATE.pack(*fields, watched, str(trace or "").encode()))
        self._state = state
        self.environment = {VARIABLE: str(state)}

    @property
    def count(self) -> int:
        """How many operations there were."""
        return self._fields()[0]

    @property
    def fired(self) -> int:
        """How many faults there were."""
        return self._fields()[2]

    def _fields(self):
        with open(self._state, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _STATE.unpack_from(content)


def operations(trace: pathlib.Path) -> Iterator[Done]:
    """Yields what a trace has."""
    content = trace.read_bytes() if trace.exists() else b""
    start = 0
    while start < len(content):
        kind, flags, number, inode, offset, path_bytes, rest_bytes = _RECORD.unpack_from(content, start)
        start += _RECORD.size
        path = os.fsdecode(content[start : start + path_bytes])
        start += path_bytes
        yield Done(Operation(kind), number, path, inode, flags, offset, content[start : start + rest_bytes])
        start += rest_bytes
