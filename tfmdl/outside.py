"""Texts from outside: what a file, record or terminal could not take is refused by name, or made plain."""

import collections
import json
import os
import pathlib
import reprlib
import stat
from typing import Any

MAX_JSON_BYTES = 1 << 28  # more than any that the tool writes


def parse_json(text: str | bytes, told_by: str) -> Any:
    """Returns what a JSON text holds.

    Args:
        text: The text; bytes are UTF-8, -16 or -32.
        told_by: What messages begin with, as the file's name.

    Raises:
        ValueError: if it is no JSON, has NaN or an infinity, a key twice in one object, or nests too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"{told_by}: is no JSON that can be read: it nests too deep") from None
    except ValueError as error:
        raise ValueError(f"{told_by}: is no JSON ({error})") from error


def read_at_most(path: str | os.PathLike, most: int = MAX_JSON_BYTES) -> bytes:
    """Returns the bytes of a file that is read whole.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has more than `most` bytes, naming it; nothing is read then.
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode) and status.st_size > most:
        raise ValueError(f"{path}: expected at most {most:,} bytes; received {status.st_size:,}")
    return pathlib.Path(path).read_bytes()


def is_int64(value: Any) -> bool:
    """Returns whether `value` is an integer that a record can hold."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_utf8(text: Any) -> bool:
    """Returns whether `text` is a string that UTF-8 can hold.

    Names of files and flags in another encoding, and JSON's "\\ud800", have surrogates that no record can.
    """
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:
        return False


def printable(text: str) -> str:
    """Returns `text` on one line and without what a terminal would obey: such characters as Python escapes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Python would take the last one without a word.
        times = collections.Counter(key for key, _ in pairs)
        twice = next(key for key in times if times[key] > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} stands twice in one object")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"expected numbers; received {constant}")
