"""Training on Keras's JAX backend: on one device, on four, and by two processes, all of them started as a user does."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from reading_runs import metrics_of, without_speed

from tfmdl.files import read_tensors

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
NOTHING = {}
SECONDS = 400


def command(*arguments, **environment):
    """Starts a Python of its own: one that is forked would have the backend of this one."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(workdir, data_dir, *flags, processes=1, environment=NOTHING):
    """Starts a run of two epochs of five steps, with what is random in it; returns its processes."""
    given = (
        "train.py", f"--data_dir={data_dir}", f"--workdir={workdir}",
        "--domain=ucf101", "--recipe=quick", "--epochs=2", "--width=2", "--blocks_per_stage=1", "--image_size=16",
        "--batch_size=8", "--learning_rate=0.02", "--flips", "--checkpoint_every=3", "--tensorboard=false", *flags,
    )  # fmt: skip
    if processes == 1:
        return [command(*given, **environment)]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = "localhost:{1}".format(*free.getsockname())
    told = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes)}
    return [
        command(*given, "--distributed", KERAS_DISTRIBUTION_PROCESS_ID=str(index), **told, **environment)
        for index in range(processes)
    ]


def ended(started):
    """Returns what each of some processes has said on standard output and error, when all have ended."""
    return [process.communicate(timeout=SECONDS) for process in started]


def said(started):
    """Returns what each has said on standard output, when all have ended as they should."""
    outputs = ended(started)
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]


def assert_close(workdir, wanted_of, rtol, atol):
    for name in ("trunk.safetensors", "packs/ucf101.safetensors"):
        found, wanted = (read_tensors(folder / name)[0] for folder in (workdir, wanted_of))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key], value, rtol, atol, err_msg=key)


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    """Folder of a finished run on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    said(train(workdir, data_dir))
    return workdir


def stopped(alone, workdir):
    """Makes a run that was killed in the middle of its second epoch."""
    shutil.copytree(alone, workdir)
    shutil.rmtree(workdir / "packs")
    (workdir / "trunk.safetensors").unlink()
    (workdir / "checkpoints" / "step-000000010.safetensors").unlink()
    assert (workdir / "checkpoints" / "step-000000009.safetensors").exists()


@pytest.mark.parametrize(("processes", "environment"), [(1, FOUR), (2, NOTHING)])
def test_devices_and_processes_train_as_one(processes, environment, alone, data_dir, tmp_path):
    first, *others = said(train(tmp_path, data_dir, processes=processes, environment=environment))
    assert_close(tmp_path, alone, rtol=1e-3, atol=1e-4)
    for found, wanted in zip(metrics_of(tmp_path), metrics_of(alone), strict=True):
        assert found["train/loss"] == pytest.approx(wanted["train/loss"], rel=1e-3)
        assert found["val/loss"] == pytest.approx(wanted["val/loss"], rel=1e-3)
    assert first.count("epoch ") == 2 and not any("epoch " in other for other in others), "one process is heard"


@pytest.mark.parametrize(("processes", "environment", "tolerance"), [(1, NOTHING, 0), (2, FOUR, 1e-4)])
def test_a_run_goes_on_with_as_many_devices_as_there_are(
    processes, environment, tolerance, alone, data_dir, tmp_path
):
    """With as many as before, to the bit."""
    workdir = tmp_path / "run"
    stopped(alone, workdir)
    said(train(workdir, data_dir, processes=processes, environment=environment))
    assert_close(workdir, alone, rtol=tolerance, atol=tolerance)
    if not tolerance:
        assert without_speed(metrics_of(workdir)) == without_speed(metrics_of(alone))


def test_what_one_process_finds_wrong_ends_both(alone, data_dir):
    before = (alone / "config.json").read_bytes()
    both = train(alone, data_dir, "--epochs=3", processes=2)
    (_, first), (_, second) = ended(both)
    assert [process.returncode for process in both] == [1, 1]
    assert "--epochs: was 2, now 3" in first
    assert "error: process 0 of this run cannot go on, and says why" in second
    assert (alone / "config.json").read_bytes() == before


def test_tensorflow_evaluates_what_jax_has_trained(alone, data_dir):
    evaluation = command("eval.py", f"--workdir={alone}", f"--data_dir={data_dir}", KERAS_BACKEND="tensorflow")
    (line,) = (line for line in said([evaluation])[0].splitlines() if line.startswith("ucf101"))
    assert float(line.split()[1]) == pytest.approx(100 * metrics_of(alone)[-1]["val/accuracy"], abs=0.01)


def test_exports_want_tensorflow(alone, tmp_path):
    export = command("-m", "tfmdl.export", f"--workdir={alone}", f"--export_dir={tmp_path}")
    ((_, errors),) = ended([export])
    assert export.returncode == 1 and "error: an export is a graph of TensorFlow" in errors
    assert not list(tmp_path.iterdir())
