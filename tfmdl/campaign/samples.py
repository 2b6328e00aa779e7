"""Images to look at: some that the best row of a campaign answered right, and what it got most wrong."""

import dataclasses

from tfmdl.campaign.plan import CampaignConfig
from tfmdl.campaign.results import Results, RowResult
from tfmdl.evaluation.answers import Answer
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate

RIGHT, WRONG = 4, 4
BATCHES = 8  # looked at, of each domain: a report is not to take as long as an evaluation


@dataclasses.dataclass(frozen=True)
class DomainSamples:
    """Answers of one domain, each with its image, and the names of its classes."""

    right: tuple[Answer, ...]
    wrong: tuple[Answer, ...]
    label_names: list[str]
    num_images: int


@dataclasses.dataclass(frozen=True)
class Samples:
    """What the best row of a campaign answered.

    Attributes:
        row: Its name.
        domains: By name.
        unread: Domains whose images or runs cannot be read, and why.
    """

    row: str
    domains: dict[str, DomainSamples]
    unread: dict[str, str]


def best_row(results: Results) -> RowResult | None:
    """Returns the row of the highest mean accuracy over all domains, or None where no row has them all."""
    whole = [result for result in results.rows if result.mean(results.domains) is not None]
    return max(whole, key=lambda result: result.mean(results.domains), default=None)


def pick_samples(config: CampaignConfig, results: Results, labels_dir: str | None = None) -> Samples | None:
    """Lets the best row's runs of the first seed answer images of each domain, or returns None where there is none.

    Args:
        config: The campaign.
        results: Of its table.
        labels_dir: Folder of <domain>_test.json, for a test split without labels.
    """
    best = best_row(results)
    if best is None:
        return None
    domains, unread = {}, {}
    for domain in results.domains:
        try:
            domains[domain] = _of_domain(config, results.split, best.cells[domain].runs[0], domain, labels_dir)
        except (OSError, ValueError, FloatingPointError) as error:
            unread[domain] = str(error)
    return Samples(best.row.name, domains, unread)


def _of_domain(config, split, run, domain, labels_dir):
    asked = EvaluationConfig(
        config.data_dir,
        split,
        workdirs=(str(run.workdir),),
        labels_dir=labels_dir,
        wrong=WRONG,
        right=RIGHT,
        batches=BATCHES,
    )
    result = evaluate(asked)
    return DomainSamples(
        result.right[domain],
        result.wrong[domain],
        result.infos[domain].label_names,
        result.evaluations[domain].total,
    )
