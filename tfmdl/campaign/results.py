"""What a campaign has measured so far: accuracies, scores, parameters and curves by row and domain."""

import dataclasses
import pathlib
import statistics

from tfmdl import packs, params
from tfmdl.campaign.plan import CampaignConfig, PlannedRun, Row, trunk_of
from tfmdl.data.records import DatasetInfo
from tfmdl.domains import DECATHLON, published
from tfmdl.evaluation.decathlon import Score, domain_score, read_percentages, total_score
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.sharing.individual import Individual


@dataclasses.dataclass(frozen=True)
class Cell:
    """A domain's results in one row, over the seeds that are finished.

    Attributes:
        runs: The finished runs.
        accuracies: In 0..1, one a run.
        num_images: That each was measured on.
    """

    runs: tuple[PlannedRun, ...]
    accuracies: tuple[float, ...]
    num_images: int

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a row's model of all domains takes, in parameters of 32 bits.

    Attributes:
        multiple: Convolutions and norm of all domains, in multiples of one plain ResNet-26 of the same size.
        total: All parameters.
        own: Of the first added domain, without its classifier.
        classifier: Of the same domain.
        pack_bytes: Size of its pack.
    """

    multiple: float
    total: int
    own: int
    classifier: int
    pack_bytes: int


@dataclasses.dataclass(frozen=True)
class RowResult:
    """A row of the table.

    Attributes:
        row: Which.
        cells: By domain, the base domain first; only those with finished runs.
        score: S over all domains, or None where a domain or its baseline is missing.
        cost: None where a domain is missing.
    """

    row: Row
    cells: dict[str, Cell]
    score: Score | None
    cost: Cost | None

    def mean(self, domains) -> float | None:
        """Returns the mean accuracy over `domains`, or None where one is missing."""
        if all(domain in self.cells for domain in domains):
            return statistics.fmean(self.cells[domain].mean for domain in domains)
        return None


@dataclasses.dataclass(frozen=True)
class Results:
    """All rows, and what they were measured against.

    Attributes:
        split: "val" or "test".
        domains: The base domain, then the added ones.
        rows: In the order of the table.
        score_name: What S counts against.
        comparable: Domains that the Visual Decathlon has, with as many classes.
        unscored: Domains that S leaves out, as nothing can be better than their baseline.
    """

    split: str
    domains: tuple[str, ...]
    rows: list[RowResult]
    score_name: str
    comparable: tuple[str, ...]
    unscored: tuple[str, ...]


def collect(
    config: CampaignConfig,
    rows: list[Row],
    runs: list[PlannedRun],
    split: str = "val",
    labels_dir: str | None = None,
    baselines_file: str | None = None,
) -> Results:
    """Reads what the finished runs left, and measures them on test if asked to.

    Args:
        config: The campaign.
        rows: Of its table.
        runs: Its plan.
        split: "val", as the runs measured it, or "test".
        labels_dir: Folder of <domain>_test.json, for a test split without labels.
        baselines_file: Accuracies in percent by domain that S counts against.

    Raises:
        FileNotFoundError, ValueError: if labels or baselines are missing or no such thing.
    """
    domains = (config.base, *config.domains)
    infos = {domain: DatasetInfo.load(config.data_dir, domain) for domain in domains}
    measure = _on_val if split == "val" else _OnTest(config.data_dir, labels_dir)
    cells = {row.name: _cells(config, row, runs, infos, split, measure) for row in rows}
    comparable = tuple(name for name in domains if published(name, infos[name].num_classes))
    baselines, score_name = _baselines(domains, comparable, cells, baselines_file)
    unscored = tuple(domain for domain, accuracy in baselines.items() if accuracy >= 1)
    return Results(
        split=split,
        domains=domains,
        rows=[
            RowResult(
                row,
                cells[row.name],
                _score(domains, cells[row.name], baselines, unscored),
                _cost(config, row, cells[row.name]),
            )
            for row in rows
        ],
        score_name=score_name,
        comparable=comparable,
        unscored=unscored,
    )


def _cells(config, row, runs, infos, split, measure):
    members = {domain: [] for domain in infos}
    for run in runs:
        if run.row == row.name and run.finished:
            members[run.domain].append(run)
        if run.workdir == trunk_of(config, row.method, run.seed) and run.finished:
            members[config.base].append(run)
    cells = {}
    for domain, finished in members.items():
        accuracies = measure(finished)
        if accuracies:
            cells[domain] = Cell(tuple(finished), tuple(accuracies), infos[domain].splits[split].num_examples)
    return cells


def _on_val(runs):
    accuracies = [packs.read_pack(run.pack).accuracy for run in runs]
    return [accuracy for accuracy in accuracies if accuracy is not None]  # none where val was trained on


class _OnTest:
    """Measures runs on test, each once."""

    def __init__(self, data_dir, labels_dir):
        self.data_dir, self.labels_dir = data_dir, labels_dir
        self.measured = {}

    def __call__(self, runs):
        return [self._accuracy(run) for run in runs]

    def _accuracy(self, run):
        if run.workdir not in self.measured:
            config = EvaluationConfig(self.data_dir, "test", workdirs=(str(run.workdir),), labels_dir=self.labels_dir)
            print(f"measuring {run.name} on test", flush=True)
            self.measured[run.workdir] = evaluate(config).evaluations[run.domain].accuracy
        return self.measured[run.workdir]


def _baselines(domains, comparable, cells, baselines_file):
    """Returns the accuracies in 0..1 that S counts against, by domain, and what they are."""
    if baselines_file:
        given = read_percentages(baselines_file)
        missing = [domain for domain in domains if domain not in given]
        if missing:
            raise ValueError(f"--baselines={baselines_file} has no accuracy for {', '.join(missing)}")
        return {domain: given[domain] for domain in domains}, f"S against {pathlib.Path(baselines_file).name}"
    if set(comparable) == set(DECATHLON):
        return {name: DECATHLON[name].baseline_accuracy / 100 for name in domains}, "S of the Visual Decathlon"
    individual = cells.get(Individual.name, {})
    if all(domain in individual for domain in domains):
        return {domain: individual[domain].mean for domain in domains}, "S against this campaign's individual networks"
    return {}, "S"


def _score(domains, cells, baselines, unscored):
    counted = [domain for domain in domains if domain not in unscored]
    if not baselines or not counted or not all(domain in cells for domain in counted):
        return None
    return total_score(
        {domain: domain_score(cells[domain].mean, cells[domain].num_images, baselines[domain]) for domain in counted}
    )


def _cost(config, row, cells):
    if not all(domain in cells for domain in (config.base, *config.domains)):
        return None
    trunk, *added = (cells[domain].runs[0] for domain in (config.base, *config.domains))
    model, _ = packs.load_model(trunk=str(trunk.workdir), pack_paths=[str(run.workdir) for run in (trunk, *added)])
    counted = params.count(model, (config.base,))
    plain = params.count_plain_resnet26(model.architecture.width, model.architecture.blocks_per_stage)
    return Cost(
        multiple=counted.convolutions_and_norm / plain,
        total=counted.total,
        own=counted.own[config.domains[0]],
        classifier=counted.classifier[config.domains[0]],
        pack_bytes=added[0].pack.stat().st_size,
    )
