"""Start-up: `python train.py` to its first finished step; and its memory on a domain and on one ten times as large."""

import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import time
from functools import partial

from absl import app, flags

from benchmarks import common, data
from benchmarks.common import FLAGS, Claim, Contestant

flags.DEFINE_integer("records", 10_000, "Records of the domain.", lower_bound=1)
flags.DEFINE_integer("memory_steps", 400, "Steps of the runs whose memory is measured.", lower_bound=1)

TRAIN = pathlib.Path(__file__).resolve().parents[1] / "train.py"
_STEP_DONE = re.compile(rb"step\s+\S*?([1-9]\d*)/\d+")


def first_step(data_dir, *arguments):
    """Seconds from the command to the first finished step, as a terminal shows it."""

    def turn():
        with tempfile.TemporaryDirectory() as workdir:
            ours, theirs = pty.openpty()
            environment = os.environ | {"COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1"}
            started = time.perf_counter()
            run = subprocess.Popen(
                [sys.executable, TRAIN, "--domain=small", f"--data_dir={data_dir}", f"--workdir={workdir}/run"]
                + ["--max_steps=1000", *arguments],
                stdout=theirs,
                stderr=theirs,
                env=environment,
            )
            os.close(theirs)
            try:
                shown = b""
                while not _STEP_DONE.search(_plain(shown)):
                    shown += os.read(ours, 65536)  # an OSError when the run has ended without a step
                return time.perf_counter() - started
            except OSError as error:
                raise RuntimeError(f"train.py ended without a step:\n{shown.decode(errors='replace')}") from error
            finally:
                run.kill()
                run.wait()
                os.close(ours)

    return turn


def _plain(shown):
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown)


def imports():
    """Seconds to import TensorFlow and Keras in a new process."""

    def turn():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow, keras"], check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started

    return turn


def peak_memory(data_dir, domain, steps):
    """MB that a small network's training holds at most."""

    def turn():
        with tempfile.TemporaryDirectory() as workdir:
            command = [sys.executable, TRAIN, f"--domain={domain}", f"--data_dir={data_dir}"]
            command += [f"--workdir={workdir}/run", f"--max_steps={steps}", "--nocache"]
            command += ["--width=2", "--blocks_per_stage=1", "--image_size=64", "--batch_size=128"]
            run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(run.pid, 0)
            if status:
                raise RuntimeError(f"train.py --domain={domain} failed")
            return usage.ru_maxrss / 1024

    return turn


def main(_):
    with tempfile.TemporaryDirectory() as folder:
        files = data.jpegs(1000) * (FLAGS.records // 1000 or 1)
        data.write_domain(folder, "small", 0, files=files)
        data.write_domain(folder, "large", 0, shards=10, files=files)
        common.compare(
            "startup",
            [
                Contestant("train.py, first step", partial(first_step, folder)),
                Contestant("import of TensorFlow and Keras", imports),
            ],
            [Claim("train.py to its first finished step, s", "train.py, first step", None, 15)],
            unit="s",
            less_is_better=True,
        )
        common.compare(
            "memory",
            [
                Contestant("1x records", partial(peak_memory, folder, "small", FLAGS.memory_steps)),
                Contestant("10x records", partial(peak_memory, folder, "large", FLAGS.memory_steps)),
            ],
            [Claim("memory of 1x against 10x records", "10x records", "1x records", 0.97)],
            unit="MB",
            less_is_better=True,
            rounds=min(FLAGS.rounds, 3),
        )


if __name__ == "__main__":
    app.run(main)
