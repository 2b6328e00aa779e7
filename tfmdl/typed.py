"""Dataclasses whose fields are what their annotations say: what comes out of a JSON file may be anything."""

import contextlib
import math
import os
import reprlib
import types
import typing
from collections.abc import Iterator

from tfmdl.outside import is_int64, is_utf8


def check_types(instance) -> None:
    """Checks the fields of a dataclass against their annotations.

    These may be classes, unions, and tuples, lists and dicts of such. Numbers must be finite, integers of 64 bits,
    strings UTF-8; a whole number is a float, too, but a bool is no number.

    Raises:
        ValueError: for the first field that is something else, naming it.
    """
    for name, kind in typing.get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        if not _holds(value, kind):
            told = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else kind
            raise ValueError(f"`{name}` must be {told}; received {reprlib.repr(value)}")


def checked_fields(value) -> dict:
    """Returns what a file says of an object, as a dict of its own.

    Raises:
        ValueError: if it is something else: of a list of pairs a dict could be made, too.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected an object; received {reprlib.repr(value)}")
    return dict(value)


@contextlib.contextmanager
def naming_file(path: str | os.PathLike) -> Iterator[None]:
    """Adds the file's name to errors of the body about fields: missing, unknown or impossible ones.

    Raises:
        ValueError: for any KeyError, TypeError or ValueError of the body.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: its fields are not those of this version of the tool ({error})") from error


def _holds(value, kind):
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_holds(value, one) for one in of)
    if origin is dict:
        return isinstance(value, dict) and all(_holds(k, of[0]) and _holds(v, of[1]) for k, v in value.items())
    if origin is list or (origin is tuple and of[-1] is Ellipsis):
        return isinstance(value, origin) and all(_holds(one, of[0]) for one in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(of) and all(map(_holds, value, of))
    if kind is str:
        return is_utf8(value)
    if kind is int:
        return is_int64(value)
    if kind is float:
        return is_int64(value) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)
