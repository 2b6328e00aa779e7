"""Two commands in one folder at once: each does its work, or is refused by an error of one line, and all stays whole.

python -m faults pairs --seed=0 --cases=100 --workdir=DIR
python -m faults pairs --seed=0 --kind=convert+verify --case=12 --workdir=DIR      one again; its files are kept

A case starts two commands, one a random time after the other. What was refused is run again when both have ended, and
the folder must then hold what it holds where one came after the other.
"""

import json
import pathlib
import random
import shutil
import time

from faults.scenes import Campaign, Convert, Export, HalfError, Replace, Scene, Train, TrainTrunk
from faults.stage import LOOK_SECONDS, SECONDS, Case, Stage, different, guarded, one_line

COLUMNS = {
    "tried": "cases",
    "both": "both did their work",
    "refused": "one was refused",
    "neither": "both were",
    "defect": "defects",
}

GONE = "the records in --data_dir: was "  # a run whose records another has replaced can only be refused


class Evaluate(Scene):
    """An evaluation that is written to a file and draws what was answered wrong, into the run."""

    name = "eval"

    def begin(self, place):
        shutil.copytree(self.world.trunk("pointwise_sharing"), place, dirs_exist_ok=True)

    def command(self, place):
        self.world.converted()
        return [
            *("-m", "tfmdl.evaluation", f"--workdir={place}", f"--data_dir={self.world.data}"),
            f"--output={place / 'evaluation.json'}",
        ]

    def look(self, place):
        from PIL import Image

        for path in sorted(place.glob("mistakes-*.png")):
            with Image.open(path) as image:
                image.load()
        if (place / "evaluation.json").exists():
            json.loads((place / "evaluation.json").read_text())

    def result(self, place):
        left = [path.name for path in place.glob("*.partial")]
        return {"evaluation": json.loads((place / "evaluation.json").read_text()), "left": left}


class _Pair(Scene):
    """Two commands at work in the folder of the first.

    Args:
        name: Of the pair, as `WEIGHTS` has it.
        first: The scene whose folder it is, and whose result counts.
    """

    def __init__(self, name, first):
        super().__init__(first.world)
        self.name, self.first = name, first
        one, other = name.split("+")
        self._other = None if one == other else SECONDS_OF[other]

    def begin(self, place):
        self.first.begin(place)

    def command(self, place):
        return self.first.command(place)

    def second(self, place):
        """Returns the arguments of the other command."""
        return self._other(self.first, place) if self._other else self.first.command(place)

    def look(self, place):
        self.first.look(place)

    def result(self, place):
        return self.first.result(place)


class _Added(Train):
    """A run that adds a domain to the trunk in a folder."""

    method = "pointwise_sharing"

    def __init__(self, world, trunk):
        super().__init__(world)
        self._trunk = trunk

    @property
    def flags(self):
        return ("tiny", f"--method={self.method}", f"--init_from={self._trunk}")


def _reads(first, place):
    return first.reader(place)


def _adds(first, place):
    return _Added(first.world, place).command(place.with_name("pair-added"))


def _exports(first, place):
    flags = (f"--workdir={place}", f"--export_dir={place.with_name('pair-served')}")
    return ["-m", "tfmdl.export", *flags, f"--data_dir={first.world.converted()}"]


def _trains(first, place):
    return [*TrainTrunk(first.world).command(place.with_name("pair-run")), f"--data_dir={place}"]


# What the two halves of a name stand for; of a name with two equal ones, both are the first.
FIRSTS = {
    "convert": Convert,
    "replace": Replace,
    "train": TrainTrunk,
    "eval": Evaluate,
    "export": Export,
    "campaign": Campaign,
}
SECONDS_OF = {"verify": _reads, "eval": _reads, "report": _reads, "add": _adds, "export": _exports, "train": _trains}
WEIGHTS = {
    "convert+convert": 12,
    "replace+replace": 12,
    "convert+verify": 12,
    "replace+verify": 12,
    "replace+train": 4,
    "train+train": 4,
    "train+eval": 4,
    "train+add": 4,
    "train+export": 3,
    "eval+eval": 10,
    "export+export": 3,
    "campaign+campaign": 1,
    "campaign+report": 1,
}


def kinds() -> dict[str, int]:
    """Returns the kinds, each with its weight."""
    return WEIGHTS


def run_case(stage: Stage, kind: str, number: int, seed: int) -> Case:
    """Runs a case."""
    pair = _Pair(kind, FIRSTS[kind.split("+")[0]](stage.world))
    untouched = stage.untouched(pair)
    rng = random.Random(f"{seed}/{kind}/{number}")
    swapped, share = rng.random() < 0.5, rng.random() ** 2
    for name in ("pair-added", "pair-served", "pair-run", "again"):
        shutil.rmtree(stage.workdir / "at-work" / name, ignore_errors=True)
    place = stage.begin(pair)
    arguments = [pair.command(place), pair.second(place)]
    counts = {}
    why = guarded(lambda: _judged(stage, pair, place, arguments, swapped, share * untouched.seconds, counts))
    told = f"the {'second' if swapped else 'first'}, and the other after {share:.2f} of its time"
    return Case(told, why, counts)


def _judged(stage, pair, place: pathlib.Path, arguments, swapped, seconds, counts):
    order = arguments[::-1] if swapped else arguments
    one = stage.start(order[0])
    until = time.monotonic() + seconds
    while time.monotonic() < until and not one.ended(min(LOOK_SECONDS, seconds)):
        pair.look(place)
    other = stage.start(order[1])
    for command in (one, other):
        while not command.ended(LOOK_SECONDS):
            pair.look(place)
    ended = [one.result(SECONDS), other.result(SECONDS)]
    pair.look(place)
    for done in ended:
        if done.returncode and (done.returncode != 1 or not one_line(done.stderr, "error: ")):
            return f"ended with {done.returncode}: {done.stderr[-600:]!r}"
    refused = [arguments for arguments, done in zip(order, ended, strict=True) if done.returncode]
    counts[("both", "refused", "neither")[len(refused)]] = 1
    for again in sorted(refused, key=lambda arguments: arguments != pair.command(place)):
        done = stage.run(again)
        if done.returncode and GONE not in done.stderr:
            return f"refused, and refused again when nothing else is there: {done.stderr[-500:]!r}"
    try:
        found = pair.result(place)
    except HalfError as error:
        return str(error)
    return different(stage.untouched(pair).result, found)
