"""Spoiled inputs: each is accepted with the same meaning, or refused with an error that names it.

python -m faults inputs --seed=0 --cases=10000 --workdir=DIR
python -m faults inputs --seed=0 --kind=pack --case=123 --workdir=DIR      one again; its files are kept
"""

import math
import pathlib
import time

from faults.kinds import KINDS
from faults.report import Tally
from faults.workers import Worker


def shares(cases: int, kinds: list[str]) -> dict[str, int]:
    """Returns how many of `cases` each kind gets, by its weight, and at least one."""
    total = sum(KINDS[kind].weight for kind in kinds)
    return {kind: max(1, math.ceil(cases * KINDS[kind].weight / total)) for kind in kinds}


def run(workdir: pathlib.Path, seed: int, cases: int, kinds: list[str], case: int | None = None) -> Tally:
    """Runs a campaign, prints what it finds, and writes report.json and report.md into `workdir`.

    Args:
        workdir: A folder of its own; made if it is not there.
        seed: Of all cases.
        cases: How many, over all kinds.
        kinds: Keys of `KINDS`.
        case: The number of the one case to run, of the one kind.
    """
    started = time.monotonic()
    workdir.mkdir(parents=True, exist_ok=True)
    tally, worker = Tally(seed, cases, kinds, case), Worker(seed, workdir)
    for kind, count in shares(cases, kinds).items():
        numbers = range(count) if case is None else range(case, case + 1)
        for outcome in worker.run(kind, numbers, keep=case is not None):
            tally.add(outcome)
            if outcome.result == "defect" or case is not None:
                print(f"{kind} {outcome.number}: {outcome.result}: {outcome.told}: {outcome.why[:300]!r}", flush=True)
        if case is None:
            print(f"{kind}: {tally.rows[kind]}", flush=True)
            tally.write(workdir, time.monotonic() - started)
    worker.close()
    return tally
