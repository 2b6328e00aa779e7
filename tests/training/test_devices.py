"""On one device nothing is mirrored; what holds on two is in on_two_devices.py, which wants a process of its own."""

import contextlib
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
def test_on_two_devices():
    file = pathlib.Path(__file__).with_name("on_two_devices.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stdout
