"""What is put under load: the stand-in, asked by the project's clients, and a C program, which asks itself.

Each is a process. It takes versions one after another, and tells of each request what came of it.
"""

import itertools
import json
import os
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import requests

from faults.c_library import compiled
from faults.swapped import CLASSES, NOWHERE, TOLERANCE, Swapped, Version
from tfmdl.serving.remote import GrpcClient, RefusedError, RestClient, rest_body
from tfmdl.serving.versions import new_version, prune

HERE = pathlib.Path(__file__).parent
ONE_IN = 50  # requests that are malformed
ROWS = (1, 16, 64, 64)  # images of a request
CLIENTS = 4  # or threads
SECONDS = 900.0  # that anything may take; the machine may have much else to do

# Called for each request: what came of it, how many images were answered or should have been, seconds, and why.
Told = Callable[[str, int, float, str], None]


class Target:
    """A process under load; a context manager, which ends it.

    Args:
        swapped: What it serves.
        seed: Of all requests.
        folder: A folder of its own, which is there.
        told: Told of each request.

    Attributes:
        process: The process.
    """

    def __init__(self, swapped: Swapped, seed: int, folder: pathlib.Path, told: Told):
        self.swapped, self.seed, self.folder, self.told = swapped, seed, folder, told
        self._said: queue.Queue[str] = queue.Queue()
        self._stopped, self._threads = threading.Event(), []
        (folder / "stderr.txt").unlink(missing_ok=True)
        self.process: subprocess.Popen | None = None

    def begin(self) -> None:
        """Starts the process and its load, of the first version."""
        raise NotImplementedError

    def swap(self, version: Version) -> None:
        """Lets the next version take the place of the one before, and returns when it has."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends the load, and returns when all requests have been told of."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        if self.process:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join()

    def alive(self) -> bool:
        """Returns whether the process has not ended."""
        return self.process.poll() is None

    def _start(self, command):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "errors": "replace"}
        with open(self.folder / "stderr.txt", "w") as said:
            self.process = subprocess.Popen(command, cwd=HERE.parent, env=environment, stderr=said, **pipes)
        self._threads.append(threading.Thread(target=self._read))
        self._threads[-1].start()

    def _read(self):
        for line in self.process.stdout:
            self._heard(line.rstrip("\n"))
        self._said.put("")

    def _heard(self, line):
        self._said.put(line)

    def _wait(self):
        """Returns the next line that the process says.

        Raises:
            ValueError: if it has ended, or says nothing.
        """
        try:
            line = self._said.get(timeout=SECONDS)
        except queue.Empty:
            raise ValueError(f"the process says nothing for {SECONDS:g} seconds") from None
        if not line:
            told = (self.folder / "stderr.txt").read_text()[-600:]
            raise ValueError(f"the process has ended with {self.process.wait(SECONDS)}: {told!r}")
        return line


class CLibrary(Target):
    """The C library: load.c, which asks by threads of its own and checks what it is answered."""

    def begin(self):
        program = compiled(HERE / "load.c", self.folder / "load")
        files = []
        for number, image in enumerate(self.swapped.images):
            files.append(self.folder / f"{number}.image")
            files[-1].write_bytes(image)
        self._start([str(program), str(self.seed), str(CLIENTS), str(TOLERANCE), *map(str, files)])
        self._load(self.swapped.versions[0])

    def swap(self, version):
        self._load(version)
        line = self._wait()
        if line != f"closed {version.number - 1}":
            raise ValueError(f"expected version {version.number - 1} to be closed; it says {line!r}")

    def stop(self):
        self.process.stdin.close()
        if self.process.wait(SECONDS):
            self._wait()

    def _load(self, version):
        expected = self.folder / "expected.txt"
        version.write_expected(expected)
        self.process.stdin.write(f"{version.number} {version.path} {expected}\n")
        self.process.stdin.flush()
        line = self._wait()
        if line != f"came {version.number}":
            raise ValueError(f"expected version {version.number} to come; it says {line!r}")

    def _heard(self, line):
        what, *fields = line.split(" ", 3)
        if what in ("came", "closed"):
            super()._heard(line)
        elif what != "warmed":
            rows, micros, why = fields
            self.told(what, int(rows), int(micros) / 1e6, why)


class _Timeline:
    """Which versions may have answered a request, by when it was sent and answered."""

    def __init__(self, first):
        self._spans = [[first, 0.0, float("inf")]]

    def coming(self, version):
        self._spans.append([version, time.monotonic(), float("inf")])

    def came(self, version):
        for span in self._spans:
            if span[0] is not version:
                span[2] = min(span[2], time.monotonic())

    def between(self, sent, answered):
        return [version for version, since, until in self._spans if since <= answered and sent <= until]


class StandIn(Target):
    """The stand-in for TensorFlow Serving, asked by threads here: half of them by REST, half by gRPC."""

    def begin(self):
        self._base = self.folder / "served"
        shutil.rmtree(self._base, ignore_errors=True)
        self._timeline = _Timeline(self.swapped.versions[0])
        self._serve(self.swapped.versions[0])
        self._start([sys.executable, "-m", "faults.model_server", str(self._base)])
        self._where = json.loads(self._wait())
        self._clients = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        self._threads += self._clients
        for thread in self._clients:
            thread.start()

    def swap(self, version):
        self._timeline.coming(version)
        self._serve(version)
        line = json.loads(self._wait())
        if line != {"version": version.number}:
            raise ValueError(f"expected version {version.number} to come; it says {line}")
        self._timeline.came(version)
        prune(self._base, 1, self._base / str(version.number))
        domains = RestClient(self._where["url"], SECONDS).domains()
        if domains != sorted(version.labels):
            self.told("wrong", 0, 0.0, f"version {version.number} says that it has {domains}")
        before = RestClient(f"{self._where['url']}/versions/{version.number - 1}", SECONDS)
        row = {"image_bytes": self.swapped.images[0], "domain": next(iter(CLASSES))}
        try:
            before.predict("serving_default", [row])
            self.told("wrong", 0, 0.0, f"version {version.number - 1} is still served")
        except RefusedError as error:
            if "no such model or version" not in str(error):
                self.told("wrong", 0, 0.0, f"version {version.number - 1}, asked for when it is gone: {error}")

    def stop(self):
        self._stopped.set()
        for client in self._clients:
            client.join()
        if not self.alive():
            self._wait()

    def _serve(self, version):
        """Copies a version to where it is served, as an export makes one."""
        with new_version(self._base, version.number) as (written, _):
            shutil.copytree(version.path, written, dirs_exist_ok=True)

    def _client(self, number):
        rng = random.Random(f"{self.seed}/{number}")
        rest, url, address = bool(number % 2), self._where["url"], self._where["address"]
        client = RestClient(url, SECONDS) if rest else GrpcClient(address, "tfmdl", SECONDS)
        for turn in itertools.count():
            if self._stopped.is_set():
                return
            # Not of a domain that is about to go.
            versions = self._timeline.between(time.monotonic(), float("inf"))
            known = [domain for domain in CLASSES if all(domain in version.labels for version in versions)]
            absent = [NOWHERE, *(d for d in CLASSES if not any(d in version.labels for version in versions))]
            count = rng.choice(ROWS)
            images = [rng.randrange(len(self.swapped.images)) for _ in range(count)]
            domains = [rng.choice(known) for _ in range(count)]
            rows = [
                {"image_bytes": self.swapped.images[image], "domain": domain}
                for image, domain in zip(images, domains, strict=True)
            ]
            sent = time.monotonic()
            if turn % ONE_IN == number:
                what, why = self._ask_malformed(client, rest, rng, rows, absent)
                self.told(what, 0, time.monotonic() - sent, why)
                continue
            what, why = "answered", ""
            try:
                answers = client.predict("serving_default", rows)
            except Exception as error:  # whatever it is, no other client is to end
                what, why = "lost", f"{type(error).__name__}: {error}"
            answered = time.monotonic()
            if what == "answered":
                faults = [one.fault(images, domains, answers) for one in self._timeline.between(sent, answered)]
                if all(faults):
                    what, why = "wrong", "; ".join(faults)
            self.told(what, count, answered - sent, why)

    def _ask_malformed(self, client, rest, rng, rows, absent):
        """Sends a malformed request; returns whether it was refused as it must be, and if not, what it was."""
        row, kinds = rng.randrange(len(rows)), [*MALFORMED, *(ONLY_BY_REST if rest else ONLY_BY_GRPC)]
        kind = rng.choice(kinds)
        reason, by = None, "REST" if rest else "gRPC"
        try:
            if kind == "damaged":
                rows[row]["image_bytes"], reason = rng.choice(DAMAGED)
                reason = f"domain [{rows[row]['domain']}] {reason}"
            elif kind == "absent":
                rows[row]["domain"] = rng.choice(absent)
                reason = f"unknown domain [{rows[row]['domain']}]"
            elif kind == "column":
                rows = [{**each, "more": "x"} for each in rows]
                reason = "keys must be equal to" if rest else "input size does not match signature"
            elif kind == "type":
                rows = [{**each, "domain": 7} for each in rows]
                reason = "is not of expected type: string" if rest else "domain is int"
            elif kind == "signature":
                reason = 'Serving signature name: "none" not found'
            elif kind == "version":
                client, reason = RestClient(f"{client.url}/versions/999999", SECONDS), "no such model or version"
            elif kind == "model":
                client, reason = GrpcClient(client.address, "other", SECONDS), "no model 'other'"
            elif kind == "json":
                body = rest_body("serving_default", rows)
                cut = body[: rng.randrange(len(body))]
                reply = requests.post(f"{client.url}:predict", data=cut, timeout=SECONDS)
                right = reply.status_code == 400 and "JSON Parse error" in reply.text
                return ("refused", "") if right else ("wrong", f"JSON cut off: {reply.status_code}, {reply.text[:300]}")
            client.predict("none" if kind == "signature" else "serving_default", rows)
        except RefusedError as error:
            if reason in str(error) and (kind not in ("damaged", "absent") or error.row == row):
                return "refused", ""
            return "wrong", f"{kind} by {by}, row {row}: expected {reason!r}; refused: {error}"
        except Exception as error:  # as above
            return "wrong", f"{kind} by {by}: expected {reason!r}; received {type(error).__name__}: {error}"
        return "wrong", f"{kind} by {by}: answered; expected {reason!r}"


MALFORMED = ("damaged", "damaged", "absent", "absent", "column", "type", "signature")
ONLY_BY_REST = ("version", "json")
ONLY_BY_GRPC = ("model",)
DAMAGED = (
    (b"", "is no JPEG"),
    (b"no image", "is no JPEG"),
    (b"\xff\xd8\xff\xe0", "is damaged"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\0\0" * 2, "has 65536x65536 pixels"),
)
KINDS = {"stand-in": StandIn, "c-library": CLibrary}
