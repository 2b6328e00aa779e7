"""metrics.jsonl of a run: a line of JSON per epoch."""

import json
import os
import pathlib
import reprlib

import numpy as np

from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.files import flush, naming, write_text
from tfmdl.outside import is_int64, parse_json, read_at_most


def metrics_line(
    epoch: int,
    step: int,
    logs: dict[str, float],
    learning_rate: float,
    images_per_second: float,
    evaluations: dict[str, Evaluation],
) -> dict:
    """Returns the line of an epoch.

    Args:
        epoch: Which, from 0.
        step: The last step of it, from 1.
        logs: Of Keras, with "cross_entropy" and "accuracy" over the epoch.
        learning_rate: Of the epoch.
        images_per_second: That were trained on.
        evaluations: By domain, on val; of several domains the line has the mean, too.
    """
    line = {
        "epoch": epoch + 1,
        "step": step,
        "train/loss": logs["cross_entropy"],
        "train/accuracy": logs["accuracy"],
        "learning_rate": learning_rate,
        "images_per_second": images_per_second,
    }
    if evaluations:
        values = evaluations.values()
        line["val/loss"] = float(np.mean([evaluation.loss for evaluation in values]))
        line["val/accuracy"] = float(np.mean([evaluation.accuracy for evaluation in values]))
    if len(evaluations) > 1:
        for domain, evaluation in evaluations.items():
            line[f"val/loss/{domain}"] = evaluation.loss
            line[f"val/accuracy/{domain}"] = evaluation.accuracy
    return line


def read_metrics(path: pathlib.Path) -> list[dict]:
    """Returns the lines of a run's metrics.jsonl, none if there is no such file.

    A last line that was cut short, as a kill leaves it, is left out.

    Raises:
        ValueError: if another line is not one that a run writes, naming file and line, or it is no file.
    """
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise ValueError(f"{path}: is not a file")
    *whole, _ = read_at_most(path).split(b"\n")
    return [_parsed(f"{path}, line {number}", line) for number, line in enumerate(whole, 1)]


def append_metrics(path: pathlib.Path, line: dict) -> None:
    """Adds the line of an epoch, and has it on the disk: the checkpoint that follows is not to be without it.

    Raises:
        OSError: if it cannot be written, naming the file.
    """
    with naming(path), open(path, "a") as file:
        file.write(_written(line))
        file.flush()
        os.fsync(file.fileno())
    flush(path.parent)


def truncate_metrics(path: pathlib.Path, step: int) -> None:
    """Drops the lines of epochs that ended after `step`; errors as `read_metrics` and `write_text`."""
    if path.is_file():
        write_text(path, "".join(_written(line) for line in read_metrics(path) if line["step"] <= step))


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
