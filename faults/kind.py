"""What all kinds of input have in common, and how a meaning is compared with another."""

import json
import pathlib
import random

from faults import mutations

MIB = 1 << 20


class AmbiguousError(Exception):
    """A JSON text says two things."""


def plainly(text: bytes):
    """Returns what a JSON text says, as Python reads it; AmbiguousError where a key stands twice."""

    def pairs(items):
        if len(dict(items)) < len(items):
            raise AmbiguousError("a key stands twice")
        return dict(items)

    return json.loads(text, object_pairs_hook=pairs)


def difference(said, read, where="") -> str | None:
    """Returns where `read` is not what a file said, None if it is. What a file leaves null is any default."""
    if said is None:
        return None
    if isinstance(said, dict) and isinstance(read, dict):
        for key, value in said.items():
            if key not in read:
                return f"{where}/{key} is not read"
            if found := difference(value, read[key], f"{where}/{key}"):
                return found
        return None
    if isinstance(said, list) and isinstance(read, (list, tuple)):
        if len(said) != len(read):
            return f"{where}: {len(read)} of {len(said)} are read"
        pairs = enumerate(zip(said, read, strict=True))
        return next(filter(None, (difference(*pair, f"{where}/{i}") for i, pair in pairs)), None)
    numbers = isinstance(said, (int, float)) and isinstance(read, (int, float))
    alike = said == read and (type(said) is type(read) or (numbers and bool not in (type(said), type(read))))
    return None if alike else f"{where}: says {said!r:.80}, is read as {read!r:.80}"


class Kind:
    """One kind of input.

    Attributes:
        name: What `--kind` calls it.
        weight: Its share of the cases.
        mib: How much memory a case may take on top of what the process has.
        named: What an error must name: one of these.
        lines: Whether an error may have several lines.
    """

    name = ""
    weight = 10
    mib = 256
    named: tuple[str, ...] = ()
    lines = False

    def make(self, folder: pathlib.Path) -> None:
        """Writes sound files."""
        raise NotImplementedError

    def ready(self, folder: pathlib.Path) -> None:
        """Reads the sound files, once per process; what they mean is kept."""
        self.sound = self.read(folder)

    def spoil(self, folder: pathlib.Path, rng: random.Random) -> tuple[str, bool]:
        """Spoils the files; returns what was done, and whether what is read must be what was there before."""
        raise NotImplementedError

    def read(self, folder: pathlib.Path):
        """Reads the files as a command does."""
        raise NotImplementedError

    def said(self, folder: pathlib.Path):
        """Returns what the spoiled files say, as an independent reader reads them."""
        raise NotImplementedError

    def fault(self, folder: pathlib.Path, found, strict: bool) -> str | None:
        """Returns what is wrong with what was read."""
        if strict:
            return None if found == self.sound else "is accepted, and is not what was written"
        try:
            return difference(self.said(folder), found)
        except Exception as error:
            return f"is accepted, and another reader refuses it ({type(error).__name__}: {error})"


class JsonKind(Kind):
    """A JSON file."""

    file = ""
    pipes = True  # whether a pipe may stand in its place

    def spoil(self, folder, rng):
        path = folder / self.file
        draw = rng.random()
        if draw < 0.06:
            return mutations.spoil_file(path, rng, self.pipes), True
        if draw < 0.3:
            return mutations.rewrite(path, mutations.spoil_bytes, rng), False
        return self.spoil_structure(path, rng), False

    def spoil_structure(self, path, rng):
        """Spoils what the file says, and returns how."""
        content, told = mutations.spoil_json(self.content(path), rng)
        path.write_bytes(content)
        return told

    def content(self, path):
        return json.loads(path.read_bytes())

    @property
    def named(self):
        return (self.file,)
