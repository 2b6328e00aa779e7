"""metrics.jsonl of a run: a line of JSON an epoch."""

import json
import os
import pathlib
import reprlib

from tfmdl.files import naming, write_text
from tfmdl.outside import is_int64, parse_json

METRICS_FILE = "metrics.jsonl"


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """Returns the lines of a run's metrics.jsonl, none if there is no such file.

    A last line that was cut short, as a kill leaves it, is left out.

    Raises:
        ValueError: if another line is not one that a run writes, naming file and line.
    """
    path = pathlib.Path(workdir, METRICS_FILE)
    if not path.is_file():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    return [_parsed(f"{path}, line {number}", line) for number, line in enumerate(whole, 1)]


def append_metrics(workdir: str | os.PathLike, line: dict) -> None:
    """Adds the line of an epoch.

    Raises:
        OSError: if it cannot be written, naming the file.
    """
    path = pathlib.Path(workdir, METRICS_FILE)
    with naming(path), open(path, "a") as file:
        file.write(_written(line))


def truncate_metrics(workdir: str | os.PathLike, step: int) -> None:
    """Drops the lines of epochs that ended after `step`; errors as `read_metrics` and `write_text`."""
    path = pathlib.Path(workdir, METRICS_FILE)
    if path.is_file():
        write_text(path, "".join(_written(line) for line in read_metrics(workdir) if line["step"] <= step))


def _written(line):
    return json.dumps(line) + "\n"


def _parsed(told_by, text):
    line = parse_json(text, told_by)
    numbers = isinstance(line, dict) and all(type(value) in (int, float) for value in line.values())
    if not numbers or "images_per_second" not in line or not all(is_int64(line.get(n)) for n in ("epoch", "step")):
        raise ValueError(
            f"{told_by}: expected an object of numbers, with epoch, step and images_per_second; received "
            f"{reprlib.repr(line)}. The run does not need the file: mend it, or move it away"
        )
    return line
