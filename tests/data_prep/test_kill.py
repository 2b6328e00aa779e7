"""A conversion that is killed leaves nothing that reads as whole, and the next one starts clean."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY
from reading import shard_bytes

from data_prep.plan import DataError
from data_prep.workspace import building, tidy
from tfmdl.data.records import converted_domains


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_whole_and_the_next_is_as_if_it_had_not_been(
    decathlon, convert_here, tmp_path
):
    decathlon.add_domain("many", 2, {"train": 1500, "val": 2, "test": 2})
    records = tmp_path / "records"
    command = [sys.executable, REPOSITORY / "data_prep" / "convert.py", "--source=decathlon", "--workers=1"]
    command += [f"--input_dir={decathlon.root}", f"--output_dir={records}", "--domains=many"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(path.stat().st_size for path in records.glob(".many.partial-*/train.spool")):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert converted_domains(records) == []
    assert not (records / "many").exists()
    leftovers = sorted(os.listdir(records))
    assert leftovers[0] == ".many.lock" and leftovers[1].startswith(".many.partial-") and len(leftovers) == 2

    convert_here(decathlon.root, domains=("many",))
    assert os.listdir(records) == ["many"]
    assert shard_bytes(records) == shard_bytes(convert_here(decathlon.root, "undisturbed", domains=("many",)))


def test_two_conversions_of_one_domain_do_not_meet(tmp_path):
    with building(tmp_path, "left") as folder:
        try:
            with building(tmp_path, "left"):
                raise AssertionError("the second one was let in")
        except DataError as error:
            assert "another process is building it" in str(error) and str(tmp_path / ".left.lock") in str(error)
        (folder / "whole").touch()
    assert os.listdir(tmp_path / "left") == ["whole"]


def test_two_conversions_of_domains_whose_names_begin_alike_leave_each_other_alone(tmp_path):
    # The folder of the one begins as that of the other, and has no lock file in it.
    with building(tmp_path, "a.partial-b") as other:
        (other / "whole").touch()
        for name in ("a", "a.partial", "a.partial-b.partial-c"):
            with building(tmp_path, name) as folder:
                (folder / "whole").touch()
        assert [path.name for path in other.iterdir()] == ["whole"]
    assert sorted(os.listdir(tmp_path)) == ["a", "a.partial", "a.partial-b", "a.partial-b.partial-c"]


def test_many_processes_at_one_domain_build_it_one_at_a_time(tmp_path):
    script = f"""
import pathlib, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from data_prep.plan import DataError
from data_prep.workspace import building
output_dir = pathlib.Path({str(tmp_path / "records")!r})
built = 0
while built < 50:
    try:
        with building(output_dir, "left") as folder:
            (folder / "one").write_text("x")
            assert [path.name for path in folder.iterdir()] == ["one"]
            assert len([p for p in output_dir.iterdir() if p.name.startswith(".left.partial-")]) == 1
            built += 1
    except DataError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert os.listdir(tmp_path / "records") == ["left"] and os.listdir(tmp_path / "records" / "left") == ["one"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_says_so_in_one_line_and_leaves_nothing(decathlon, tmp_path, number):
    decathlon.add_domain("many", 2, {"train": 1500, "val": 2, "test": 2})
    records = tmp_path / "records"
    command = [sys.executable, REPOSITORY / "data_prep" / "convert.py", "--source=decathlon", "--workers=1"]
    command += [f"--input_dir={decathlon.root}", f"--output_dir={records}", "--domains=many"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The tests themselves may have been started with SIGINT ignored, behind a shell's &.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    while not any(path.stat().st_size for path in records.glob(".many.partial-*/train.spool")):
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.005)
    process.send_signal(number)
    told = process.communicate()
    assert process.returncode == 128 + number
    assert told == ("", f"interrupted by {number.name}; type the same command again\n")
    assert os.listdir(records) == []


def test_a_domain_that_was_being_replaced_comes_back(tmp_path):
    # As a kill between the two renames leaves it.
    old = tmp_path / ".left.old-x" / "left"
    old.mkdir(parents=True)
    (old / "whole").touch()
    try:
        with building(tmp_path, "left"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert os.listdir(tmp_path) == ["left"] and os.listdir(tmp_path / "left") == ["whole"]


def test_what_a_kill_left_beside_a_whole_domain_goes_unless_it_is_at_work(tmp_path):
    for path in ("left/whole", ".left.old-x/left/whole", ".left.partial-x/half", ".left.lock", ".right.lock"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    with building(tmp_path, "right"):
        tidy(tmp_path, "right")
        assert any(path.name.startswith(".right.partial-") for path in tmp_path.iterdir())
    tidy(tmp_path, "left")
    assert sorted(os.listdir(tmp_path)) == ["left", "right"] and os.listdir(tmp_path / "left") == ["whole"]
