"""Runs what is missing of a plan, as processes of train.py; nothing is lost when one fails or all are stopped."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time

from tfmdl.campaign.costs import Costs, duration
from tfmdl.campaign.plan import PlannedRun
from tfmdl.files import is_locked
from tfmdl.outside import printable
from tfmdl.packs import read_pack

TRAIN = (sys.executable, "-m", "tfmdl.training")
POLL_SECONDS = 0.2
LAST_LINES = 3


class Stopped(Exception):
    """The campaign was asked to stop; its runs have written their checkpoints."""


@dataclasses.dataclass
class _Process:
    run: PlannedRun
    popen: subprocess.Popen
    started: float

    @property
    def succeeded(self) -> bool:
        return self.run.finished and self.popen.returncode == 0


def check_flags(run: PlannedRun) -> None:
    """Lets train.py check the flags of a run, without running it.

    Raises:
        ValueError: if it refuses them, with what it says.
    """
    command = [*TRAIN, *run.flags, "--only_check_args"]
    checked = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace")
    if checked.returncode:
        raise ValueError(f"train.py refuses the flags of the first run: {_last_lines(checked.stderr)}")


def execute(runs: list[PlannedRun], jobs: int) -> list[PlannedRun]:
    """Runs all that are not finished, at most `jobs` at a time, and returns those that failed or could not begin.

    A run begins when what it needs is finished, and a run that fails keeps only those from running that need it. What
    an earlier campaign that was killed has left running is waited for.

    Raises:
        Stopped: on SIGINT or SIGTERM, after the processes have written checkpoints and ended.
    """
    waiting = [run for run in runs if not run.finished]
    total = len(waiting)
    run_of = {run.workdir: run for run in runs}
    costs = Costs(runs)
    running: list[_Process] = []
    failed: list[PlannedRun] = []

    def count():
        return f"{total - len(waiting) - len(running):{len(str(total))}d} of {total}"

    with _stopping(running):
        while waiting or running:
            for run in [run for run in waiting if run.finished]:  # by a process that was left running
                waiting.remove(run)
            for run in [run for run in waiting if _ready(run, run_of)][: jobs - len(running)]:
                waiting.remove(run)
                running.append(_start(run))
            for process in [process for process in running if process.popen.poll() is not None]:
                running.remove(process)
                if process.succeeded:
                    costs.learn(process.run)
                else:
                    failed.append(process.run)
                left = costs.seconds([*waiting, *(process.run for process in running)])
                _say(process, count(), left and left / jobs)
            for run in [run for run in waiting if any(run_of[need] in failed for need in run.needs)]:
                waiting.remove(run)
                failed.append(run)
                print(f"{count()}  {run.name}: left out, what it starts from failed", flush=True)
            time.sleep(POLL_SECONDS)
    return failed


def _ready(run, run_of):
    return all(run_of[need].finished for need in run.needs) and not is_locked(run.workdir)


def _start(run):
    run.workdir.mkdir(parents=True, exist_ok=True)
    with open(run.log, "a") as log:
        print(f"$ {run.command()}", file=log, flush=True)
        # A session of its own: a Ctrl-C of the terminal comes to the campaign alone, which passes it on once.
        popen = subprocess.Popen(
            [*TRAIN, *run.flags],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return _Process(run, popen, time.monotonic())


def _say(process, count, left):
    run, seconds = process.run, time.monotonic() - process.started
    if process.succeeded:
        accuracy = read_pack(run.pack).accuracy  # the last epoch's weights need not be what it took
        outcome = "done" if accuracy is None else f"{100 * accuracy:5.1f} % on val"
        eta = f"  about {duration(left)} left" if left else ""
        print(f"{count}  {run.name}: {outcome}, {duration(seconds)}{eta}", flush=True)
    else:
        said = _last_lines(run.log.read_text(errors="backslashreplace"))
        print(f"{count}  {run.name}: failed with exit code {process.popen.returncode}: {said}", flush=True)
        print(f"    see {run.log}", flush=True)


def _last_lines(text):
    return " / ".join(printable(line) for line in text.strip().splitlines()[-LAST_LINES:] if line.strip())


@contextlib.contextmanager
def _stopping(running):
    """Ends the processes in `running` if the body ends early: each writes a checkpoint on SIGTERM."""

    def stop(number, frame):
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in running:
            process.popen.terminate()
        for process in running:
            process.popen.wait()
