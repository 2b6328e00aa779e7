"""What TensorBoard's events cost a run: training with and without them, a step's share by itself, and pictures."""

import tempfile
import time
from functools import partial

from absl import app, flags

from benchmarks import common, data
from benchmarks.common import FLAGS, Claim, Contestant

flags.DEFINE_integer("records", 2000, "Records of the domain.", lower_bound=1)
flags.DEFINE_integer("epochs", 1, "Epochs per turn.", lower_bound=1)
common.define_size_flags()

WITH, WITHOUT = "with events", "--tensorboard=false"
STEPS = 200  # that an epoch is taken to have


def job_on(data_dir, size, workdir, tensorboard):
    """Returns a job on drawn images, and the folder of its run."""
    from tfmdl.architecture import Architecture
    from tfmdl.config import RunConfig
    from tfmdl.training import devices
    from tfmdl.training.run_folder import RunFolder
    from tfmdl.training.setup import prepare

    devices.set_up(0)
    config = RunConfig(
        domains=("drawn",),
        data_dir=data_dir,
        workdir=workdir,
        architecture=Architecture(width=size.width),
        recipe="quick",
        epochs=10_000,
        batch_size=size.batch,
        image_size=size.image_size,
        tensorboard=tensorboard,
    )
    return prepare(config), RunFolder(workdir)


def loop_on(job, folder):
    """Returns the loop of a job, and what watches it."""
    from tfmdl.training.loop import Loop, watching
    from tfmdl.training.progress import Progress
    from tfmdl.training.run_folder import ResumeState

    folder.path.mkdir(exist_ok=True)
    board = watching(job, folder)
    board.begin(0)
    progress = Progress(job.total_steps, job.recipe.schedule.epochs)
    return Loop(job, job.pipeline, folder, ResumeState(), progress, board, lambda: False), board


def training(data_dir, size, epochs, tensorboard):
    """Images per second of epochs, evaluation and all that is written besides left out."""
    from tfmdl.training.metrics import read_metrics

    workdir = tempfile.mkdtemp()
    job, folder = job_on(data_dir, size, workdir, tensorboard)
    loop, _ = loop_on(job, folder)

    def turn():
        for _ in range(epochs):
            loop.epoch()
        lines = read_metrics(folder.metrics)[-epochs:]
        return epochs / sum(1 / line["images_per_second"] for line in lines)

    return turn


def around_steps(data_dir, size, tensorboard):
    """Milliseconds of the processor per step for what is done around it, and at the end of an epoch but pictures.

    Taking a batch that is ready is in it, with and without.
    """
    import tensorflow as tf

    from tfmdl.training.batches import batches

    job, folder = job_on(data_dir, size, tempfile.mkdtemp(), tensorboard)
    _, board = loop_on(job, folder)
    ready = next(iter(batches(job, job.pipeline, 0, 0)))
    logs = {"loss": 1.0, "cross_entropy": 1.0, "accuracy": 0.5}
    line = {"epoch": 3, "step": STEPS, "train/loss": 1.0, "train/accuracy": 0.5}

    def turn():
        started = time.process_time()
        for step, _ in enumerate(board.watched(tf.data.Dataset.from_tensors(ready).repeat(STEPS)), 1):
            board.before_step(step)
            board.after_step(step, logs)
        board.epoch(line, {})
        return 1000 * (time.process_time() - started) / STEPS

    return turn


def pictures(data_dir, size):
    """Seconds of the processor that the pictures of one epoch take."""
    from tfmdl.training.loop import evaluate

    job, folder = job_on(data_dir, size, tempfile.mkdtemp(), True)
    loop, board = loop_on(job, folder)
    loop.epoch()
    evaluations = evaluate(job, board.mistakes)

    def turn():
        started = time.process_time()
        board.end(loop.step, evaluations)
        return time.process_time() - started

    return turn


def main(_):
    with tempfile.TemporaryDirectory() as folder:
        data.write_domain(folder, "drawn", FLAGS.records)
        common.compare(
            "board",
            [
                Contestant(name, partial(training, folder, common.size(), FLAGS.epochs, name == WITH))
                for name in (WITH, WITHOUT)
            ],
            [Claim("training with TensorBoard's events against without", WITH, WITHOUT, 0.97)],
        )
        common.compare(
            "board_step",
            [
                Contestant(f"around a step, {name}", partial(around_steps, folder, common.size(), name == WITH))
                for name in (WITH, WITHOUT)
            ],
            unit="ms",
            less_is_better=True,
        )
        common.compare(
            "board_pictures",
            [Contestant("pictures", partial(pictures, folder, common.size()))],
            unit="s",
            less_is_better=True,
            rounds=min(FLAGS.rounds, 3),
        )


if __name__ == "__main__":
    app.run(main)
