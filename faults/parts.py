"""The parts of the tool that run commands: how cases are shared out, run and reported."""

import tfmdl.quiet  # isort: skip  # noqa: F401

import importlib
import math
import pathlib
import time

from faults.report import Report
from faults.scenes import scenes
from faults.stage import Stage

PARTS = ("kills", "disks", "pairs", "numbers")


def kinds_of(part: str) -> dict[str, int]:
    """Returns the kinds of a part by name, each with its weight."""
    module = importlib.import_module(f"faults.{part}")
    return module.kinds() if hasattr(module, "kinds") else {name: scene.weight for name, scene in scenes().items()}


def run(
    part: str,
    workdir: pathlib.Path,
    seed: int,
    cases: int,
    kinds: list[str],
    case: int | None,
    most_minutes: float,
    first: int = 0,
) -> Report:
    """Runs a campaign, prints what it finds, and writes report.json and report.md into `workdir`.

    Args:
        part: One of `PARTS`.
        workdir: A folder of its own; made if it is not there.
        seed: Of all cases.
        cases: How many, over all kinds.
        kinds: Names, as `kinds_of` has them.
        case: The number of the one case to run, of the one kind.
        most_minutes: No case is begun after that; 0: all are.
        first: Of each kind, the number of the first case.
    """
    started = time.monotonic()
    workdir.mkdir(parents=True, exist_ok=True)
    module, weights = importlib.import_module(f"faults.{part}"), kinds_of(part)
    every = "" if kinds == list(weights) else f" --kind={','.join(kinds)}"
    every += f" --first={first}" if first else ""
    asked = f"--cases={cases}{every}" if case is None else f"--kind={kinds[0]} --case={case}"
    report = Report(part, seed, asked, module.COLUMNS)
    stage = Stage(workdir)
    total = sum(weights[kind] for kind in kinds) or 1
    shares = {kind: max(1, math.ceil(cases * weights[kind] / total)) for kind in kinds}
    # In turns, so that a campaign that ends early has cases of all kinds.
    turns = sorted(
        (number / shares[kind], place, kind) for place, kind in enumerate(kinds) for number in range(shares[kind])
    )
    numbers = {kind: iter(range(first, first + shares[kind]) if case is None else [case]) for kind in kinds}
    for _, _, kind in turns:
        number = next(numbers[kind], None)
        if most_minutes and time.monotonic() - started > 60 * most_minutes:
            report.again += f" (stopped after {most_minutes:g} minutes)"
            break
        if number is None:
            continue
        came = module.run_case(stage, kind, number, seed)
        if came is None:
            continue  # there is no case of this number
        report.count(kind, number, came.told, "defect" if came.why else "survived", came.why or "", came.counts)
        if came.why:
            print(f"{kind} {number}: defect: {came.told}: {came.why[:600]}", flush=True)
        if came.why or case is not None:
            stage.keep(f"{kind}-{number}")
        report.write(workdir, time.monotonic() - started)
        print(f"{time.monotonic() - started:6.0f} s  {kind} {number}  {dict(report.rows[kind])}", flush=True)
    return report
