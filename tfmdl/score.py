"""The Visual Decathlon score of accuracies in a file: `python -m tfmdl.score FILE.json`.

FILE.json holds accuracies in percent by domain, {"gtsrb": 99.27, ...}. For domains that are not in the Visual
Decathlon, the score is taken against other accuracies: those in percent of another file (--baselines), or those on val
of runs of train.py --method=individual (--baseline_runs). --test_sizes are the numbers of images that FILE.json was
measured on.
"""

from absl import flags

from tfmdl.cli import start, table_console
from tfmdl.domains import DECATHLON
from tfmdl.evaluation.decathlon import (
    Score,
    decathlon_scores,
    domain_score,
    read_percentages,
    score_table,
    title_of,
)

INDIVIDUAL = "individual"


def accuracies_of_runs(workdirs: list[str]) -> dict[str, float]:
    """Returns the accuracies on val, in 0..1 by domain, of finished runs of individual networks.

    Raises:
        FileNotFoundError: if a run is not finished.
        ValueError: if a run is of another method or has no accuracy, or two runs are of one domain.
    """
    # Here, because they bring TensorFlow along, for which no other score need wait.
    import tfmdl.quiet  # isort: skip  # noqa: F401
    from tfmdl.packs import read_packs

    accuracies = {}
    for workdir in workdirs:
        for pack in read_packs(workdir):
            if pack.architecture.method != INDIVIDUAL:
                raise ValueError(
                    f"--baseline_runs must be runs of --method={INDIVIDUAL}; "
                    f"{pack.path} is of {pack.architecture.method}"
                )
            if pack.accuracy is None:
                raise ValueError(f"--baseline_runs: {pack.path} has no accuracy on val, which it was trained on")
            if pack.domain in accuracies:
                raise ValueError(f"--baseline_runs names two runs of domain {pack.domain!r}")
            accuracies[pack.domain] = pack.accuracy
    return accuracies


def parse_sizes(items: list[str]) -> dict[str, int]:
    """Returns the numbers of test images of "domain:number" items.

    Raises:
        ValueError: if an item is not of that form.
    """
    sizes = {}
    for item in items:
        domain, _, number = item.partition(":")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--test_sizes must be DOMAIN:NUMBER, the number positive; received {item!r}")
        sizes[domain] = int(number)
    return sizes


def scores_of(
    accuracies: dict[str, float], baselines: dict[str, float] | None, sizes: dict[str, int]
) -> dict[str, Score]:
    """Returns the points of each domain, against the Visual Decathlon's baselines or those given.

    Raises:
        ValueError: if a domain has no baseline or no number of test images, naming it.
    """
    if not accuracies:
        raise ValueError("there are no accuracies to score")
    for domain in sizes:
        if domain not in accuracies:
            raise ValueError(f"--test_sizes names {domain!r}, of which there is no accuracy")
    if baselines is None:
        for domain in accuracies:
            if domain not in DECATHLON:
                raise ValueError(
                    f"domain {domain!r} is not one of the Visual Decathlon ({', '.join(DECATHLON)}): give --baselines "
                    "or --baseline_runs"
                )
        return decathlon_scores(accuracies, sizes)
    scores = {}
    for domain, accuracy in accuracies.items():
        if domain not in baselines:
            raise ValueError(f"the baselines have no accuracy for domain {domain!r}")
        if domain not in sizes and domain not in DECATHLON:
            raise ValueError(f"the number of test images of {domain!r} is not known: add --test_sizes={domain}:NUMBER")
        if baselines[domain] == 1:
            raise ValueError(f"a baseline must be below 100 to be scored against; {domain!r} has 100")
        num_test = sizes[domain] if domain in sizes else DECATHLON[domain].num_test
        scores[domain] = domain_score(accuracy, num_test, baselines[domain])
    return scores


def define_flags():
    flags.DEFINE_string("baselines", None, "File of baseline accuracies in percent, by domain.")
    flags.DEFINE_list("baseline_runs", [], "Instead: runs of individual networks, for their accuracies on val.")
    flags.DEFINE_list("test_sizes", [], "DOMAIN:NUMBER of test images, where it is not the Visual Decathlon's.")


def baselines_of_flags() -> dict[str, float] | None:
    """Returns the baselines that the flags name, or None for the Visual Decathlon's."""
    if flags.FLAGS.baselines and flags.FLAGS.baseline_runs:
        raise ValueError("give either --baselines or --baseline_runs; received both")
    if flags.FLAGS.baselines:
        return read_percentages(flags.FLAGS.baselines)
    return accuracies_of_runs(flags.FLAGS.baseline_runs) or None


def main(argv):
    if len(argv) != 2:
        raise ValueError(f"expected one FILE.json of accuracies; received {len(argv) - 1} arguments")
    accuracies = read_percentages(argv[1])
    baselines = baselines_of_flags()
    scores = scores_of(accuracies, baselines, parse_sizes(flags.FLAGS.test_sizes))
    title = title_of(scores) if baselines is None else "sum of points against the given baselines"
    table_console().print(score_table(accuracies, scores, title))


def run():
    start(__doc__, define_flags, main, takes_arguments=True)


if __name__ == "__main__":
    run()
