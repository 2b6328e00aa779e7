"""Disks that fail and power that is cut: one error that names the file, nothing lost, and the same command goes on.

python -m faults disks --seed=0 --cases=500 --workdir=DIR
python -m faults disks --seed=0 --kind=convert --case=12 --workdir=DIR      one again; its files are kept

A case of a command is one operation that fails, of one of three faults in turn: no space from then on, an input/output
error once, a disk that can only be read from then on. Enough cases are all operations. A case of `power-...` is what a
power cut may leave at some operation, and the command goes on from there; one of `sweep-...` only looks, at what a kill
and several power cuts leave at every operation.
"""

import errno
import itertools
import os
import random

from faults.power import Disk
from faults.scenes import HalfError, scenes
from faults.stage import Case, Stage, different, guarded, one_line
from faults.watched import Action, Fault, Operation

COLUMNS = {
    "tried": "cases",
    "no space": "no space",
    "input/output": "input/output",
    "read-only": "read-only",
    "refused": "refused",
    "as if nothing": "as if nothing",
    "completed": "completed",
    "cuts": "power cuts",
    "looks": "states looked at",
    "defect": "defects",
}
MADE = (Operation.OPEN, Operation.WRITE, Operation.MKDIR)
NAMED = (Operation.RENAME, Operation.UNLINK, Operation.RMDIR, Operation.LINK, Operation.TRUNCATE)
FAULTS = {
    "no space": (errno.ENOSPC, True, (*MADE, Operation.FSYNC)),
    "input/output": (errno.EIO, False, (*MADE, *NAMED, Operation.FSYNC)),
    "read-only": (errno.EROFS, True, (*MADE, *NAMED)),
}
WEIGHTS = {"convert": 20, "replace": 20, "train-trunk": 20, "train-finetune": 5, "export": 10}
COMPLETED = {"convert": 1, "replace": 1}  # after every so many failures the command is completed; of others
SELDOM = 8
POWER, SWEEP = "power-", "sweep-"
CUTS = 4  # power cuts at each operation of a sweep


def kinds() -> dict[str, int]:
    """Returns the kinds, each with its weight."""
    cut = [name for name in scenes() if name != "campaign"]
    return {**WEIGHTS, **{POWER + name: 3 for name in cut}, **{SWEEP + name: 0 for name in WEIGHTS}}


def scene_of(kind: str) -> str:
    """Returns the name of the scene that a kind is of."""
    return kind.removeprefix(POWER).removeprefix(SWEEP)


def run_case(stage: Stage, kind: str, number: int, seed: int) -> Case | None:
    """Runs a case, if there is one of this number."""
    scene = stage.scene(scene_of(kind))
    rng = random.Random(f"{seed}/{kind}/{number}")
    if kind.startswith(SWEEP):
        return None if number else _sweep(stage, scene, rng)
    if kind.startswith(POWER):
        return _cut(stage, scene, rng)
    name = list(FAULTS)[number % len(FAULTS)]
    code, lasting, counted = FAULTS[name]
    fault = Fault(number // len(FAULTS) + 1, Action.ERROR, code, lasting, counted)
    if fault.at > sum(done.kind in counted for done in stage.untouched(scene).trace):
        return None
    complete = not number // len(FAULTS) % COMPLETED.get(scene.name, SELDOM)
    return _failed(stage, scene, fault, name, complete)


def _failed(stage, scene, fault, name, complete):
    place = stage.begin(scene)
    watch = stage.watch(place, fault)
    counts = {name: 1}

    def judge():
        done = stage.run(scene.command(place), watch, lambda: scene.look(place))
        if not watch.fired:
            return None
        scene.look(place)
        counts["as if nothing" if done.returncode == 0 else "refused"] = 1
        if done.returncode == 0:
            why = different(stage.untouched(scene).result, scene.result(place))
            return why and f"succeeds, and {why}"
        named = str(place) in done.stderr
        if done.returncode != 1 or not one_line(done.stderr, "error: ") or not named:
            return f"ended with {done.returncode}: {done.stderr[-700:]!r}"
        if complete:
            counts["completed"] = 1
            return stage.completed(scene, place)
        return None

    return Case(str(fault), guarded(judge), counts)


def _cut(stage, scene, rng):
    trace = stage.untouched(scene).trace
    disk = Disk(stage.begin(scene))
    at = rng.randint(1, len(trace))
    for done in itertools.islice(trace, at):
        disk.play(done)
    place = stage.emptied(scene)
    everything = rng.random() < 0.5
    disk.left(place, None if everything else rng)

    def judge():
        scene.look(place)
        return stage.completed(scene, place)

    told = f"power cut after operation {at} of {len(trace)}, {'all' if everything else 'some'} of the unflushed gone"
    return Case(told, guarded(judge), {"cuts": 1, "completed": 1})


def _sweep(stage, scene, rng):
    trace, counts = stage.untouched(scene).trace, {"looks": 0}
    disk = Disk(stage.begin(scene))

    def judge():
        for number, done in enumerate(trace, 1):
            disk.play(done)
            for cut in range(-1, CUTS):
                place = stage.emptied(scene)
                told = "a kill" if cut < 0 else "a power cut"
                disk.now(place) if cut < 0 else disk.left(place, rng if cut else None)
                counts["looks"] += 1
                try:
                    scene.look(place)
                except (HalfError, ValueError, OSError, LookupError) as error:
                    return f"{told} after {number}, {done.kind.name} {os.path.basename(done.path)}: {error}"
        return None

    return Case("every operation", guarded(judge), counts)
