"""What a disk holds after a power cut: what was not flushed to it may be gone, whatever came later.

The files of a trace are made again up to some operation. Of a file there is what it held at its last fsync, of a folder
the names that it had at its own; of what came after that some is there, and some is not, as if by chance.
"""

import dataclasses
import os
import pathlib
import random

from faults.watched import Done, Operation

ZEROS = 0.25  # of the files with unwritten bytes: they have their length, and zeros in place of all of it


@dataclasses.dataclass(eq=False)
class _File:
    content: bytearray
    durable: bytes
    pending: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class _Folder:
    entries: dict = dataclasses.field(default_factory=dict)
    durable: dict = dataclasses.field(default_factory=dict)
    synced: int = 0


@dataclasses.dataclass(frozen=True)
class _Change:
    """A name that came, if `file` is there, or went; of a rename there are two, which go together."""

    folder: _Folder
    name: str
    file: _File | _Folder | None
    place: int
    also: "_Folder | None" = None


class Disk:
    """A folder on a disk, as a trace leaves it.

    Args:
        folder: As it was when the trace began.
    """

    def __init__(self, folder: pathlib.Path):
        self._root = os.path.realpath(folder)
        self._top = _read(self._root)
        self._changes: list[_Change] = []
        self._place = 0

    def play(self, done: Done) -> None:
        """Does an operation."""
        self._place += 1
        folder, name = self._parent(done.path)
        found = folder.entries.get(name) if folder else None
        if done.path == self._root:
            found = self._top
        if folder is None and found is None:
            return
        if done.kind == Operation.OPEN:
            if found is None:
                found = _File(bytearray(), b"")
                self._change(folder, name, found)
            if done.flags & os.O_TRUNC:
                _cut(found, 0)
        elif done.kind == Operation.MKDIR:
            self._change(folder, name, _Folder())
        elif done.kind in (Operation.UNLINK, Operation.RMDIR):
            self._change(folder, name, None)
        elif done.kind == Operation.RENAME:
            target, new = self._parent(os.fsdecode(done.data))
            self._change(folder, name, None, target)
            self._change(target, new, found, folder)
        elif found is None:
            pass  # a file that has no name any more
        elif done.kind == Operation.WRITE:
            found.pending.append((done.offset, done.data))
            _write(found.content, done.offset, done.data)
        elif done.kind == Operation.TRUNCATE:
            _cut(found, done.offset)
        elif done.kind == Operation.FSYNC and isinstance(found, _File):
            found.durable, found.pending = bytes(found.content), []
        elif done.kind == Operation.FSYNC:
            found.synced = self._place

    def left(self, folder: pathlib.Path, rng: random.Random | None = None) -> None:
        """Writes what is on the disk into a folder that is empty.

        Args:
            folder: The folder.
            rng: Draws what of the rest is there, too; without it nothing is.
        """
        cuts = {}

        def reached(change):
            for one in filter(None, (change.folder, change.also)):
                if one not in cuts:
                    cuts[one] = rng.randint(one.synced, self._place) if rng else one.synced
                if change.place <= cuts[one]:
                    return True
            return False

        entries = {}
        for change in self._changes:
            if reached(change):
                now = entries.setdefault(change.folder, dict(change.folder.durable))
                if change.file is None:
                    now.pop(change.name, None)
                else:
                    now[change.name] = change.file
        _put(self._top, folder, entries, rng)

    def now(self, folder: pathlib.Path) -> None:
        """Writes what is there without a power cut, as after a kill, into a folder that is empty."""
        _put_now(self._top, folder)

    def _parent(self, path):
        """Returns the folder of a path, None where it is not of this disk, and its name there."""
        if not path.startswith(self._root + "/"):
            return None, ""
        *parents, name = path[len(self._root) + 1 :].split("/")
        folder = self._top
        for parent in parents:
            folder = folder.entries.get(parent)
            if not isinstance(folder, _Folder):
                return None, ""
        return folder, name

    def _change(self, folder, name, file, also=None):
        self._changes.append(_Change(folder, name, file, self._place, also))
        if file is None:
            folder.entries.pop(name, None)
        else:
            folder.entries[name] = file


def _read(path):
    folder = _Folder()
    for entry in os.scandir(path):
        if entry.is_dir():
            folder.entries[entry.name] = _read(entry.path)
        else:
            content = pathlib.Path(entry.path).read_bytes()
            folder.entries[entry.name] = _File(bytearray(content), content)
    folder.durable = dict(folder.entries)
    return folder


def _write(content, offset, data):
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _cut(file, length):
    file.pending.append((length, None))
    _resize(file.content, length)


def _resize(content, length):
    del content[length:]
    content.extend(bytes(length - len(content)))


def _content(file, rng):
    if rng is None or not file.pending:
        return file.durable
    if rng.random() < ZEROS:
        return bytes(len(file.content))
    content = bytearray(file.durable)
    for offset, data in file.pending:
        if rng.random() < 0.5:
            _resize(content, offset) if data is None else _write(content, offset, data)
    return bytes(content)


def _put(folder, path, entries, rng):
    for name, one in entries.get(folder, folder.durable).items():
        if isinstance(one, _Folder):
            (path / name).mkdir()
            _put(one, path / name, entries, rng)
        else:
            (path / name).write_bytes(_content(one, rng))


def _put_now(folder, path):
    for name, one in folder.entries.items():
        if isinstance(one, _Folder):
            (path / name).mkdir()
            _put_now(one, path / name)
        else:
            (path / name).write_bytes(one.content)
