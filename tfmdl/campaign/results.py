"""What a campaign has measured so far: accuracies, scores, parameters and curves by row and domain."""

import contextlib
import dataclasses
import math
import pathlib
import statistics

from tfmdl import counts, packs
from tfmdl.campaign.plan import CampaignConfig, PlannedRun, Row, trunk_of
from tfmdl.config import load_config
from tfmdl.data.records import DatasetInfo
from tfmdl.domains import DECATHLON, published
from tfmdl.evaluation.decathlon import Z_95, Score, domain_score, read_percentages, total_score
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate, load
from tfmdl.sharing.individual import Individual


@dataclasses.dataclass(frozen=True)
class Cell:
    """A domain's results in one row, over the seeds that are finished.

    Attributes:
        runs: The finished runs.
        accuracies: In 0..1, one per run.
        num_images: How many images each was measured on.
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
        multiple: Convolutions and norm of all domains, in multiples of one plain ResNet-26 of the same size, or of one
            network of Keras where the trunk is one.
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
        row: Its name, method and flags.
        cells: By domain, a base domain first; only those with finished runs.
        damaged: Finished runs whose files cannot be read, and why; no cell counts them.
        score: S over all domains, or None where a domain or its baseline is missing.
        cost: None where a domain is missing or a file cannot be read.
    """

    row: Row
    cells: dict[str, Cell]
    damaged: dict[PlannedRun, str]
    score: Score | None
    cost: Cost | None

    def mean(self, domains) -> float | None:
        """Returns the mean accuracy over `domains`, or None where one is missing."""
        if all(domain in self.cells for domain in domains):
            return statistics.fmean(self.cells[domain].mean for domain in domains)
        return None

    def margin(self, domains) -> float:
        """Returns half the 95% interval of the mean over `domains`, which are all there, from the numbers of images."""
        cells = [self.cells[domain] for domain in domains]
        variance = sum(cell.mean * (1 - cell.mean) / (cell.num_images * len(cell.runs)) for cell in cells)
        return Z_95 * math.sqrt(variance) / len(cells)


@dataclasses.dataclass(frozen=True)
class Results:
    """All rows, and what they were measured against.

    Attributes:
        split: "val" or "test".
        domains: The base domain, if the campaign has one, then the added ones.
        rows: In the order of the table.
        score_name: What S counts against.
        comparable: Domains that the Visual Decathlon has, with as many classes.
        unscored: Domains that S leaves out, because their baseline makes no errors.
        unit: What parameters are given in multiples of.
    """

    split: str
    domains: tuple[str, ...]
    rows: list[RowResult]
    score_name: str
    comparable: tuple[str, ...]
    unscored: tuple[str, ...]
    unit: str

    @property
    def damaged(self) -> dict[PlannedRun, str]:
        """Finished runs whose files cannot be read, and why."""
        return {run: reason for result in self.rows for run, reason in result.damaged.items()}


def collect(
    config: CampaignConfig,
    rows: list[Row],
    runs: list[PlannedRun],
    split: str = "val",
    labels_dir: str | None = None,
    baselines_file: str | None = None,
) -> Results:
    """Reads what the finished runs left, and measures them on test if asked to.

    A run whose files are damaged is named in the results, and keeps no other from being counted.

    Args:
        config: The campaign.
        rows: Of its table.
        runs: Its plan.
        split: "val", as the runs measured it, or "test".
        labels_dir: Folder of <domain>_test.json, for a test split without labels.
        baselines_file: Accuracies in percent by domain that S counts against.

    Raises:
        FileNotFoundError, ValueError: if labels or baselines are missing, or not of that form.
    """
    domains = config.all_domains
    infos = {domain: DatasetInfo.load(config.data_dir, domain) for domain in domains}
    measure = _on_val if split == "val" else _OnTest(config.data_dir, labels_dir)
    damaged = {row.name: {} for row in rows}
    cells = {row.name: _cells(config, row, runs, infos, split, measure, damaged[row.name]) for row in rows}
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
                damaged[row.name],
                _score(domains, cells[row.name], baselines, unscored),
                _cost(config, row, cells[row.name], damaged[row.name]),
            )
            for row in rows
        ],
        score_name=score_name,
        comparable=comparable,
        unscored=unscored,
        unit="one network" if config.init_from else "one plain ResNet-26",
    )


def _cells(config, row, runs, infos, split, measure, damaged):
    """Returns the cells of a row, and adds to `damaged` what cannot be read."""
    members = {domain: [] for domain in infos}
    for run in runs:
        if run.row == row.name and run.finished:
            members[run.domain].append(run)
        if run.workdir == trunk_of(config, row.method, run.seed) and run.finished:
            members[config.base].append(run)
    cells = {}
    for domain, finished in members.items():
        measured = {}
        for run in finished:
            try:
                accuracy = measure(run)
            except _Damaged as error:
                damaged[run] = str(error)
                continue
            if accuracy is not None:
                measured[run] = accuracy
        if measured:
            cells[domain] = Cell(tuple(measured), tuple(measured.values()), infos[domain].splits[split].num_examples)
    return cells


class _Damaged(Exception):
    """What a run left cannot be read."""


@contextlib.contextmanager
def _reading():
    try:
        yield
    except (OSError, ValueError) as error:
        raise _Damaged(str(error)) from error


def _on_val(run):
    with _reading():
        return packs.read_pack(run.pack).accuracy  # None where val was trained on


class _OnTest:
    """Measures runs on test, each once."""

    def __init__(self, data_dir, labels_dir):
        self.data_dir, self.labels_dir = data_dir, labels_dir
        self.measured = {}

    def __call__(self, run):
        if run.workdir not in self.measured:
            config = EvaluationConfig(self.data_dir, "test", workdirs=(str(run.workdir),), labels_dir=self.labels_dir)
            with _reading():
                loaded = load(config)
            print(f"measuring {run.name} on test", flush=True)
            self.measured[run.workdir] = evaluate(config, loaded=loaded).evaluations[run.domain].accuracy
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


def _cost(config, row, cells, damaged):
    if not all(domain in cells for domain in config.all_domains):
        return None
    runs = [cells[domain].runs[0] for domain in config.all_domains]
    added = runs[-len(config.domains) :]
    try:
        with _reading():
            trunk = str(runs[0].workdir) if config.base else load_config(added[0].workdir).init_from
            model, _ = packs.load_model(trunk=trunk, pack_paths=[str(run.workdir) for run in runs])
    except _Damaged as error:
        damaged[runs[0]] = str(error)
        return None
    counted = counts.count(model, (config.base,))
    return Cost(
        multiple=counted.convolutions_and_norm / counts.unit(model.architecture),
        total=counted.total,
        own=counted.own[config.domains[0]],
        classifier=counted.classifier[config.domains[0]],
        pack_bytes=added[0].pack.stat().st_size,
    )
