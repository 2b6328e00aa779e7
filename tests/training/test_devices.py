"""On one device nothing is mirrored; what holds on several is in on_several_devices.py, in processes of its own."""

import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

from tfmdl.training import devices


def test_one_device_has_no_strategy_and_leaves_xla_to_the_flag():
    assert devices.replicas() == ["CPU:0"]
    assert isinstance(devices.strategy_scope(), contextlib.nullcontext)
    assert [devices.use_xla(flag) for flag in ("on", "off", "auto")] == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_on_several_devices(number):
    file = pathlib.Path(__file__).with_name("on_several_devices.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 1800}
    ended = subprocess.run(command, env={**os.environ, "DEVICES": str(number)}, **how)
    assert ended.returncode == 0, ended.stdout
