"""Where scenes are played: their folders, the commands in them, and what is to be said of how a command ended."""

import dataclasses
import itertools
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable

from faults.commands import Command, serve
from faults.scenes import MODULES, ROOT, HalfError, Scene, World, scenes
from faults.watched import NO_FAULT, Done, Fault, Watch, library, operations

SECONDS = 900.0  # that a command may take; the machine may have much else to do
LOOK_SECONDS = 0.3  # between two looks at what is there


class Stage:
    """Plays scenes in a folder.

    Args:
        workdir: Holds `world`, what all scenes start from; `at-work/<scene>`; and `cases`, what is kept.

    Attributes:
        world: What all scenes start from.
        begun: The scene that was begun last.
    """

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir
        for name in ("at-work", "states"):
            shutil.rmtree(workdir / name, ignore_errors=True)
            (workdir / name).mkdir(parents=True)
        serve(MODULES, library(workdir))
        self.world = World(workdir / "world")
        self.begun: Scene | None = None
        self._numbers = itertools.count()
        self._untouched: dict[str, Untouched] = {}

    def scene(self, name: str) -> Scene:
        """Returns a scene, its folder empty."""
        return scenes()[name](self.world)

    def begin(self, scene: Scene) -> pathlib.Path:
        """Returns the scene's folder as it is at the beginning."""
        self.begun = scene
        place = self.emptied(scene)
        scene.begin(place)
        return place

    def emptied(self, scene: Scene) -> pathlib.Path:
        """Returns the scene's folder, with nothing in it."""
        place = self.workdir / "at-work" / scene.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def keep(self, name: str) -> None:
        """Keeps the folder of the scene that was begun last, as that of a case."""
        kept = self.workdir / "cases" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.workdir / "at-work" / self.begun.name, kept)

    def watch(self, place: pathlib.Path, fault: Fault = NO_FAULT, trace: pathlib.Path | None = None) -> Watch:
        """Returns what a command in a folder is watched with."""
        return Watch(self.workdir / "states" / str(next(self._numbers)), place, fault, trace)

    def start(self, arguments: list[str], watch: Watch | None = None) -> Command:
        """Starts a command."""
        return Command(*arguments, cwd=ROOT, environment=watch.environment if watch else None)

    def run(
        self, arguments: list[str], watch: Watch | None = None, look: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess:
        """Runs a command to its end, while `look` is called again and again."""
        command = self.start(arguments, watch)
        while look and not command.ended(LOOK_SECONDS):
            look()
        return command.result(SECONDS)

    def untouched(self, scene: Scene) -> "Untouched":
        """Returns what the scene comes to when nothing happens to it: once per process."""
        if scene.name not in self._untouched:
            place = self.begin(scene)
            trace = self.workdir / "states" / f"{scene.name}.trace"
            watch = self.watch(place, trace=trace)
            started = time.monotonic()
            done = self.run(scene.command(place), watch)
            if done.returncode:
                raise ValueError(f"{scene.name}: the command fails without a fault: {done.stderr.strip()}")
            seconds = time.monotonic() - started
            found = Untouched(watch.count, list(operations(trace)), seconds, scene.result(place))
            self._untouched[scene.name] = found
        return self._untouched[scene.name]

    def completed(self, scene: Scene, place: pathlib.Path) -> str | None:
        """Runs the scene's command, to which nothing happens, and returns what is wrong with what it leaves."""
        done = self.run(scene.command(place), look=lambda: scene.look(place))
        if done.returncode:
            return f"the same command does not go on: {done.returncode}, {done.stderr.strip()[-500:]!r}"
        expected, found = self.untouched(scene).result, scene.result(place)
        return different(expected, found)


@dataclasses.dataclass(frozen=True)
class Untouched:
    """What a scene comes to.

    Attributes:
        count: How many operations there are, those that fail included.
        trace: Those that do not.
        seconds: What it takes.
        result: As `Scene.result` returned it.
    """

    count: int
    trace: list[Done]
    seconds: float
    result: dict


@dataclasses.dataclass(frozen=True)
class Case:
    """What came of a case.

    Attributes:
        told: What was done to the command.
        why: What is wrong with what came of it; None where nothing is.
        counts: What the report counts of it, by column.
    """

    told: str
    why: str | None
    counts: dict[str, int]


def different(expected: dict, found: dict, where: str = "") -> str | None:
    """Returns where two results differ, None where they do not."""
    for key in {**expected, **found}:
        one, other = expected.get(key), found.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            if told := different(one, other, f"{where}/{key}"):
                return told
        elif one != other:
            return f"{where}/{key}: expected {one!r:.300}; found {other!r:.300}"
    return None


def guarded(judge: Callable[[], str | None]) -> str | None:
    """Returns what `judge` returns; of what is read half, or not at all, what is said of it."""
    try:
        return judge()
    except (HalfError, ValueError, OSError, LookupError, subprocess.TimeoutExpired) as error:
        return f"what is there cannot be read: {type(error).__name__}: {error}"


def one_line(text: str, begins: str) -> bool:
    """Returns whether an error's output is one line, warnings aside, that begins so."""
    lines = [line for line in text.splitlines() if not line.startswith("warning: ")]
    return len(lines) == 1 and lines[0].startswith(begins)
