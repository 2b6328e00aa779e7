"""What pictures show of all epochs of a run, in a file."""

import pathlib

import numpy as np

from tfmdl.files import read_tensors, write_tensors

_KIND = "history"


class History:
    """Arrays with a row per epoch, kept in a file: a run that goes on also shows the epochs before.

    Args:
        path: The file.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._columns = {}

    def go_on(self, step: int) -> None:
        """Takes what the file, if there is one, has of the epochs that ended by `step`.

        Raises:
            ValueError: if it is damaged or another file, naming it.
        """
        if not self._path.exists():
            return
        try:
            columns, header = read_tensors(self._path)
            if header.get("kind") != _KIND:
                raise ValueError(f"{self._path}: not the epochs of a run")
        except ValueError as error:
            raise ValueError(f"{error}. Only pictures need the file: move it away") from error
        kept = columns["step"] <= step
        self._columns = {name: list(rows[kept]) for name, rows in columns.items()}

    def add(self, epoch: int, step: int, rows: dict[str, np.ndarray]) -> None:
        """Adds the rows of the epoch that ended with `step`, by name, and writes the file.

        Raises:
            OSError: if it cannot be written.
        """
        rows = {"epoch": np.array(epoch), "step": np.array(step), **rows}
        if self._columns.keys() != rows.keys():
            self._columns = {name: [] for name in rows}
        for name, row in rows.items():
            self._columns[name].append(row)
        write_tensors(self._path, {name: np.stack(rows) for name, rows in self._columns.items()}, {"kind": _KIND})

    @property
    def epochs(self) -> list[int]:
        """Numbers of the epochs."""
        return [int(epoch) for epoch in self._columns.get("epoch", ())]

    def rows(self, name: str) -> list[np.ndarray]:
        """Returns the rows of that name, one per epoch."""
        return self._columns.get(name, [])
