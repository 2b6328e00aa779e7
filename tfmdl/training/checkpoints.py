"""Checkpoints of a run: whole or not there."""

import dataclasses
import pathlib
import re

import numpy as np

from tfmdl.files import read_tensors, write_tensors
from tfmdl.typed import check_types, naming_file

KEEP = 2
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of training after a step.

    Attributes:
        step: How many steps were taken.
        mid_epoch: Whether the epoch goes on after it; its running metrics are among the tensors then.
        epoch_seconds: What that epoch has taken so far.
        tensors: As `collect` returned them.
        path: The file; None before it is written.

    Raises:
        ValueError: if a field is of another type or negative.
    """

    step: int
    mid_epoch: bool
    epoch_seconds: float
    tensors: dict[str, np.ndarray]
    path: pathlib.Path | None = None

    def __post_init__(self):
        check_types(self)
        for name in ("step", "epoch_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative; received {getattr(self, name)}")


class Checkpoints:
    """Numbered checkpoints in a folder, written aside and renamed; the newest `KEEP` stay.

    Args:
        directory: The folder; made on the first write.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def save(self, checkpoint: Checkpoint) -> pathlib.Path:
        """Writes a checkpoint, removes old ones, and returns the file.

        Raises:
            OSError: if it cannot be written; those before it are still there then.
        """
        path = self.directory / f"step-{checkpoint.step:09d}.safetensors"
        state = {name: getattr(checkpoint, name) for name in ("step", "mid_epoch", "epoch_seconds")}
        write_tensors(path, checkpoint.tensors, {"kind": "checkpoint", **state})
        # A later one is damaged: the run went on from an earlier one. It is replaced when the run gets there.
        for old in [file for file in self._files() if file <= path][:-KEEP]:
            old.unlink()
        return path

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the newest checkpoint that is whole, None if there is none at all, and what is wrong with later ones.

        Raises:
            ValueError: if there are checkpoints, and none is whole.
        """
        damages = []
        for path in reversed(self._files()):
            try:
                return _read(path), damages
            except ValueError as error:
                damages.append(str(error))
        if damages:
            raise ValueError(
                f"{damages[0]}; no earlier checkpoint is whole. Without {self.directory} the run begins anew"
            )
        return None, []

    def _files(self):
        return sorted(path for path in self.directory.glob("step-*") if _NAME.fullmatch(path.name))


def _read(path):
    tensors, header = read_tensors(path)
    with naming_file(path):
        kind = header.pop("kind")
        checkpoint = Checkpoint(**header, tensors=tensors, path=path)
        if kind != "checkpoint" or checkpoint.step != int(_NAME.fullmatch(path.name)[1]):
            raise ValueError(f"is {kind!r} of step {checkpoint.step}, not the checkpoint that its name says")
    return checkpoint


def collect(groups) -> dict[str, np.ndarray]:
    """Returns the values of groups of Keras variables, {group name: variables}, by group and path."""
    named = [(f"{group}:{v.path}", v) for group, variables in groups.items() for v in variables]
    tensors = {name: np.asarray(variable) for name, variable in named}
    assert len(tensors) == len(named), "two variables of one path"
    return tensors


def restore(groups, tensors: dict[str, np.ndarray]) -> None:
    """Sets groups of Keras variables to what `collect` returned.

    Integers may have more or fewer bits: each backend counts steps in its own.

    Raises:
        ValueError: if a variable is missing on either side, or of another shape or dtype.
    """
    variables = {f"{group}:{variable.path}": variable for group, members in groups.items() for variable in members}
    missing = sorted(variables.keys() ^ tensors.keys())
    if missing:
        raise ValueError(f"checkpoint and run do not hold the same variables: {', '.join(missing[:5])}")
    for name, variable in variables.items():
        found, wanted = ((tuple(value.shape), str(value.dtype)) for value in (tensors[name], variable))
        if found[0] != wanted[0] or _kind(found[1]) != _kind(wanted[1]):
            raise ValueError(
                f"checkpoint has {name} of shape {found[0]} and {found[1]}, the run needs {wanted[0]} and {wanted[1]}"
            )
        variable.assign(tensors[name].astype(wanted[1]))


def _kind(dtype):
    return "integer" if dtype in ("int32", "int64") else dtype
