"""Numbers of a run by step: loss, accuracy, learning rate, images per second, and what steps wait for."""

import time
from collections.abc import Callable

import tensorflow as tf

POINTS = 20  # of an epoch, at most about


class Steps:
    """Sums up the steps of a run in points, each of some steps.

    Keras takes a batch inside of its step. So the end of the batches says when each has come: what passes from the
    beginning of a step until then is waiting for input, the rest of the step is computing. On several devices batches
    are fetched ahead of their step, and waiting is not seen.

    Args:
        learning_rate: Gives that of a step, counted from 0.
        batch_size: Images of a step.
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(self, learning_rate: Callable[[int], float], batch_size: int, steps_per_epoch: int):
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._rate = learning_rate
        self._every = max(1, steps_per_epoch // POINTS)
        self._before = None  # the last point of the epoch: how many steps it had, and the means over these
        self._traced = False  # the first step compiles the network: its time says nothing of the others
        self._learning_rate = self._began = self._came = self._waited = self._took = 0.0
        self._timed = 0

    def watched(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns batches, pairs of inputs and labels, of which it is known when each has come."""

        def come(inputs, labels):
            # Not stateful, which would keep batches from being made ahead where ops are to be repeatable.
            same = tf.numpy_function(self._come, [labels], labels.dtype, stateful=False)
            return inputs, tf.ensure_shape(same, labels.shape)

        options = tf.data.Options()
        # A buffer behind this, or this made one with what is before it, would tell the time too early.
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        return batches.map(tf.autograph.experimental.do_not_convert(come)).with_options(options)

    def before(self, step: int) -> None:
        """The step that is the `step`th, from 1, begins."""
        if self._due(step):
            self._learning_rate = self._rate(step - 1)
        self._began = time.perf_counter()

    def after(self, step: int, logs: dict[str, float]) -> dict[str, float]:
        """The step has ended, `logs` are means over the epoch so far; returns the numbers of a point, or none."""
        if self._traced:
            now = time.perf_counter()
            self._waited += max(0.0, self._came - self._began)
            self._took += now - self._began
            self._timed += 1
        self._traced = True
        done = self._of_epoch(step)
        if done == 1:
            self._before = (0, dict.fromkeys(logs, 0.0))
        if self._before is None:  # goes on in the middle of an epoch: what was before is not known
            self._before = (done, logs)
            return {}
        if not self._due(step):
            return {}
        done_before, logs_before = self._before
        self._before = (done, logs)

        def mean(name):
            return (done * logs[name] - done_before * logs_before[name]) / (done - done_before)

        point = {
            "loss": mean("cross_entropy"),
            "accuracy": mean("accuracy"),
            "learning_rate": self._learning_rate,
        }
        if self._timed:
            point["images_per_second"] = self._timed * self._batch_size / self._took
            if self._came:
                point["waiting_for_input"] = self._waited / self._took
            self._waited, self._took, self._timed = 0.0, 0.0, 0
        return point

    def _come(self, labels):
        self._came = time.perf_counter()
        return labels

    def _of_epoch(self, step):
        return (step - 1) % self._steps_per_epoch + 1

    def _due(self, step):
        done = self._of_epoch(step)
        return done % self._every == 0 or done == self._steps_per_epoch
