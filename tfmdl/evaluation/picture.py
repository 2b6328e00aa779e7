"""The picture of what a classifier got wrong."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.evaluation.answers import Answer
from tfmdl.evaluation.evaluate import EvaluationResult
from tfmdl.outside import printable

COLUMNS = 6
MOST = 60  # images of a picture
LONGEST_LABEL = 24
# In inches.
CELL, CAPTION, HEAD, GAP = 1.9, 0.42, 0.62, 0.06


def draw_mistakes(result: EvaluationResult, domain: str) -> Figure:
    """Returns a grid of the wrong answers that were kept of a domain, the most wrong first.

    Below each image stand its true class, and the class that it was taken for with its probability.
    """
    name = f"{domain}, {result.config.split}"
    return draw_answers(name, result.evaluations[domain], result.wrong[domain], result.infos[domain].label_names)


def draw_answers(name: str, found: Evaluation, mistakes: Sequence[Answer], label_names: Sequence[str]) -> Figure:
    """Returns such a grid of wrong answers, with their images.

    Args:
        name: Of the images.
        found: The evaluation that the answers are of.
        mistakes: The answers, at least one, in their order.
        label_names: Of the classes.
    """
    columns = min(COLUMNS, max(3, len(mistakes)))
    rows = -(-len(mistakes) // columns)
    width, height = columns * CELL, HEAD + rows * (CELL + CAPTION)
    figure = Figure((width, height), facecolor="white")

    def write(x, y, text, **style):
        # Of a class name "$" and "_" are only letters.
        figure.text(x / width, 1 - y / height, text, ha="center", va="top", parse_math=False, **style)

    num_wrong = found.total - found.correct
    title = f"{name}: {num_wrong:,} of {found.total:,} images wrong"
    write(width / 2, 0.1, title + (f", the {len(mistakes)} worst" if len(mistakes) < num_wrong else ""), fontsize=11)
    write(width / 2, 0.34, "✓ true class   ✗ answer and its probability", fontsize=8, color="#57606a")
    for index, mistake in enumerate(mistakes):
        left, top = index % columns * CELL, HEAD + index // columns * (CELL + CAPTION)
        side = CELL - 2 * GAP
        place = ((left + GAP) / width, 1 - (top + side) / height, side / width, side / height)
        panel = figure.add_axes(place, anchor="S")
        panel.imshow(mistake.image, interpolation="nearest")
        panel.axis("off")
        middle, below = left + CELL / 2, top + side
        write(middle, below + 0.04, f"✓ {short(label_names[mistake.label])}", fontsize=8, color="#1a6b32")
        answer = f"✗ {short(label_names[mistake.answer])} {100 * mistake.probability:.0f}%"
        write(middle, below + 0.19, answer, fontsize=8, color="#b3261e")
    return figure


@contextlib.contextmanager
def any_script() -> Iterator[None]:
    """Keeps matplotlib from warning, while the context lasts, of letters that its font does not have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def short(name: str) -> str:
    """Returns the name of a class on one line and not too long."""
    name = printable(name)
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
