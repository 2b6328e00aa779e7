"""Commands that are killed: the same command goes on, and what it ends with is what it ends with untouched.

python -m faults kills --seed=0 --cases=100 --workdir=DIR
python -m faults kills --seed=0 --kind=convert --case=12 --workdir=DIR      one again; its files are kept

A case is a command that is killed several times, one after the other, and then let be. What it leaves after each kill
is read, and while it is at work; sometimes by a command.
"""

import dataclasses
import pathlib
import random
import signal

from faults.scenes import Scene
from faults.stage import SECONDS, Case, Stage, Untouched, guarded, one_line
from faults.watched import Action, Done, Fault, Operation

COLUMNS = {
    "tried": "cases",
    "kills": "kills",
    "SIGKILL": "SIGKILL",
    "SIGTERM": "SIGTERM",
    "SIGINT": "SIGINT",
    "late": "came too late",
    "readers": "readers run",
    "defect": "defects",
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ACTIONS = (Action.SIGNAL_BEFORE, Action.SIGNAL_AFTER, Action.SIGNAL_HALFWAY)
WEIGHTS = {Operation.RENAME: 6, Operation.FSYNC: 4, Operation.OPEN: 2, Operation.UNLINK: 2}
AT_ITS_ENDS = 3  # what the first and the last write of a file weigh; others and other operations weigh 1
TIMED = 0.15  # share of the kills at any moment
READ = 0.15  # share of the kills after which a command reads what is there


@dataclasses.dataclass(frozen=True)
class Kill:
    """A signal, at an operation or at a share of the time that the command takes untouched."""

    fault: Fault
    share: float | None = None
    reader: bool = False

    def __str__(self):
        if self.share is None:
            return str(self.fault)
        return f"{signal.Signals(self.fault.number).name} after {self.share:.2f} of its time"


def weight(trace: list[Done], index: int) -> int:
    """Returns how likely a kill is at an operation of a trace."""
    done = trace[index]
    if done.kind != Operation.WRITE:
        return WEIGHTS.get(done.kind, 1)
    beside = (trace[other] for other in (index - 1, index + 1) if 0 <= other < len(trace))
    return 1 if all(one.kind == Operation.WRITE and one.path == done.path for one in beside) else AT_ITS_ENDS


def kills(scene: Scene, untouched: Untouched, rng: random.Random) -> list[Kill]:
    """Draws the kills of a case."""
    trace, drawn = untouched.trace, []
    for number in range(scene.kills):
        signalled = rng.choice(SIGNALS)
        reader = rng.random() < READ
        if rng.random() < TIMED:
            drawn.append(Kill(Fault(number=signalled), rng.random(), reader))
            continue
        if number == 0:
            at = trace[rng.choices(range(len(trace)), [weight(trace, i) for i in range(len(trace))])[0]].number
        else:  # it goes on from what the others have left, in fewer operations
            at = rng.randint(1, max(1, untouched.count // 2))
        drawn.append(Kill(Fault(at, rng.choice(ACTIONS), signalled), None, reader))
    return drawn


def run_case(stage: Stage, kind: str, number: int, seed: int) -> Case:
    """Runs a case."""
    scene = stage.scene(kind)
    untouched = stage.untouched(scene)
    drawn = kills(scene, untouched, random.Random(f"{seed}/{scene.name}/{number}"))
    counts = dict.fromkeys(("kills", "SIGKILL", "SIGTERM", "SIGINT", "late", "readers"), 0)
    place = stage.begin(scene)

    def judge():
        for kill in drawn:
            if why := killed(stage, scene, place, kill, untouched.seconds, counts):
                return f"{kill}: {why}"
        return stage.completed(scene, place)

    return Case("; ".join(map(str, drawn)), guarded(judge), counts)


def killed(stage: Stage, scene: Scene, place: pathlib.Path, kill: Kill, seconds: float, counts: dict) -> str | None:
    """Starts the scene's command, kills it, and returns what is wrong with how it ended or with what it left."""
    watch = stage.watch(place, kill.fault)
    command = stage.start(scene.command(place), watch)
    if kill.share is not None:
        command.ended(kill.share * seconds)
        command.send_signal(kill.fault.number)
    scene.look(place)
    done = command.result(SECONDS)
    number = kill.fault.number
    came = watch.fired or (kill.share is not None and done.returncode)
    if not came or (done.returncode == 0 and number != signal.SIGKILL):
        counts["late"] += 1
        return f"ended with {done.returncode}: {done.stderr[-500:]!r}" if done.returncode else None
    counts["kills"] += 1
    counts[signal.Signals(number).name] += 1
    scene.look(place)
    if kill.reader:
        counts["readers"] += 1
        read = stage.run(scene.reader(place))
        if read.returncode and not one_line(read.stderr, "error: "):
            return f"a reader of what it left ended with {read.returncode}: {read.stderr[-500:]!r}"
    if number == signal.SIGKILL:
        return None if done.returncode == -number else f"ended with {done.returncode}"
    if done.returncode == 1 and scene.of_started and done.stderr.endswith(scene.of_started):
        return None
    if done.returncode != 128 + number or not one_line(done.stderr, ""):
        return f"ended with {done.returncode}: {done.stderr[-500:]!r}"
    return None
