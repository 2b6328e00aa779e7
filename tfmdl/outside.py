"""Texts from outside: what a file, record or terminal could not take is refused by name, or made plain."""

import json
from typing import Any


def parse_json(text: str | bytes, told_by: str) -> Any:
    """Returns what a JSON text holds.

    Args:
        text: The text; bytes are UTF-8, -16 or -32.
        told_by: What messages begin with, as the file's name.

    Raises:
        ValueError: if it is no JSON, has NaN or an infinity, or nests too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{told_by}: is no JSON that can be read: it nests too deep") from None
    except ValueError as error:
        raise ValueError(f"{told_by}: is no JSON ({error})") from error


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


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"expected numbers; received {constant}")
