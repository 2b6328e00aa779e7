"""Contestants that take turns, each in a process of its own; the table and the JSON of what they did.

A process of its own, since two frameworks in one process share, and disturb, each other's threads. While one runs,
the others wait on a pipe. Whatever else the machine does hits all contestants of a round alike: ratios are taken
round by round. Where others use the cores for much of the time, `--clock=cpu` divides by the time that a contestant had
of them.
"""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

from absl import flags
from rich.console import Console
from rich.table import Table

FLAGS = flags.FLAGS

flags.DEFINE_integer("rounds", 7, "Rounds; each contestant has one turn in each.", lower_bound=1)
flags.DEFINE_string("out", "bench-output", "Folder to write <benchmark>.json into.")
flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Rates per second, or per second of all cores at work for it.")
flags.DEFINE_list("only", [], "Run only the contestants whose names begin so.")


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One thing to measure.

    Attributes:
        name: What the table calls it.
        make: Called once in the contestant's process; returns what is called at each turn; that returns a number.
        environment: Variables of the process.
    """

    name: str
    make: Callable[[], Callable[[], float]]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What must hold: `subject` is at least `limit` times as good as `peer`; without a peer, as good as `limit`."""

    what: str
    subject: str
    peer: str | None
    limit: float


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a network and a batch."""

    width: int = 64
    image_size: int = 64
    batch: int = 32
    steps: int = 4
    dtype: str = "float32"

    def pointwise(self) -> list[tuple[int, int, int]]:
        """Returns (pixels of a batch, channels, filters) of the 25 pointwise convolutions."""
        pixels, channels = self.batch * self.image_size**2, self.width
        layers = [(pixels, 3, channels)]
        for _ in range(3):
            pixels, filters = pixels // 4, 2 * channels
            layers += [(pixels, channels, filters), *[(pixels, filters, filters)] * 7]
            channels = filters
        return layers


def define_size_flags() -> None:
    """Defines the flags that `size` reads."""
    flags.DEFINE_integer("width", 64, "Channels after the stem.", lower_bound=2)
    flags.DEFINE_integer("image_size", 64, "Side of the images.", lower_bound=8)
    flags.DEFINE_integer("batch", 32, "Images per batch.", lower_bound=1)
    flags.DEFINE_integer("steps", 4, "Steps per turn.", lower_bound=1)
    flags.DEFINE_string("dtype", "float32", "Keras dtype policy.")


def size() -> Size:
    return Size(FLAGS.width, FLAGS.image_size, FLAGS.batch, FLAGS.steps, FLAGS.dtype)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compare(name, contestants, claims=(), unit="images/s", less_is_better=False, rounds=None) -> dict[str, list[float]]:
    """Measures contestants in turn; prints and writes what they did.

    Args:
        name: Of the benchmark: names the JSON file.
        contestants: In the order of the table.
        claims: Checked where both sides were measured.
        unit: Of the numbers.
        less_is_better: Turns ratios round: more than 1 is better in any case.
        rounds: Instead of --rounds, where a turn takes long.

    Returns:
        The numbers of each contestant, round by round.
    """
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console = Console(soft_wrap=True, width=160)  # a log has room for the table
    if FLAGS.clock == "cpu":
        assert not less_is_better  # what is measured must be a rate
        unit = f"{unit} of {cores()} cores' time"
    rounds = rounds or FLAGS.rounds
    chosen = [c for c in contestants if not FLAGS.only or c.name.startswith(tuple(FLAGS.only))]
    numbers = {contestant.name: [] for contestant in chosen}
    workers = []
    try:
        for contestant in chosen:
            with console.status(f"{name}: starting {contestant.name}"):
                workers.append(_Worker(contestant))
        for number in range(rounds):
            for worker in workers:
                with console.status(f"{name}: round {number + 1} of {rounds}, {worker.name}"):
                    numbers[worker.name].append(worker.turn())
    finally:
        for worker in workers:
            worker.stop()
    peers = [c.name for c in chosen if c.name in {claim.peer for claim in claims}]
    console.print(_table(name, numbers, peers, unit, less_is_better))
    checked = [
        _check(claim, numbers, less_is_better)
        for claim in claims
        if claim.subject in numbers and (claim.peer is None or claim.peer in numbers)
    ]
    for check in checked:
        median, least, most, limit = (f"{check[key]:,.4g}" for key in ("median", "min", "max", "limit"))
        verdict = "holds " if check["holds"] else "MISSED"
        bound = "at least" if check["more"] else "at most"
        console.print(f"{verdict}  {check['what']}: {median} ({least} to {most}), {bound} {limit}")
    _write(name, {"unit": unit, "rounds": numbers, "claims": checked})
    return numbers


class _Worker:
    """A contestant's process."""

    def __init__(self, contestant: Contestant):
        self.name = contestant.name
        by_cpu = FLAGS.clock == "cpu"
        # Threads that wait for each other are not to look busy.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | contestant.environment if by_cpu else contestant.environment
        context = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, contestant.make, environment, by_cpu))
        self._process.start()
        theirs.close()
        self._receive()

    def turn(self) -> float:
        self._pipe.send("turn")
        return self._receive()

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self):
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"contestant {self.name!r} has died: see what it printed above") from None


def _serve(pipe, make, environment, by_cpu):
    os.environ.update(environment)
    turn = make()
    turn()  # traces, compiles, fills caches
    pipe.send(None)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        started = time.perf_counter(), time.process_time()
        number = turn()
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        pipe.send(number * wall / (cpu / cores()) if by_cpu else number)


def _ratios(mine, other, less_is_better):
    return [b / a if less_is_better else a / b for a, b in zip(mine, other, strict=True)]


def _table(name, numbers, peers, unit, less_is_better) -> Table:
    table = Table("contestant", title=f"{name} ({unit})")
    for column in ("median", "min", "max", *(f"to {peer}" for peer in peers)):
        table.add_column(column, justify="right")
    for contestant, mine in numbers.items():
        ratios = [f"{statistics.median(_ratios(mine, numbers[peer], less_is_better)):.2f}" for peer in peers]
        table.add_row(contestant, *(f"{f(mine):,.4g}" for f in (statistics.median, min, max)), *ratios)
    return table


def _check(claim: Claim, numbers, less_is_better) -> dict:
    values = numbers[claim.subject]
    if claim.peer:
        values = _ratios(values, numbers[claim.peer], less_is_better)
    median = statistics.median(values)
    more = claim.peer is not None or not less_is_better
    holds = median >= claim.limit if more else median <= claim.limit
    found = {"median": median, "min": min(values), "max": max(values), "more": more, "holds": holds}
    return dataclasses.asdict(claim) | found


def _write(name, content):
    path = pathlib.Path(FLAGS.out, f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": _processor(), "cores": cores(), "clock": FLAGS.clock}
    path.write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n")
    print(f"wrote {path}")


def _processor():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
