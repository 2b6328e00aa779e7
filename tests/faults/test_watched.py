"""What is killed, failed and cut off from power at each of its file operations leaves files whole, or as they were."""

import json
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from faults.watched import library
from tfmdl.files import write_text

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
OLD, NEW = "old\n", "new\n" * 5000


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """Returns a function of a deed of at_every_operation.py and of what happens to it: it returns what came of it."""
    preloaded = library(tmp_path_factory.mktemp("library"))

    def run(deed, what):
        command = [sys.executable, str(ROOT / "tests/faults/at_every_operation.py"), deed, what]
        done = subprocess.run(
            [*command, str(tmp_path_factory.mktemp(deed))],
            env={**os.environ, "LD_PRELOAD": str(preloaded), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_file_is_old_or_new_whatever_kills_its_writer_and_the_next_leaves_nothing_else(came):
    killed = came("replace", "killed")
    assert len(killed) >= 3 * 6 and all(status == -9 for status, *_ in killed)
    assert {left["one"] for _, _, left, _ in killed} == {OLD, NEW}
    assert all(again == {"one": NEW} for *_, again in killed)


def test_a_file_is_old_or_new_whatever_fails_and_the_error_names_it(came):
    failed = came("replace", "failed")
    for status, error, left, again in failed:
        assert (status, left["one"]) == (1, OLD) or left["one"] == NEW
        assert status == 0 or "place" in error
        assert again == {"one": NEW}


def test_a_domain_is_old_or_new_whatever_fails_and_the_error_names_the_place(came):
    failed = came("rebuild", "failed")
    for status, error, left, again in failed:
        assert left.get("pets/records", "new records\n") in ("records\n", "new records\n")
        assert status == 0 or "/place" in error, error
        assert again == {"one": OLD, "pets/records": "new records\n"}


def test_after_a_power_cut_what_was_written_first_is_there(came):
    cut = came("two", "cut")
    for ended, left in cut:
        assert left.get("a/b/first", "first\n") == "first\n" and left.get("second", "second\n") == "second\n"
        assert "a/b/first" in left or ("second" not in left and not ended)


def test_after_a_power_cut_a_line_of_metrics_is_there_before_what_follows(came):
    for _, left in came("log", "cut"):
        assert "after" not in left or json.loads(left["metrics.jsonl"])["step"] == 10


@pytest.mark.parametrize(("deed", "file"), [("build", "pets/records"), ("rename", "whole/deep/file")])
def test_a_folder_that_has_its_name_has_its_files_after_a_power_cut(deed, file, came):
    whole = {"pets/records": "records\n" * 5000, "whole/deep/file": "file\n"}[file]
    folder = file.split("/")[0]
    states = [{path: text for path, text in left.items() if path.startswith(folder)} for _, left in came(deed, "cut")]
    assert {file: whole} in states and all(state in ({}, {file: whole}) for state in states)


def _write(path):
    for number in range(100):
        write_text(path, f"{number}\n" * 1000)


def test_two_that_write_one_file_do_not_meet(tmp_path):
    writers = [multiprocessing.get_context("fork").Process(target=_write, args=(tmp_path / "one",)) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "one").exists():
            lines = (tmp_path / "one").read_text().splitlines()
            assert len(lines) == 1000 and len(set(lines)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["one"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "flags"),
    [
        ("kills", ("--kind=convert", "--cases=3")),
        ("disks", ("--kind=convert,power-convert,sweep-convert", "--cases=3")),
        ("pairs", ("--kind=convert+verify", "--cases=2")),
        ("numbers", ("--kind=black,no-image,rate-nan", "--cases=3")),
    ],
)
def test_a_share_of_the_campaigns_finds_nothing(part, flags, tmp_path):
    command = [sys.executable, "-m", "faults", part, "--seed=1", f"--workdir={tmp_path}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["defects"] == [] and all(row["tried"] for row in report["kinds"].values())
