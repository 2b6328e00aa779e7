"""The loop of a run: epoch by epoch it fits, evaluates and leaves a checkpoint; at the end, trunk and packs."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable

from tfmdl import backend
from tfmdl.config import RunConfig
from tfmdl.data.pipeline import naming_bad_records
from tfmdl.data.records import INFO_FILE
from tfmdl.evaluation.accuracy import Evaluation, Tally
from tfmdl.evaluation.answers import AnswerPicker
from tfmdl.training import devices
from tfmdl.training.batches import batches, feature_pipeline
from tfmdl.training.board import Board
from tfmdl.training.callbacks import AroundSteps, RestoreMetrics, Terminated, sigterm
from tfmdl.training.head import fit_head
from tfmdl.training.metrics import metrics_line
from tfmdl.training.optimization import not_finite
from tfmdl.training.progress import Progress
from tfmdl.training.run_folder import ResumeState, RunFolder, metric_variables
from tfmdl.training.setup import Job, prepare
from tfmdl.training.way_back import go_back

_LARGE_LOSS = 1e6  # of a first step: no network begins so, unless its weights or the images are wrong
_IN_FLOAT32 = "--precision=float32, in another --workdir, holds more"


def train(config: RunConfig) -> None:
    """Trains what `config` asks for, going on from the last checkpoint of its workdir, and writes trunk and packs.

    Raises:
        FileNotFoundError: if data or trunk are not there.
        ValueError: if the configuration cannot be run, or the workdir holds a run of another one or one at work.
        FloatingPointError: if loss, weights or answers are no longer finite, or were not to begin with.
        Terminated: on SIGTERM, after a checkpoint was written.
    """
    devices.set_up(config.seed)
    with devices.strategy_scope():
        run(prepare(config))


def run(job: Job) -> None:
    """Trains what is left of a job and writes trunk and packs; errors as `train`."""
    folder = RunFolder(job.config.workdir, backend.writes())
    with contextlib.ExitStack() as until_the_end:
        progress = Progress(job.total_steps, job.recipe.schedule.epochs)
        with backend.together():
            until_the_end.enter_context(folder.locked())
            # Not before: what cannot be run leaves no config.json behind.
            folder.claim(job.config, job.describe(), progress.note)
        board = watching(job, folder)  # before the weights are those of a checkpoint: it shows how far they go
        state = folder.resume(job.network, progress.note)
        pipeline = feature_pipeline(job) if job.features and state.step < job.total_steps else job.pipeline
        evaluations = None
        with progress, board, sigterm() as terminated, naming_bad_records(job.train_sources):
            board.begin(state.step)
            if state.step == 0:
                if job.first_features:
                    fit_head(job)
                if job.recipe.goes_back:
                    with backend.together():
                        folder.save_start(job.network)
            loop = Loop(job, pipeline, folder, state, progress, board, terminated)
            while loop.step < job.total_steps:
                evaluations = loop.epoch()
            if job.recipe.goes_back:
                start = folder.read_start(job.network)
                at_end = evaluations or evaluate(job, board.mistakes)
                evaluations = go_back(job, start, at_end, lambda: evaluate(job, board.mistakes), progress.note)
            evaluations = evaluations or evaluate(job, board.mistakes)
            board.end(loop.step, evaluations)
        with backend.together():
            folder.write_results(job, evaluations)
        progress.note(folder.what_next(job))


def watching(job: Job, folder: RunFolder) -> Board:
    """Returns what watches a run, before it begins or goes on: with its weights as they were at first."""
    if not job.config.tensorboard or not folder.writes:
        return Board()
    # It brings along what draws its pictures, which a run without it does not wait for.
    from tfmdl.training.tensorboard import TensorBoard

    return TensorBoard(job, folder)


def evaluate(job: Job, mistakes: int = 0) -> dict[str, Evaluation]:
    """Evaluates every domain that has labelled val images it was not trained on.

    Args:
        job: What is trained.
        mistakes: How many wrong answers of each domain to keep.
    """
    evaluations = {}
    for source in job.val_sources:
        tally, picker = Tally(job.infos[source.domain].num_classes), AnswerPicker(wrong=mistakes, right=0)
        for predictions in job.predict(source):
            tally.add(predictions.logits, predictions.labels, predictions.gates)
            picker.add(predictions.image_ids, predictions.logits, predictions.labels)
        evaluations[source.domain] = dataclasses.replace(tally.result(), wrong=picker.wrong)
    return evaluations


class Loop:
    """Counts the steps of a job from where it goes on, and does what is due around them.

    Args:
        job: What is trained.
        pipeline: The batches that it is trained on: its own of images, or of their features.
        folder: Takes metrics and checkpoints.
        state: Where it goes on, as `RunFolder.resume` left it.
        progress, board: Show it.
        terminated: Says whether it is to stop at the end of the step.
    """

    def __init__(
        self,
        job: Job,
        pipeline,
        folder: RunFolder,
        state: ResumeState,
        progress: Progress,
        board: Board,
        terminated: Callable[[], bool],
    ):
        self.job = job
        self.pipeline = pipeline
        self.folder = folder
        self.progress = progress
        self.board = board
        self.terminated = terminated
        self.step = state.step
        self._resumed = state
        self._last_checkpoint = state.checkpoint
        self._started = 0.0
        self._first_loss = 0.0

    def epoch(self) -> dict[str, Evaluation]:
        """Trains to the end of the epoch, evaluates, and writes its line of metrics, then a checkpoint.

        Raises:
            FloatingPointError: if loss, weights or answers are not finite.
            Terminated: if SIGTERM has come.
        """
        job = self.job
        number = self.step // job.steps_per_epoch
        before = number * job.steps_per_epoch
        logs = self._fit(number, self.step - before, min(job.steps_per_epoch, job.total_steps - before))
        rate = (self.step - before) * job.recipe.batch_size / (time.perf_counter() - self._started)
        self._check_weights()
        try:
            evaluations = evaluate(job, self.board.mistakes)
        except FloatingPointError as error:
            raise self._diverged(str(error)) from error
        line = metrics_line(number, self.step, logs, job.recipe.learning_rate_in(number), rate, evaluations)
        self.folder.add_metrics(line)
        self.board.epoch(line, evaluations)
        self.progress.epoch(line)
        self._checkpoint()
        return evaluations

    def _fit(self, epoch, first, end):
        """Takes the steps `first` to `end` of an epoch, and returns the logs of all of it."""
        network = self.job.network
        self._started = time.perf_counter() - self._resumed.epoch_seconds
        history = network.fit(
            self.board.watched(batches(self.job, self.pipeline, epoch, first).take(end - first)),
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            shuffle=False,  # the pipeline has shuffled
            callbacks=[
                RestoreMetrics(metric_variables(network), self._resumed.metrics),
                AroundSteps(self._before_step, self._after_step),
            ],
        )
        self._resumed = ResumeState()  # the next epoch begins
        return {name: values[-1] for name, values in history.history.items()}

    def _before_step(self):
        self.board.before_step(self.step + 1)

    def _after_step(self, logs):
        self.step += 1
        self.board.after_step(self.step, logs)
        lost = None if math.isfinite(logs["loss"]) else f"the loss is {logs['loss']}"
        # Loss and statistics of the first step are of the weights that training begins with.
        if self.step == 1:
            self._first_loss = logs["loss"]
            if lost := lost or not_finite(backend.synced(self.job.network).non_trainable_variables):
                raise self._overflown(lost)
        if lost:
            raise self._diverged(lost)
        self.progress.step(self.step, self.job.recipe.batch_size, logs)
        due = self.terminated() or self.step % self.job.config.checkpoint_every == 0
        # The checkpoint at the end of an epoch waits until the epoch's line is in metrics.jsonl.
        if due and self._mid_epoch() and self.step < self.job.total_steps:
            self._checkpoint()

    def _checkpoint(self):
        self._check_weights()
        seconds = time.perf_counter() - self._started if self._mid_epoch() else None
        self._last_checkpoint = self.folder.save_checkpoint(self.job.network, self.step, seconds)
        if self.terminated():
            if not self.folder.writes:
                raise Terminated("SIGTERM: the same command goes on from the last checkpoint")
            raise Terminated(f"SIGTERM: wrote {self._last_checkpoint}; the same command goes on from there")

    def _mid_epoch(self):
        return self.step % self.job.steps_per_epoch != 0

    def _check_weights(self):
        # The loss of a step may be finite, and its update may not.
        if lost := not_finite(backend.synced(self.job.network).variables):
            raise self._diverged(lost)

    def _diverged(self, what):
        if self._first_loss > _LARGE_LOSS:
            return self._overflown(f"{what}, after a loss of {self._first_loss:.0e} at step 1,")
        last = self._last_checkpoint
        advice = f"The same command with a lower --learning_rate {'goes on from there' if last else 'begins anew'}"
        if self.job.config.precision != "float32":
            advice += f"; where that does not help, {_IN_FLOAT32}"
        return FloatingPointError(
            f"{what} at step {self.step}; last good checkpoint: {last or 'none was written'}. {advice}"
        )

    def _overflown(self, what):
        job = self.job
        if job.config.precision != "float32":
            advice = _IN_FLOAT32
        else:
            trunk = f"the trunk {job.trunk.path} and " if job.trunk else ""
            advice = f"look at {trunk}pixel_std in {job.config.data_dir}/{job.base}/{INFO_FILE}"
        return FloatingPointError(
            f"{what} at step {self.step}: the images, or the weights that training begins with, are too large for "
            f"{job.config.precision}: {advice}"
        )
