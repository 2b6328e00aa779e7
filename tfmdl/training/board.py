"""What watches a run."""

from tfmdl.evaluation.accuracy import Evaluation


class Board:
    """Is told what a run does, and shows nothing of it; the base of what shows something.

    A context: what it has open is closed at its end, whatever ends the run.

    Attributes:
        mistakes: How many wrong answers it wants of each evaluation.
    """

    mistakes = 0

    def begin(self, step: int) -> None:
        """The run begins, or goes on after `step` steps."""

    def watched(self, batches):
        """Returns the batches of an epoch, a dataset, which the steps from now on are taken from."""
        return batches

    def before_step(self, step: int) -> None:
        """The step that is the `step`th, from 1, is next."""

    def after_step(self, step: int, logs: dict) -> None:
        """It is taken; `logs` are Keras's, means over the epoch so far."""

    def epoch(self, line: dict, evaluations: dict[str, Evaluation]) -> None:
        """An epoch is over: its line of metrics.jsonl, and what was found on val."""

    def end(self, step: int, evaluations: dict[str, Evaluation]) -> None:
        """The run is over after `step` steps, and the network is what `evaluations` are of."""

    def close(self) -> None:
        """Closes what is open."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
