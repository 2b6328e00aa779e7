"""Commands start in one way: as files of a checkout, as modules, and as the scripts of the installed package."""

import configparser
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from test_imports import COMMANDS

from tfmdl import cli

ROOT = pathlib.Path(__file__).parents[1]


def script_modules():
    """Returns by name of a console script the module whose `run` it calls."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    points = [importlib.metadata.EntryPoint(*line.split(" = "), "console_scripts") for line in lines]
    assert {point.attr for point in points} == {"run"}
    return {point.name: point.module for point in points}


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_importing_a_command_defines_no_flags():
    program = f"""
import importlib, absl.app, absl.flags
import tensorflow, tensorflow_datasets
before = set(absl.flags.FLAGS)
for name in {COMMANDS}:
    module = importlib.import_module(name)
    assert callable(module.define_flags) and callable(module.main) and callable(module.run), name
    assert set(absl.flags.FLAGS) == before, name
"""
    done = run("-c", program)
    assert done.returncode == 0, done.stderr


def test_every_command_is_a_script_of_the_installed_package(monkeypatch, tmp_path):
    scripts = script_modules()
    assert sorted(scripts.values()) == sorted(COMMANDS)
    for name, module in scripts.items():
        started = module.removesuffix(".__main__")
        *_, what = cli.typed(started).split()
        assert what == started or (ROOT / what).is_file()
        with monkeypatch.context() as installed:
            installed.setattr(cli, "_ROOT", tmp_path)
            assert cli.typed(started) == name


@pytest.mark.parametrize(
    ("command", "usage", "flag", "others"),
    [
        (["train.py"], "Trains a trunk, or adds a domain", "--soft_layers:", "--url"),
        (["-m", "tfmdl.score"], "The Visual Decathlon score", "--baseline_runs:", "--workdir"),
        (["data_prep/verify.py"], "Reads every record", "--data_dir:", "--workdir"),
        (["-c", "from tfmdl.client import run; run()"], "Asks a served model", "--url:", "--workdir"),
    ],
    ids=["file", "module", "file of data_prep", "script"],
)
def test_help_is_that_of_the_command(command, usage, flag, others):
    done = run(*command, "--help")
    assert done.stdout.lstrip().startswith(usage) and flag in done.stdout and others not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["-m", "tfmdl.demo", "x"], "unexpected argument 'x': flags are --name=value"),
        (["data_prep/verify.py", "--data_dir=d", "x"], "unexpected argument 'x': flags are --name=value"),
        (["data_prep/verify.py", "--data_dri=d"], "Unknown command line flag 'data_dri'"),
        (["data_prep/verify.py"], "Flag --data_dir must have a value other than None"),
        (["-m", "tfmdl.campaign", "--jobs=none"], "--jobs=none"),
    ],
)
def test_bad_arguments_are_one_line(command, told):
    refused = run(*command)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), refused.stderr
    assert refused.stderr.startswith("error: ") and told in refused.stderr


def default_sigint():
    """For a child's start: the tests themselves may have been started with SIGINT ignored, behind a shell's &."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def slow_tensorflow(tmp_path):
    """Returns an environment in which the import of TensorFlow tells that it has begun, and does not end."""
    (tmp_path / "tensorflow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    return os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("command", [["-m", "tfmdl.params"], ["data_prep/verify.py", "--data_dir=d"]])
def test_ctrl_c_while_tensorflow_is_imported_is_one_line(command, slow_tensorflow):
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=slow_tensorflow,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_sigint,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)
    assert told == ("", "interrupted by SIGINT; type the same command again\n")
    assert process.returncode == 130


def test_ctrl_c_is_told_of_where_another_error_takes_its_place(tmp_path):
    """As in code that is called from C, which cannot pass it on."""
    script = tmp_path / "drawn.py"
    script.write_text(
        "import os, signal\n"
        "from tfmdl.cli import start\n\n"
        "def main(argv):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException:\n"
        "        raise ValueError('Invalid affine transformation matrix')\n\n"
        "start('Draws.', lambda: None, main)\n"
    )
    ended = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=default_sigint,
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted by SIGINT; type the same command again\n")


@pytest.mark.slow
def test_many_networks_one_after_the_other_say_nothing():
    """TensorFlow would warn of tracing the same function again and again: each network has its own."""
    script = (
        "import tfmdl.quiet, keras, numpy\n"
        "for _ in range(8):\n"
        "    network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])\n"
        "    network.predict_on_batch(numpy.zeros((1, 2)))\n"
    )
    said = run("-c", script)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
