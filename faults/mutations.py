"""Bytes and JSON, spoiled: each mutation is a function of what is given and of a `random.Random`."""

import copy
import json
import os
import pathlib
import random
import re
import shutil
from collections.abc import Callable

# What stands in no field, or only in some: of another type, out of range, or no text.
ODD = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400,
    float("nan"), float("inf"), "", "x", "0", "x" * 5000, "\ud800", "\0", "a\nb", "\x1b[31m", "../../etc/passwd", "/",
    "[red]", [], {}, [[]], [None], {"": None}, {"a": {"a": {"a": []}}}, "é\u202e", "train", "-1",
)  # fmt: skip
_KEY = re.compile(rb'"[^"\\]*": ?')
_MORE_KEYS = ("extra", "", "kind", "name", "\ud800", "options", "network", "preprocessing", "experts", "init_from")


def spoil_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns `content` with one to three changes of bits, bytes or blocks, and what they are."""
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(_OF_BYTES))
        content = _OF_BYTES[name](bytearray(content), rng)
        told.append(name)
    return bytes(content), ", ".join(told)


def spoil_json(content, rng: random.Random) -> tuple[bytes, str]:
    """Returns a JSON text of `content` with one to three changes, and what they are."""
    content = json.loads(json.dumps(content))
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content, name = _spoil_value(content, rng)
        told.append(name)
    text = json.dumps(content).encode()
    if rng.random() < 0.3:
        name = rng.choice(("a key twice", "a key twice", "a key twice", *_OF_TEXT))
        text = _OF_TEXT[name](text, rng)
        told.append(name)
    return text, ", ".join(told)


def rewrite(path: pathlib.Path, spoil: Callable, rng: random.Random) -> str:
    """Puts in the place of a file what `spoil` makes of its content, and returns what `spoil` says that it is."""
    content, told = spoil(path.read_bytes(), rng)
    path.write_bytes(content)
    return told


def spoil_file(path: pathlib.Path, rng: random.Random, pipes: bool = True, hole: int = 1 << 30) -> str:
    """Puts what is no readable file in the place of `path`, or `hole` zeros behind it, and returns what that is."""
    name = rng.choice([name for name in _OF_FILES if pipes or name != "a pipe"])
    if name == "with a hole behind it":
        os.truncate(path, path.stat().st_size + hole)
        return name
    if name != "emptied":
        path.unlink()
    _OF_FILES[name](path)
    return name


def is_odd(path: pathlib.Path) -> bool:
    """Returns whether `path` is no file that can be read."""
    return not path.is_file()


def _spoil_value(content, rng):
    places = list(_places(content))
    holder, key = rng.choice(places) if places else (None, None)
    action = rng.choice(("odd", "odd", "odd", "removed", "added", "of another type", "swapped", "repeated"))
    if holder is None:
        return _odd(rng), "odd"
    value = holder[key]
    if action == "odd":
        holder[key] = _odd(rng)
    elif action == "removed":
        del holder[key]
    elif action == "added":
        if isinstance(holder, list):
            holder.insert(rng.randint(0, len(holder)), _odd(rng))
        else:
            holder[rng.choice(_MORE_KEYS)] = _odd(rng)
    elif action == "of another type":
        holder[key] = _retyped(value, rng)
    elif action == "swapped":
        other, place = rng.choice(places)
        try:
            holder[key], other[place] = json.loads(json.dumps(other[place])), json.loads(json.dumps(value))
        except (LookupError, TypeError):
            holder[key] = None
    else:
        holder[key] = [value] * rng.choice((2, 1000))
    return content, f"{key!r} {action}"


def _odd(rng):
    return copy.deepcopy(rng.choice(ODD))  # what comes next may change it


def _places(content):
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def _retyped(value, rng):
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return rng.choice((str(value), float(value) if abs(value) < 1e300 else 0.0, [value], value + 1, -value))
    if isinstance(value, str):
        return rng.choice(([value], {value: value}, value.upper(), value + "\n", value + "\0", " " + value))
    if isinstance(value, list):
        return rng.choice(({str(i): one for i, one in enumerate(value)}, value[::-1], value[:1], str(value)))
    return list(value.items()) if isinstance(value, dict) else 0


def _flip_bit(content, rng):
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _set_byte(content, rng):
    if content:
        content[rng.randrange(len(content))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return content


def _flip_early_bit(content, rng):
    if content:
        content[rng.randrange(min(64, len(content)))] ^= 1 << rng.randrange(8)
    return content


def _cut(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def _cut_little(content, rng):
    return content[: -rng.randint(1, 16)]


def _extend(content, rng):
    return content + rng.choice((bytes(rng.randint(1, 600)), rng.randbytes(rng.randint(1, 600)), content))


def _swap_blocks(content, rng):
    if len(content) < 4:
        return content
    size = rng.randint(1, min(len(content) // 2, 600))
    a, b = sorted((rng.randrange(len(content) - size + 1), rng.randrange(len(content) - size + 1)))
    b = max(b, a + size)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def _zeros(content, rng):
    start = rng.randrange(len(content) + 1)
    size = rng.randint(1, 600)
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


def _removed(content, rng):
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randint(1, 64) :]


def _inserted(content, rng):
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(rng.randint(1, 64)) + content[start:]


def _number(content, rng):
    """Two, four or eight bytes become an extreme number, of either byte order."""
    size = rng.choice((2, 4, 8))
    if len(content) < size:
        return content
    start = rng.randrange(len(content) - size + 1)
    number = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 0xFFFF))
    content[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return content


def _key_twice(text, rng):
    found = list(_KEY.finditer(text))
    if not found:
        return text
    key = rng.choice(found)
    odd = json.dumps(rng.choice(ODD)).encode()
    return text[: key.start()] + key[0] + odd + b", " + text[key.start() :]


_OF_BYTES = {
    "a bit": _flip_bit,
    "a bit of the beginning": _flip_early_bit,
    "a byte": _set_byte,
    "cut": _cut,
    "cut by little": _cut_little,
    "extended": _extend,
    "blocks swapped": _swap_blocks,
    "zeros": _zeros,
    "bytes removed": _removed,
    "bytes inserted": _inserted,
    "a number": _number,
}
_OF_TEXT = {
    "a key twice": _key_twice,
    "too deep": lambda text, rng: b"[" * 100_000,
    "deep": lambda text, rng: b'{"a":' * 900 + text + b"}" * 900,
    "a number of 5000 digits": lambda text, rng: re.sub(rb"\d+", b"9" * 5000, text, count=1),
    "UTF-16": lambda text, rng: text.decode().encode("utf-16"),
    "a byte order mark": lambda text, rng: b"\xef\xbb\xbf" + text,
    "no UTF-8": lambda text, rng: text.replace(b"a", b"\xff", 1),
    "two texts": lambda text, rng: text + text,
    "a comment": lambda text, rng: text + b"\n# end",
    "spaces": lambda text, rng: text + b" \n" * 100,
    "nothing": lambda text, rng: b"",
}
_OF_FILES = {
    "emptied": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "with a hole behind it": None,
    "not there": lambda path: shutil.rmtree(path, ignore_errors=True),
}
