"""What happens around the steps of a run."""

import contextlib
import math
import signal
import time

import keras
import numpy as np

from tfmdl.training.checkpoints import restore


class Terminated(Exception):
    """SIGTERM came and a checkpoint was written."""


class RestoreMetrics(keras.callbacks.Callback):
    """Sets the running metrics of an epoch that goes on in the middle: Keras resets them before this is called.

    Args:
        variables: The metrics' variables.
        values: As `collect` returned them, or None for an epoch that begins.
    """

    def __init__(self, variables, values):
        super().__init__()
        self.variables = variables
        self.values = values

    def on_epoch_begin(self, epoch, logs=None):
        if self.values is not None:
            restore({"metrics": self.variables}, self.values)


class CheckpointAndWatch(keras.callbacks.Callback):
    """Counts the steps; writes checkpoints, shows progress, and stops on SIGTERM or a loss that is not finite.

    Args:
        run: The `Run`.
        progress: Shows each step.
        board: TensorBoard.
        step: Steps already done.
        last_checkpoint: The file that the run goes on from, or None.
    """

    def __init__(self, run, progress, board, step, last_checkpoint):
        super().__init__()
        self.run = run
        self.progress = progress
        self.board = board
        self.step = step
        self.last_checkpoint = last_checkpoint
        self._terminate = False
        self._started = 0.0

    @contextlib.contextmanager
    def sigterm(self):
        """Turns SIGTERM into a checkpoint and `Terminated`, at the end of the step, while the context lasts."""

        def note(signum, frame):
            self._terminate = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def begin_epoch(self, seconds_before):
        """Starts the clock of an epoch of which `seconds_before` have been spent already."""
        self._started = time.perf_counter() - seconds_before

    def on_train_batch_begin(self, batch, logs=None):
        self.board.before_step(self.step + 1)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.board.after_step(self.step)
        if not math.isfinite(logs["loss"]):
            raise self._diverged(f"the loss is {logs['loss']}")
        self.progress.step(self.step, self.run.recipe.batch_size, logs)
        # The checkpoint at the end of an epoch waits until the epoch's line is in metrics.jsonl.
        due = self._terminate or self.step % self.run.config.checkpoint_every == 0
        if due and not self.run.ends_epoch(self.step):
            self.checkpoint()

    def on_epoch_end(self, epoch, logs=None):
        self._check_weights()

    def checkpoint(self):
        """Writes a checkpoint.

        Raises:
            FloatingPointError: if a weight is not finite: the loss of the step before was, and its update was not.
            Terminated: if SIGTERM has come.
        """
        self._check_weights()
        self.last_checkpoint = self.run.save_checkpoint(self.step, time.perf_counter() - self._started)
        if self._terminate:
            raise Terminated(f"SIGTERM: wrote {self.last_checkpoint}; the same command goes on from there")

    def _check_weights(self):
        for variable in self.run.network.variables:
            if not np.isfinite(np.asarray(variable)).all():
                raise self._diverged(f"{variable.path} is not finite")

    def _diverged(self, what):
        last = self.last_checkpoint or "none was written"
        return FloatingPointError(
            f"{what} at step {self.step}; last good checkpoint: {last}. A lower --learning_rate may help"
        )
