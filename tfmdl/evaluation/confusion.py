"""The picture of which classes a classifier takes for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.evaluation.picture import short

MOST_NAMES = 60  # classes that are named beside the matrix; of more, each second one, or third, ...
MOST_NUMBERS = 20  # classes whose cells hold a number
MOST_PAIRS = 20
# In inches.
CLASS, LEAST, MOST, PAIRS = 0.28, 4.6, 8.0, 3.6
RIGHT, WRONG = "Blues", "Reds"


def draw_confusion(name: str, found: Evaluation, label_names: Sequence[str]) -> Figure:
    """Returns the confusion matrix with the names of the classes, and beside it the pairs that are confused most.

    A row is a true class, and its colours are shares of its images: blue where they are right, red where they are
    taken for the class of the column.

    Args:
        name: Of the images.
        found: The evaluation.
        label_names: Of the classes.
    """
    names = [short(label) for label in label_names]
    side = min(MOST, max(LEAST, 1.4 + CLASS * len(names)))
    figure = Figure((side + PAIRS, side), layout="constrained", facecolor="white")
    figure.suptitle(f"{name}: {found.correct:,} of {found.total:,} images right", fontsize=11, parse_math=False)
    matrix, pairs = figure.subplots(1, 2, width_ratios=(side, PAIRS))
    _draw_matrix(matrix, found.confusion, names)
    _draw_pairs(pairs, most_confused(found.confusion), found.confusion.sum(axis=1), names)
    return figure


def most_confused(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns the pairs of true class and answer that were confused most, and how often; at most `MOST_PAIRS`."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(true), int(answer), int(wrong[true, answer])) for true, answer in pairs if wrong[true, answer]]


def _draw_matrix(panel, confusion, names):
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(len(names), dtype=bool)
    panel.imshow(np.ma.masked_array(share, ~diagonal), cmap=RIGHT, vmin=0, vmax=1, interpolation="nearest")
    wrong = np.ma.masked_array(share, diagonal | (confusion == 0))
    # What is confused is seen at half of a row's images as well as at all: most errors are of a few.
    panel.imshow(wrong, cmap=WRONG, vmin=0, vmax=0.5, interpolation="nearest")
    shown = range(0, len(names), -(-len(names) // MOST_NAMES))
    size = max(4.5, min(8, 300 / len(shown)))
    panel.set_xticks(shown, [names[index] for index in shown], rotation=90, fontsize=size, parse_math=False)
    panel.set_yticks(shown, [names[index] for index in shown], fontsize=size, parse_math=False)
    panel.tick_params(length=1, pad=1)
    if len(names) <= MOST_NUMBERS:
        for row, column in np.argwhere(confusion):
            ink = "white" if row == column and share[row, column] > 0.5 else "black"
            told = f"{confusion[row, column]:,}"
            panel.text(column, row, told, ha="center", va="center", fontsize=7, color=ink)
    panel.set_xlabel("answer", fontsize=8)
    panel.set_ylabel("true class", fontsize=8)


def _draw_pairs(panel, pairs, of_class, names):
    panel.set_title("most confused" if pairs else "nothing is confused", fontsize=9, loc="left")
    rows = range(len(pairs))
    panel.barh(rows, [times for *_, times in pairs], color="#e08a84", height=0.75)
    panel.set_ylim(MOST_PAIRS - 0.5, -0.5)  # a few bars are no thicker than many
    panel.set_yticks([])
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    panel.set_xticks([])
    for row, (true, answer, times) in zip(rows, pairs, strict=True):
        told = f" {names[true]} → {names[answer]}   {times:,} of {of_class[true]:,}"
        panel.text(0, row, told, va="center", fontsize=8, parse_math=False)
