"""A served model under load, whose versions change: no wrong answer, no request lost by it, memory flat.

python -m faults load --seed=0 --cases=1000000 --workdir=DIR

A case is a prediction. Each kind serves the same versions, and is asked for as many: requests of several images that
mix domains, of which one in fifty is malformed. Ten times a version takes the place of the one before.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import functools
import pathlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from faults.report import Report
from faults.swapped import make
from faults.targets import KINDS

COLUMNS = {
    "predictions": "predictions",
    "answered": "requests answered",
    "refused": "malformed, refused",
    "swaps": "swaps",
    "wrong": "wrong",
    "lost": "lost",
    "mib": "memory, MiB",
    "50": "50 %",
    "90": "90 %",
    "99": "99 %",
    "99.9": "99.9 %",
    "100": "longest, ms",
    "defect": "defects",
}
SHARES = (50, 90, 99, 99.9, 100)  # of answered requests
_MEASURED = ("mib", *(f"{share:g}" for share in SHARES))  # of which the last row has the largest
ROW = 100_000  # predictions of a row of the report
SWAPS, A_SWAP = 10, 1_000  # at most, and predictions that a swap wants
WARM_UP = 200_000  # predictions, after which
MOST_MIB = 64.0  # memory may grow by so much
_TOLD = 5  # faults of a row that the report quotes


class Rows(Report):
    """The report of a load."""

    def total(self):
        columns = {key: [row[key] for row in self.rows.values()] for key in self.columns}
        return Counter({key: (max if key in _MEASURED else sum)(values) for key, values in columns.items()})

    def cells(self, row):
        return [f"{row[key]:,.1f}" if key in _MEASURED[1:] else f"{row[key]:,.0f}" for key in self.columns]

    def as_json(self, wall_seconds):
        bounds = {"predictions of warm-up": WARM_UP, "MiB that memory may grow by": MOST_MIB}
        return {**super().as_json(wall_seconds), "bounds": bounds}


class Tally:
    """Counts what came of the requests of a kind, and makes a row of the report of each `ROW` predictions.

    Args:
        report: The report.
        kind: The kind.
        cases: How many predictions there are to be.
        memory: Returns the memory of the process under load, in MiB.
        write: Called after each row.

    Attributes:
        predictions: How many there have been.
    """

    def __init__(
        self, report: Rows, kind: str, cases: int, memory: Callable[[], float], write: Callable[[], None] = lambda: None
    ):
        self._report, self._kind, self._cases, self._memory, self._write = report, kind, cases, memory, write
        self._changed = threading.Condition()
        self.predictions = self._rows = 0
        self._warm: float | None = None
        self._begin_row()

    def add(self, what: str, predictions: int, seconds: float, why: str) -> None:
        """Counts a request: "answered", "refused" since it was malformed, "wrong" or "lost"."""
        with self._changed:
            self._counts.update({what: 1, "predictions": predictions})
            self.predictions += predictions
            if what == "answered":
                self._seconds.append(seconds)
            elif what != "refused":
                self._faults.append(f"{what}: {why}")
            if ROW * (self._rows + 1) <= self.predictions < self._cases:
                self._end_row(self._memory())
            self._changed.notify_all()

    def swapped(self) -> None:
        """Counts a swap."""
        with self._changed:
            self._counts["swaps"] += 1

    def wait(self, predictions: float, until: float, alive) -> bool:
        """Waits for so many predictions; returns False if before it is later than `until`, or `alive()` is false."""
        with self._changed:
            while time.monotonic() < until and alive():
                if self.predictions >= predictions:
                    return True
                self._changed.wait(0.5)
            return False

    def end(self, memory: float, fault: str | None) -> None:
        """Ends the last row, with the memory that there was, and perhaps with a fault that ended all."""
        with self._changed:
            self._faults += [fault] if fault else []
            self._end_row(memory)

    def _begin_row(self):
        self._counts, self._seconds, self._faults = Counter(), [], []

    def _end_row(self, mib):
        self._rows += 1
        if self._warm is None and self.predictions >= WARM_UP:
            self._warm = mib
        if self._warm is not None and mib > self._warm + MOST_MIB:
            self._faults.append(f"memory has grown from {self._warm:.0f} to {mib:.0f} MiB since the warm-up")
        latencies = 1000 * np.percentile(self._seconds or [0.0], SHARES)
        measured = {"mib": mib, **{f"{share:g}": float(one) for share, one in zip(SHARES, latencies, strict=True)}}
        why = f"{len(self._faults)}, first {'; '.join(self._faults[:_TOLD])}" if self._faults else ""
        name, told = f"{self._kind} {self._rows}", f"{ROW:,} predictions at most"
        result = "defect" if why else "survived"
        self._report.count(name, self._rows, told, result, why, {**self._counts, **measured})
        print(f"{name}: {', '.join(self._report.cells(self._report.rows[name]))} {why}", flush=True)
        self._write()
        self._begin_row()


def run(workdir: pathlib.Path, seed: int, cases: int, kinds: list[str], most_minutes: float) -> Rows:
    """Runs a load, prints its rows, and writes report.json and report.md into `workdir`.

    Args:
        workdir: A folder of its own; made if it is not there.
        seed: Of values, images and requests. Which request meets which version is a matter of time.
        cases: How many predictions of each kind.
        kinds: Keys of `KINDS`.
        most_minutes: The load of all kinds is ended after that; 0: when all predictions are there.
    """
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("WARNING")  # saving tells of every variable that it renames
    started = time.monotonic()
    swapped = make(workdir / f"made-{seed}", seed, max(1, min(SWAPS, cases // A_SWAP)))
    every = "" if kinds == list(KINDS) else f" --kind={','.join(kinds)}"
    report = Rows("load", seed, f"--cases={cases}{every}", COLUMNS)
    for kind in kinds:
        folder = workdir / kind
        folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + 60 * most_minutes / len(kinds) if most_minutes else float("inf")
        write = functools.partial(_write, report, workdir, started)
        tally = Tally(report, kind, cases, lambda: _resident(target.process), write)
        with KINDS[kind](swapped, seed, folder, tally.add) as target:
            memory, fault = _load(target, tally, cases, swapped.versions[1:], until)
        if fault is None and tally.predictions < cases:
            report.again += f" ({kind} stopped by --minutes)"
        tally.end(memory, fault)
    return report


def _write(report, workdir, started):
    report.write(workdir, time.monotonic() - started)


def _load(target, tally, cases, swaps, until):
    """Loads a target until all predictions are there, and returns its memory then, and the fault that ended it."""
    memory = 0.0
    target.begin()
    try:
        for number, version in enumerate(swaps):
            if not tally.wait((number + 0.5) * cases / len(swaps), until, target.alive):
                break
            target.swap(version)
            tally.swapped()
        tally.wait(cases, until, target.alive)
        memory = _resident(target.process)
        target.stop()
    except (ValueError, OSError, subprocess.TimeoutExpired) as error:
        return memory, f"ended: {error}"
    return memory, None


def _resident(process):
    """Returns the memory of a process, in MiB; 0 where it has ended."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
