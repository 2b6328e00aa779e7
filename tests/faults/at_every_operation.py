"""Does something with files, at each of whose operations something happens: started with watched.c preloaded.

`python at_every_operation.py DEED WHAT FOLDER` prints what came of each as JSON; WHAT is killed, failed or cut.
"""

import errno
import json
import os
import pathlib
import random
import shutil
import signal
import sys

from data_prep.workspace import building
from faults.power import Disk
from faults.watched import VARIABLE, Action, Fault, Watch, operations
from tfmdl.files import flush, flush_all, write_text
from tfmdl.training.metrics import append_metrics

LINE = {"epoch": 1, "step": 10, "images_per_second": 1.0}


def replace(place):
    write_text(place / "one", "new\n" * 5000)


def two(place):
    write_text(place / "a" / "b" / "first", "first\n")
    write_text(place / "second", "second\n")


def log(place):
    append_metrics(place / "metrics.jsonl", LINE)
    write_text(place / "after", "after\n")


def build(place):
    with building(place, "pets") as folder:
        (folder / "records").write_text("records\n" * 5000)


def rebuild(place):
    for content in ("records\n", "new records\n"):
        with building(place, "pets") as folder:
            write_text(folder / "records", content)


def rename(place):
    folder = place / "aside"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("file\n")
    flush_all(folder)
    os.rename(folder, place / "whole")
    flush(place)


DEEDS = {deed.__name__: deed for deed in (replace, two, log, build, rebuild, rename)}


def begin(folder):
    place = folder / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "one").write_text("old\n")
    return place


def do(deed, place, watch):
    """Does it in a process of its own; returns the status, and what is said of an error."""
    told, tells = os.pipe()
    pid = os.fork()
    if not pid:
        os.environ.update(watch.environment)
        try:
            DEEDS[deed](place)
            os._exit(0)
        except OSError as error:
            os.write(tells, str(error).encode())
            os._exit(1)
    os.close(tells)
    with os.fdopen(told) as text:
        error = text.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), error


def found(place):
    return {str(path.relative_to(place)): path.read_text() for path in sorted(place.rglob("*")) if path.is_file()}


def faults(deed, folder, action, number):
    """Yields status, error, what is there, and what is there when it was done again, for a fault at each operation."""
    count = 1
    at = 0
    while at < count:
        at += 1
        place = begin(folder)
        watch = Watch(folder / f"state-{action}-{number}-{at}", place, Fault(at, action, number))
        status, error = do(deed, place, watch)
        if not watch.fired:
            break
        left = found(place)
        do(deed, place, Watch(folder / "state-again", place))
        yield status, error, left, found(place)
        count = at + 1


def cuts(deed, folder):
    """Yields how many operations were done, and what is left of them, of power cuts at each operation."""
    place = begin(folder)
    trace = folder / "trace"
    do(deed, place, Watch(folder / "state-trace", place, trace=trace))
    done = list(operations(trace))
    disk = Disk(begin(folder))
    left = folder / "left"
    for number, operation in enumerate(done, 1):
        disk.play(operation)
        for draw in range(16):
            shutil.rmtree(left, ignore_errors=True)
            left.mkdir()
            disk.left(left, random.Random(draw) if draw else None)
            yield number == len(done), found(left)


if __name__ == "__main__":
    deed, what, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    assert VARIABLE not in os.environ
    moments = (Action.SIGNAL_BEFORE, Action.SIGNAL_HALFWAY, Action.SIGNAL_AFTER)
    signals = [(action, signal.SIGKILL) for action in moments]
    errors = [(Action.ERROR, number) for number in (errno.ENOSPC, errno.EIO, errno.EROFS)]
    if what == "cut":
        came = list(cuts(deed, folder))
    else:
        came = [one for each in {"killed": signals, "failed": errors}[what] for one in faults(deed, folder, *each)]
    print(json.dumps(came))
