"""What happens around the steps of a run."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import keras

from tfmdl.training.checkpoints import restore


class Terminated(Exception):
    """SIGTERM came and a checkpoint was written."""


@contextlib.contextmanager
def sigterm() -> Iterator[Callable[[], bool]]:
    """Keeps SIGTERM from ending the process while the context lasts; gives what says whether it has come."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: came.append(signum))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


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


class AroundSteps(keras.callbacks.Callback):
    """Calls others before and after each step.

    Args:
        before: Called with nothing.
        after: Called with the logs of Keras: the loss of the step, and the metrics of the epoch so far.
    """

    def __init__(self, before: Callable[[], None], after: Callable[[dict], None]):
        super().__init__()
        self.before = before
        self.after = after

    def on_train_batch_begin(self, batch, logs=None):
        self.before()

    def on_train_batch_end(self, batch, logs=None):
        self.after(logs)
