"""Accuracy, loss and confusion of one classifier on one domain."""

import dataclasses

import numpy as np

from tfmdl.evaluation.answers import Answer


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a classifier did on the labelled images of one domain.

    Attributes:
        confusion: int64 (classes, classes): row the true class, column the predicted one.
        loss: Mean cross-entropy in nats.
        gates: Mean weights of the experts, (layers, experts), or None where no layer mixes any.
        wrong: As many of the wrong answers as were asked for, and there are: the most wrong one first.
    """

    confusion: np.ndarray
    loss: float
    gates: np.ndarray | None = None
    wrong: tuple[Answer, ...] = ()

    @property
    def total(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified right, in 0..1."""
        return self.correct / self.total

    @property
    def per_class(self) -> list[tuple[int, int]]:
        """Pairs (classified right, in all) by class."""
        return list(zip(np.diag(self.confusion).tolist(), self.confusion.sum(axis=1).tolist(), strict=True))


class Tally:
    """Adds up batches of logits and labels of one domain into an `Evaluation`.

    Args:
        num_classes: Number of classes of the domain.
    """

    def __init__(self, num_classes: int):
        self._confusion = np.zeros((num_classes, num_classes), "int64")
        self._loss = 0.0
        self._gates = None

    def add(self, logits: np.ndarray, labels: np.ndarray, gates: np.ndarray | None = None) -> None:
        """Adds float (batch, classes) logits, int (batch,) labels and (batch, layers, experts) gates if there are any.

        Raises:
            ValueError: if a label is not one of the classes (unknown labels are -1).
        """
        outside = labels[(labels < 0) | (labels >= len(self._confusion))]
        if len(outside):
            raise ValueError(f"labels must be in 0..{len(self._confusion) - 1} to be scored; received {outside[0]}")
        logits = logits.astype("float64")
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        self._loss += float((log_sum - logits[np.arange(len(labels)), labels]).sum())
        np.add.at(self._confusion, (labels, logits.argmax(axis=1)), 1)
        if gates is not None:
            self._gates = gates.sum(axis=0, dtype="float64") + (0.0 if self._gates is None else self._gates)

    def result(self) -> Evaluation:
        """Returns what was added up.

        Raises:
            ValueError: if nothing was.
        """
        total = int(self._confusion.sum())
        if not total:
            raise ValueError("there are no images to evaluate")
        gates = None if self._gates is None else self._gates / total
        return Evaluation(self._confusion.copy(), self._loss / total, gates)

