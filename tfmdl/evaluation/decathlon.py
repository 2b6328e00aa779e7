"""The score of the Visual Decathlon: points of each domain, their sum, and how sure both are."""

import dataclasses
import math

from rich.table import Table

from tfmdl.cli import number_table
from tfmdl.domains import DECATHLON
from tfmdl.files import read_json

MAX_POINTS = 1000.0
Z_95 = 1.959964  # two-sided 95% quantile of the normal distribution


@dataclasses.dataclass(frozen=True)
class Score:
    """Points with a 95% interval."""

    points: float
    lower: float
    upper: float


def domain_score(accuracy: float, num_test: int, baseline_accuracy: float) -> Score:
    """Returns the points of one domain: 1000 * (max(0, Emax - E) / Emax) ** 2, E the error.

    Emax is twice the baseline's error. Points rise with accuracy, so the ends of the Wilson interval of the accuracy
    give the ends of the points'.

    Args:
        accuracy: On the test images, in 0..1.
        num_test: Number of test images.
        baseline_accuracy: Of the fine-tuned baseline, in 0..1.

    Raises:
        ValueError: if an accuracy is not in 0..1, the baseline is perfect, or there are no images.

    Reference: Rebuffi et al., NeurIPS 2017, section 5 (score); Wilson, JASA 1927 (interval).
    """
    if not 0 <= accuracy <= 1 or not 0 <= baseline_accuracy < 1:
        raise ValueError(
            f"accuracies must be in 0..1, a baseline's below 1; received {accuracy} and baseline {baseline_accuracy}"
        )
    if num_test < 1:
        raise ValueError(f"the number of test images must be positive; received {num_test}")
    max_error = 2 * (1 - baseline_accuracy)

    def points(value):
        return MAX_POINTS * (max(0.0, max_error - (1 - value)) / max_error) ** 2

    lower, upper = wilson_interval(accuracy, num_test)
    return Score(points(accuracy), points(lower), points(upper))


def wilson_interval(accuracy: float, num_test: int) -> tuple[float, float]:
    """Returns the 95% interval of a share `accuracy` (0..1) that was seen on `num_test` images."""
    shrink = Z_95**2 / num_test
    centre = (accuracy + shrink / 2) / (1 + shrink)
    half = Z_95 * math.sqrt(accuracy * (1 - accuracy) / num_test + shrink / (4 * num_test)) / (1 + shrink)
    return max(0.0, centre - half), min(1.0, centre + half)


def total_score(scores: dict[str, Score]) -> Score:
    """Returns the sum of the domains' points; their distances to the ends of the intervals add up in squares.

    Reference: Zou and Donner, Statistics in Medicine 2008 (interval of a sum from those of its independent terms).
    """
    points = sum(score.points for score in scores.values())
    below = math.sqrt(sum((score.points - score.lower) ** 2 for score in scores.values()))
    above = math.sqrt(sum((score.upper - score.points) ** 2 for score in scores.values()))
    return Score(points, points - below, points + above)


def decathlon_scores(accuracies: dict[str, float], num_test: dict[str, int] | None = None) -> dict[str, Score]:
    """Returns the points of those domains of `accuracies` (0..1, by name) that the Visual Decathlon has.

    Args:
        accuracies: Test accuracy by domain.
        num_test: Number of test images, where it is not the Decathlon's.
    """
    return {
        domain: domain_score(
            accuracy,
            (num_test or {}).get(domain, DECATHLON[domain].num_test),
            DECATHLON[domain].baseline_accuracy / 100,
        )
        for domain, accuracy in accuracies.items()
        if domain in DECATHLON
    }


def read_percentages(path: str) -> dict[str, float]:
    """Returns the accuracies in `path` as 0..1, by domain.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a JSON object of percentages.
    """
    try:
        accuracies = {domain: float(value) / 100 for domain, value in read_json(path).items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'{path}: expected {{"domain": accuracy in percent, ...}} ({error})') from error
    for domain, accuracy in accuracies.items():
        if not 0 <= accuracy <= 1:
            raise ValueError(f"{path}: accuracy of {domain!r} must be in 0..100; received {100 * accuracy:g}")
    return accuracies


def title_of(scores: dict[str, Score]) -> str:
    """Returns what the sum of `scores` may be called: the score, or a partial sum where domains are missing."""
    missing = [domain for domain in DECATHLON if domain not in scores]
    if not missing:
        return "Visual Decathlon score S"
    return f"partial sum of {len(DECATHLON) - len(missing)} of the Visual Decathlon's {len(DECATHLON)} domains"


def score_table(accuracies: dict[str, float], scores: dict[str, Score], title: str) -> Table:
    """Returns a table of the points by domain and of their sum, called `title`, with 95% intervals."""
    table = number_table("", "accuracy %", "points", "95% interval", title=title, title_justify="left")
    for domain, score in scores.items():
        interval = f"{score.lower:,.0f} to {score.upper:,.0f}"
        table.add_row(domain, f"{100 * accuracies[domain]:.2f}", f"{score.points:,.1f}", interval)
    total = total_score(scores)
    table.add_row("sum", "", f"{total.points:,.0f}", f"{total.lower:,.0f} to {total.upper:,.0f}")
    return table
