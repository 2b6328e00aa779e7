"""Where the runs of a campaign are at work: one interface of whatever runs them, and processes here, which are one."""

import abc
import contextlib
import dataclasses
import subprocess
import sys

from tfmdl.campaign.plan import PlannedRun

TRAIN = ("-m", "tfmdl.training")  # what a Python is told, to do a run


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        run: The run.
        exit_code: Of its process; None if it could not be brought to an end.
        reason: Why not.
    """

    run: PlannedRun
    exit_code: int | None
    reason: str = ""

    @property
    def succeeded(self) -> bool:
        return self.run.finished and self.exit_code == 0

    @property
    def failure(self) -> str:
        """How it failed, if it did."""
        return self.reason if self.exit_code is None else f"failed with exit code {self.exit_code}"


class Lost(ConnectionError):
    """What runs the runs is gone, in one line; what they have written is there."""


class Executor(contextlib.AbstractContextManager):
    """Runs runs, several at a time, in folders that this process sees too. As a context, it lets go of what it has.

    Attributes:
        poll_seconds: How long to wait between two looks at it.
    """

    poll_seconds: float

    @property
    @abc.abstractmethod
    def places(self) -> int:
        """How many runs it can have at work now."""

    @abc.abstractmethod
    def start(self, run: PlannedRun) -> None:
        """Starts a run in its folder, which is there; what it says comes to its log, after its command."""

    @abc.abstractmethod
    def ended(self) -> list[Ended]:
        """Returns the runs that have ended since it was last asked.

        Raises:
            Lost: if it cannot tell, nor start any.
            ValueError: if runs cannot be at work there, whichever they are, saying why.
        """

    def notes(self) -> list[tuple[PlannedRun, str]]:
        """Returns what is worth a line since it was last asked: runs, and what is new of them."""
        return []

    @abc.abstractmethod
    def stop(self) -> None:
        """Ends the runs that are at work, which write checkpoints, and returns when they have ended."""

    def __exit__(self, *_):
        return None


class Local(Executor):
    """Processes on this machine.

    Args:
        places: How many at a time.
    """

    poll_seconds = 0.2

    def __init__(self, places: int):
        self._places = places
        self._processes: dict[PlannedRun, subprocess.Popen] = {}

    @property
    def places(self):
        return self._places

    def start(self, run):
        with open(run.log, "a") as log:
            print(f"$ {run.command()}", file=log, flush=True)
            # A session of its own: a Ctrl-C of the terminal comes to the campaign alone, which passes it on once.
            self._processes[run] = subprocess.Popen(
                [sys.executable, *TRAIN, *run.flags],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def ended(self):
        ended = [run for run, process in self._processes.items() if process.poll() is not None]
        return [Ended(run, self._processes.pop(run).returncode) for run in ended]

    def stop(self):
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
