"""A conversion that is killed leaves nothing that reads as whole, and the next one starts clean."""

import os
import signal
import subprocess
import sys
import time

from conftest import REPOSITORY
from reading import shard_bytes

from data_prep.plan import DataError
from data_prep.workspace import building
from tfmdl.data.records import converted_domains


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
    leftovers = os.listdir(records)
    assert len(leftovers) == 1 and leftovers[0].startswith(".many.partial-")

    convert_here(decathlon.root, domains=("many",))
    assert os.listdir(records) == ["many"]
    assert shard_bytes(records) == shard_bytes(convert_here(decathlon.root, "undisturbed", domains=("many",)))


def test_two_conversions_of_one_domain_do_not_meet(tmp_path):
    with building(tmp_path, "left") as folder:
        try:
            with building(tmp_path, "left"):
                raise AssertionError("the second one was let in")
        except DataError as error:
            assert "another process is building it" in str(error) and str(folder) in str(error)
        (folder / "whole").touch()
    assert os.listdir(tmp_path / "left") == ["whole"]


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
