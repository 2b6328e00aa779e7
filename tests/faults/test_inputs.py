"""A small share of the campaign of inputs, that it can be repeated, and that it sees what it is there to see."""

import json
import pathlib
import signal
import subprocess
import sys

import pytest

from faults import workers
from faults.kind import Kind, difference
from faults.kinds import KINDS
from faults.workers import Worker

ROOT = pathlib.Path(__file__).parents[2]
LIGHT = "annotations,tar"
# Of seconds, for their sound files.
SLOW_TO_BEGIN = ("folder", "network", "request", "version", "records-verified", "records-read")


def campaign(workdir, *flags):
    command = [sys.executable, "-m", "faults", "inputs", f"--workdir={workdir}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done, json.loads((workdir / "report.json").read_text())


@pytest.mark.slow
def test_spoiled_inputs_are_read_as_they_are_or_refused_by_name(tmp_path):
    kinds = [kind for kind in KINDS if kind not in SLOW_TO_BEGIN]
    done, report = campaign(tmp_path, "--cases=120", "--seed=1", f"--kind={','.join(kinds)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(report["kinds"]) == kinds and report["defects"] == []
    assert all(row["tried"] == row["accepted"] + row["refused"] for row in report["kinds"].values())
    assert not (tmp_path / "cases").exists() and "| all | " in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_a_seed_makes_the_same_campaign_and_a_case_can_be_had_again(tmp_path):
    digests = [
        campaign(tmp_path / f"{number}", "--cases=60", f"--kind={LIGHT}", f"--seed={seed}")[1]["digest"]
        for number, seed in enumerate((3, 3, 4))
    ]
    assert digests[0] == digests[1] != digests[2]
    subprocess.run(
        [sys.executable, "-m", "faults", "inputs", f"--workdir={tmp_path}", "--kind=tar", "--case=7", "--seed=3"],
        cwd=ROOT,
        check=True,
    )
    assert (tmp_path / "cases" / "tar-7" / "annotations").is_dir()


class Poem(Kind):
    """What a test says is read."""

    named = ("poem.txt",)
    mib = 64
    sound = "roses"

    def __init__(self, read):
        self._read = read

    def read(self, folder):
        return self._read(folder)

    def said(self, folder):
        return "violets"


def raising(error):
    def read(folder):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "strict", "result", "why"),
    [
        (lambda folder: "roses", True, "accepted", ""),
        (lambda folder: "violets", False, "accepted", ""),
        (raising(ValueError("poem.txt: is no poem")), True, "refused", "poem.txt: is no poem"),
        (raising(OSError(2, "No such file", "poem.txt")), True, "refused", "poem.txt"),
        (lambda folder: "violets", True, "defect", "is not what was written"),
        (lambda folder: "roses", False, "defect", "is read as 'roses'"),
        (raising(ValueError("is no poem")), True, "defect", "does not name the file"),
        (raising(ValueError("poem.txt\nis none")), True, "defect", "several lines"),
        (raising(KeyError("poem.txt")), True, "defect", "KeyError"),
        (raising(RecursionError()), True, "defect", "RecursionError"),
        (lambda folder: bytearray(b"x" * (200 << 20)) and "roses", True, "defect", "MiB (accepted"),
    ],
)
def test_what_is_a_defect(read, strict, result, why, tmp_path):
    found = workers._judged(Poem(read), tmp_path, strict)
    assert found["result"] == result and why in found["why"]


@pytest.mark.parametrize("ends", ["os.abort()", "time.sleep(60)"])
def test_what_ends_its_process_or_does_not_end_is_a_defect_and_the_next_case_is_run(ends, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "WALL_SECONDS", 2.0)
    program = f"""
import os, pathlib, sys, time
from faults import kinds, workers

class Ends(kinds.Labels):
    def read(self, folder):
        if self.spoiled:
            {ends}
    spoiled = False

    def spoil(self, folder, rng):
        self.spoiled = not (folder / "../../cases/labels-0").exists()
        return "this", False

    def fault(self, folder, found, strict):
        return None

kinds.KINDS["labels"] = Ends
workers.work(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
    worker = Worker(0, tmp_path)
    worker.command = [sys.executable, "-c", program]
    outcome, after = worker.run("labels", range(2))
    assert (outcome.result, outcome.told) == ("defect", "this")
    died = ends == "os.abort()"
    why = f"ended the process (status {-signal.SIGABRT})" if died else "had not ended after 2 seconds"
    assert why in outcome.why
    assert after.result == "accepted"
    worker.close()


@pytest.mark.parametrize(
    ("said", "read"),
    [({"a": 1}, {}), ({"a": True}, {"a": 1}), ([1], [1, 2]), ("1", 1), ({"a": [{"b": 1}]}, {"a": [{}]})],
)
def test_what_is_not_read_as_it_stands_is_seen(said, read):
    assert difference(said, read) and difference(said, said) is None
