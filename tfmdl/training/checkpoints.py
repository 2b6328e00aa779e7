"""Checkpoints of a run: whole or not there."""

import pathlib
import re

import numpy as np

from tfmdl.files import write_tensors

KEEP = 2


class Checkpoints:
    """Numbered checkpoints in a folder, written aside and renamed; the newest `KEEP` stay.

    Args:
        directory: The folder; made on the first write.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def save(self, step: int, tensors: dict[str, np.ndarray], state: dict) -> pathlib.Path:
        """Writes the state of training after `step` steps, removes old ones, and returns the file."""
        path = self.directory / f"step-{step:09d}.safetensors"
        write_tensors(path, tensors, {"kind": "checkpoint", "step": step, **state})
        for old in self._files()[:-KEEP]:
            old.unlink()
        return path

    def latest(self) -> pathlib.Path | None:
        """Returns the newest checkpoint; `read_tensors` reads it. None if there is none."""
        files = self._files()
        return files[-1] if files else None

    def _files(self):
        pattern = re.compile(r"step-\d{9}\.safetensors")
        return sorted(path for path in self.directory.glob("step-*") if pattern.fullmatch(path.name))


def collect(groups) -> dict[str, np.ndarray]:
    """Returns the values of groups of Keras variables, {group name: variables}, by group and path."""
    named = [(f"{group}:{v.path}", v) for group, variables in groups.items() for v in variables]
    tensors = {name: np.asarray(variable) for name, variable in named}
    assert len(tensors) == len(named), "two variables of one path"
    return tensors


def restore(groups, tensors: dict[str, np.ndarray]) -> None:
    """Sets groups of Keras variables to what `collect` returned.

    Raises:
        ValueError: if a variable is missing on either side, or of another shape.
    """
    variables = {f"{group}:{variable.path}": variable for group, members in groups.items() for variable in members}
    missing = sorted(variables.keys() ^ tensors.keys())
    if missing:
        raise ValueError(f"checkpoint and run do not hold the same variables: {', '.join(missing[:5])}")
    for name, variable in variables.items():
        if tuple(variable.shape) != tensors[name].shape:
            raise ValueError(
                f"checkpoint has {name} of shape {tensors[name].shape}, the run needs {tuple(variable.shape)}"
            )
        variable.assign(tensors[name])
