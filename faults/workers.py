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

from faults.kinds import KINDS, MIB

CPU_SECONDS = 10.0  # that a case may take, over all threads,
CPU_SECONDS_PER_GIB = 20.0  # and for its files, which may be as long as they like, where they are read to the end
WALL_SECONDS = 120.0  # after which its process is ended, whatever it waits for
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
        self._process = None

    def run(self, kind: str, number: int, keep: bool = False) -> Outcome:
        """Runs one case; the folder of a defect is kept, or that of any case if `keep`."""
        if self._process is None:
            self._process = self._started()
        self._process.stdin.write(json.dumps({"kind": kind, "number": number}).encode() + b"\n")
        self._process.stdin.flush()
        told = None
        while (message := self._answer()) is not None and "result" not in message:
            told = message.get("told", told)
        if message is None and told is None:
            self.close(kill=True)
            raise RuntimeError(f"{kind} {number}: it could not be spoiled: see {self._workdir / 'log.txt'}")
        if message is None:
            ended = self._process.poll() is not None
            why = "ended the process" if ended else f"had not ended after {WALL_SECONDS:g} seconds"
            status = self.close(kill=True)
            message = {"number": number, "result": "defect", "told": told, "why": f"{why} (status {status})"}
        outcome = Outcome(kind, **message)
        if keep or outcome.result == "defect":
            kept = self._workdir / "cases" / f"{kind}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(exist_ok=True)
            os.rename(self._workdir / "at-work" / kind, kept)
        return outcome

    def close(self, kill: bool = False) -> int | None:
        """Ends the process and returns its status."""
        if self._process is None:
            return None
        process, self._process = self._process, None
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

    def _answer(self):
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], WALL_SECONDS)[0]:
                return None
            part = self._process.stdout.readline()
            if not part:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
                return None
            line += part
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
        name, number = asked["kind"], asked["number"]
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
        _copy(sound, place)
        told, strict = ready[name].spoil(place, random.Random(f"{seed}/{name}/{number}"))
        _send(answers, {"told": told})
        _send(answers, {"number": number, "told": told, **_judged(ready[name], place, strict)})


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
