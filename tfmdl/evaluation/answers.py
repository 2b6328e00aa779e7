"""Single answers of a classifier to show: the most wrong ones, and some right ones."""

import dataclasses
import heapq

import numpy as np

# Odd, so that multiplying by it shuffles the numbers below 2**64.
_SHUFFLE = 0x9E3779B97F4A7C15


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a classifier said of one image.

    Attributes:
        image_id: Of the image.
        label: Index of its true class.
        answer: Index of the class that it was taken for.
        probability: Of that class, in 0..1.
        image: What the network saw of it, uint8 (height, width, 3); None until it is read.
    """

    image_id: int
    label: int
    answer: int
    probability: float
    image: np.ndarray | None = None

    @property
    def right(self) -> bool:
        return self.answer == self.label


class AnswerPicker:
    """Picks answers out of the batches of one domain; which ones does not depend on the order of the images.

    Args:
        wrong: Number of wrong answers to keep: those of the highest probability.
        right: Number of right answers to keep: as if by chance, the same for the same image ids.
    """

    def __init__(self, wrong: int, right: int):
        self._limits = {False: wrong, True: right}
        self._kept = {False: [], True: []}

    def add(self, image_ids: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
        """Looks at int64 (batch,) ids, float (batch, classes) logits and int (batch,) labels."""
        if not any(self._limits.values()):
            return  # most evaluations show none, and they may be of many images
        logits = logits.astype("float64")
        answers = logits.argmax(axis=1)
        probabilities = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        columns = (values.tolist() for values in (image_ids, labels, answers, probabilities))
        for answer in map(Answer, *columns):
            self._kept[answer.right].append(answer)
        for right, limit in self._limits.items():
            self._kept[right] = heapq.nsmallest(limit, self._kept[right], key=_by_chance if right else _most_wrong)

    @property
    def wrong(self) -> tuple[Answer, ...]:
        """The wrong answers that were kept, the most wrong one first."""
        return tuple(self._kept[False])

    @property
    def right(self) -> tuple[Answer, ...]:
        """The right answers that were kept."""
        return tuple(self._kept[True])


def _most_wrong(answer):
    return -answer.probability, answer.image_id


def _by_chance(answer):
    return answer.image_id * _SHUFFLE % 2**64
