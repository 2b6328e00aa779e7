"""Runs what is missing of a plan, each run a process of train.py; nothing is lost when one fails or all are stopped."""

import contextlib
import signal
import subprocess
import sys
import time

from tfmdl.campaign.costs import Costs, duration
from tfmdl.campaign.executors import TRAIN, Executor
from tfmdl.campaign.plan import PlannedRun
from tfmdl.files import is_locked
from tfmdl.outside import printable
from tfmdl.packs import read_pack

LAST_LINES = 3


class Stopped(Exception):
    """The campaign was asked to stop; its runs have written their checkpoints."""


def check_flags(run: PlannedRun) -> None:
    """Lets train.py check the flags of a run, without running it.

    Raises:
        ValueError: if it refuses them, with what it says.
    """
    command = [sys.executable, *TRAIN, *run.flags, "--only_check_args"]
    checked = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace")
    if checked.returncode:
        raise ValueError(f"train.py refuses the flags of the first run: {_last_lines(checked.stderr)}")


def execute(runs: list[PlannedRun], executor: Executor) -> list[PlannedRun]:
    """Runs all that are not finished, and returns those that failed or could not begin.

    A run begins when what it needs is finished, and a run that fails keeps only those from running that need it. What
    an earlier campaign that was killed has left running is waited for.

    Args:
        runs: Of the campaign.
        executor: What runs them, as many at a time as it has places for.

    Raises:
        Lost: if the executor is.
        Stopped: on SIGINT or SIGTERM, after the runs have written checkpoints and ended.
        ValueError: if the executor can do no run.
    """
    waiting = [run for run in runs if not run.finished]
    total = len(waiting)
    run_of = {run.workdir: run for run in runs}
    costs = Costs(runs)
    running: dict[PlannedRun, float] = {}  # since when
    failed: list[PlannedRun] = []

    def say(run, text):
        done = total - len(waiting) - len(running)
        print(f"{done:{len(str(total))}d} of {total}  {run.name}: {text}", flush=True)

    with _stopping(executor):
        while waiting or running:
            for run in [run for run in waiting if run.finished]:  # by a process that was left running
                waiting.remove(run)
            places = executor.places
            for run in [run for run in waiting if _ready(run, run_of)][: max(0, places - len(running))]:
                waiting.remove(run)
                running[run] = time.monotonic()
                run.workdir.mkdir(parents=True, exist_ok=True)
                executor.start(run)
            for run, text in executor.notes():
                say(run, text)
            for ended in executor.ended():
                run, seconds = ended.run, time.monotonic() - running.pop(ended.run)
                if ended.succeeded:
                    costs.learn(run)
                    left = costs.seconds([*waiting, *running])
                    eta = f"  about {duration(left / places)} left" if left and places else ""
                    say(run, f"{_outcome(run)}, {duration(seconds)}{eta}")
                else:
                    failed.append(run)
                    said = _last_lines(run.log.read_text(errors="backslashreplace")) if run.log.is_file() else ""
                    say(run, f"{ended.failure}: {said}\n    see {run.log}")
            for run in [run for run in waiting if any(run_of[need] in failed for need in run.needs)]:
                waiting.remove(run)
                failed.append(run)
                say(run, "left out, what it starts from failed")
            time.sleep(executor.poll_seconds)
    return failed


def _ready(run, run_of):
    return all(run_of[need].finished for need in run.needs) and not is_locked(run.workdir)


def _outcome(run):
    accuracy = read_pack(run.pack).accuracy  # the last epoch's weights need not be what it took
    return "done" if accuracy is None else f"{100 * accuracy:5.1f} % on val"


def _last_lines(text):
    return " / ".join(printable(line) for line in text.strip().splitlines()[-LAST_LINES:] if line.strip())


@contextlib.contextmanager
def _stopping(executor):
    """Ends the runs that are at work if the body ends early: each writes a checkpoint on SIGTERM."""

    def stop(number, frame):
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        executor.stop()
