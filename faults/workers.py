"""Cases in processes of their own, one after another, within bounds of time and memory.

A process imports what the kinds need and runs many cases: what ends it, or what it does not end, is the case that it
was given last.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import resource
import select
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator

from faults.kind import MIB
from faults.kinds import KINDS

CPU_SECONDS = 10.0  # that a case may take, over all threads,
CPU_SECONDS_PER_GIB = 20.0  # and for its files, which may be as long as they like, where they are read to the end
WALL_SECONDS = 120.0  # after which its process is ended, whatever it waits for
START_SECONDS = 1200.0  # for imports, and for writing and reading the sound files of a kind
_ROOM = 4 << 30  # of addresses, on top of what a process has: where a case would take down the machine, it fails


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind, number: Which it was.
        result: "accepted", "refused" or "defect".
        told: What was spoiled.
        why: The refusal, or the defect.
        seconds: Of the processor.
        mib: Memory that it took at most, on top of what the process had.
    """

    kind: str
    number: int
    result: str
    told: str = ""
    why: str = ""
    seconds: float = 0.0
    mib: float = 0.0


class Worker:
    """A process that runs cases, one after another; a case that ends it, or that it does not end, is a defect.

    Started anew and not forked: TensorFlow does not outlive a fork.

    Args:
        seed: Of the campaign.
        workdir: Holds `sound/<kind>` and `at-work/<kind>`, and `cases` for what is kept.
    """

    def __init__(self, seed: int, workdir: pathlib.Path):
        self.command = [sys.executable, "-m", "faults.workers"]
        self._seed, self._workdir = seed, workdir
        self._process, self._read = None, b""

    def run(self, kind: str, numbers: range, keep: bool = False) -> Iterator[Outcome]:
        """Runs cases of a kind and yields what came of each; folders of defects are kept, or of all if `keep`."""
        number = numbers.start
        while number < numbers.stop:
            if self._process is None:
                self._process = self._started()
            # All of them at once: to take turns costs more than most cases do.
            asked = {"kind": kind, "start": number, "stop": numbers.stop, "keep": keep}
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            if self._answer(START_SECONDS) is None:
                self.close(kill=True)
                raise RuntimeError(f"{kind}: sound files could not be read: see {self._workdir / 'log.txt'}")
            told = None
            while number < numbers.stop and self._process is not None:
                message = self._answer(WALL_SECONDS)
                if message is None:
                    message = self._ended(kind, number, told)
                if "result" in message:
                    yield Outcome(kind, **message)
                    number, told = number + 1, None
                else:
                    told = message["told"]

    def _ended(self, kind, number, told):
        """Returns what is to be said of a case that ended its process or does not end."""
        ended = self._process.poll() is not None
        status = self.close(kill=True)
        if told is None:
            raise RuntimeError(f"{kind} {number}: it could not be spoiled: see {self._workdir / 'log.txt'}")
        _keep(self._workdir, kind, number)
        why = "ended the process" if ended else f"had not ended after {WALL_SECONDS:g} seconds"
        return {"number": number, "result": "defect", "told": told, "why": f"{why} (status {status})"}

    def close(self, kill: bool = False) -> int | None:
        """Ends the process and returns its status."""
        if self._process is None:
            return None
        process, self._process, self._read = self._process, None, b""
        if kill:
            process.kill()
        process.stdin.close()
        process.stdout.close()
        return process.wait()

    def _started(self):
        with open(self._workdir / "log.txt", "ab") as log:
            return subprocess.Popen(
                [*self.command, str(self._seed), str(self._workdir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=pathlib.Path(__file__).parents[1],
            )

    def _answer(self, seconds):
        """Returns the next message, or None where none comes."""
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._read:
            part = os.read(pipe, 1 << 16) if select.select([pipe], [], [], seconds)[0] else None
            if not part:
                if part is not None:
                    self._process.wait()
                return None
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)


def work(seed: int, workdir: pathlib.Path) -> None:
    """Runs the cases that standard input names, and writes what came of them where standard output was."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the project prints is of no interest
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ready = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["kind"]
        sound, place = (workdir / folder / name for folder in ("sound", "at-work"))
        if name not in ready:
            kind = KINDS[name]()
            if not sound.is_dir():
                sound.mkdir(parents=True)
                kind.make(sound)
            _copy(sound, place)
            kind.ready(place)
            ready[name] = kind
            limit = int(_memory("VmSize")) * MIB + _ROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        _send(answers, {"ready": name})
        for number in range(asked["start"], asked["stop"]):
            _copy(sound, place)
            told, strict = ready[name].spoil(place, random.Random(f"{seed}/{name}/{number}"))
            _send(answers, {"told": told})
            judged = _judged(ready[name], place, strict)
            if asked["keep"] or judged["result"] == "defect":
                _keep(workdir, name, number)
            _send(answers, {"number": number, "told": told, **judged})


def _keep(workdir, name, number):
    kept = workdir / "cases" / f"{name}-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(exist_ok=True)
    os.rename(workdir / "at-work" / name, kept)


def _send(pipe, message):
    content = json.dumps(message).encode() + b"\n"
    while content:
        content = content[os.write(pipe, content) :]


def _copy(sound, place):
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(sound, place)


def _judged(kind, place, strict):
    _forget_peak()
    before, started = _memory("VmRSS"), time.process_time()
    result, why = _read(kind, place, strict)
    seconds, mib = time.process_time() - started, max(0.0, _memory("VmHWM") - before)
    size = sum(file.lstat().st_size for file in place.rglob("*"))
    if result != "defect" and seconds > CPU_SECONDS + CPU_SECONDS_PER_GIB * size / (1 << 30):
        result, why = "defect", f"took {seconds:.1f} seconds ({result}: {why})"
    if result != "defect" and mib > kind.mib:
        result, why = "defect", f"took {mib:.0f} MiB ({result}: {why})"
    return {"result": result, "why": why[:1000], "seconds": round(seconds, 3), "mib": round(mib, 1)}


def _read(kind, place, strict):
    # What `tfmdl.cli.report_errors` makes a line of.
    try:
        found = kind.read(place)
    except (ValueError, OSError, FloatingPointError) as error:
        why = str(error)
        if not any(name in why for name in kind.named):
            return "defect", f"does not name the file: {type(error).__name__}: {why}"
        if "\n" in why and not kind.lines:
            return "defect", f"is told in several lines: {why!r}"
        return "refused", why
    except BaseException as error:
        return "defect", f"{type(error).__name__}: {error}"
    try:
        fault = kind.fault(place, found, strict)
    except BaseException as error:
        fault = f"is accepted, and another reader refuses it ({type(error).__name__}: {error})"
    return ("defect", fault) if fault else ("accepted", "")


def _memory(field):
    """Returns a field of /proc/self/status in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def _forget_peak():
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    work(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
