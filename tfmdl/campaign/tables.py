"""The tables of a report."""

import itertools
import math
import os
import statistics

from tfmdl.campaign.plan import CampaignConfig
from tfmdl.campaign.results import Results
from tfmdl.campaign.sections import Section, TableCell, plain_rows
from tfmdl.published import TABLE_1

NOT_RUN = "not run"
FAILED = "failed"


def table_section(config: CampaignConfig, results: Results) -> Section:
    """Returns the accuracy of each row on each domain, means and scores."""
    seeds = len(config.seeds)
    spread = "one seed" if seeds == 1 else f"mean over {seeds} seeds, with the lowest and the highest"
    text = (
        f"Accuracy on {results.split} in %, {spread}. "
        + (f"That of the base domain, {config.base}, is the trunk's. " if config.base else "")
        + "In brackets the paper's number, where the domain has the name and the number of classes of one of the "
        f"Visual Decathlon. {results.score_name}: with a 95% interval from the numbers of images."
    )
    if results.unscored:
        text += f" S leaves out {', '.join(results.unscored)}, where the baseline makes no errors."
    for run, reason in results.damaged.items():
        text += f" {run.name} cannot be read: {reason}."
    ranks = {domain: _ranks(results, domain) for domain in results.domains}
    rows = []
    for result in results.rows:
        cells = [TableCell(result.row.name)]
        for domain in results.domains:
            if domain not in result.cells:
                failed = any(run.domain == domain for run in result.damaged)
                cells.append(TableCell(FAILED if failed else NOT_RUN))
                continue
            cell = result.cells[domain]
            printed = _printed(results, result.row.method, domain)
            link = os.path.relpath(cell.runs[0].workdir, config.workdir)
            cells.append(TableCell(_percent(cell.accuracies), printed, link, ranks[domain].get(result.row.name)))
        mean = result.mean(results.domains)
        cells.append(TableCell("" if mean is None else f"{100 * mean:.2f}"))
        score = result.score
        interval = f" ({score.lower:,.0f} to {score.upper:,.0f})" if score else ""
        cells.append(TableCell(f"{score.points:,.0f}" if score else "", interval))
        cells.append(TableCell(f"{result.cost.multiple:.2f}x" if result.cost else ""))
        rows.append(tuple(cells))
    return Section("The table", text, ("method", *results.domains, "mean", "S", "parameters"), tuple(rows))


def _percent(accuracies):
    mean = f"{100 * statistics.fmean(accuracies):.1f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f})"


def _printed(results, method, domain):
    published = TABLE_1.get(method)
    return f" [{published.accuracies[domain]:.2f}]" if published and domain in results.comparable else ""


def _ranks(results, domain):
    """Returns where each row stands among the rows, 0 the worst and 1 the best."""
    values = {result.row.name: result.cells[domain].mean for result in results.rows if domain in result.cells}
    low, high = min(values.values(), default=0), max(values.values(), default=0)
    return {name: (value - low) / (high - low) if high > low else 0.5 for name, value in values.items()}


def cost_section(config: CampaignConfig, results: Results) -> Section | None:
    """Returns what each row takes in parameters and bytes, or None where nothing is counted yet."""
    rows = []
    domain = config.domains[0]
    for result in results.rows:
        cost = result.cost
        if not cost:
            continue
        printed = TABLE_1[result.row.method].multiple if result.row.method in TABLE_1 else ""
        bits = 32 * (cost.own + cost.classifier)
        rows.append(
            (
                result.row.name,
                f"{cost.multiple:.2f}x",
                printed,
                f"{cost.total:,}",
                f"{cost.own:,}",
                f"{cost.classifier:,}",
                f"{bits:,}",
                f"{cost.pack_bytes:,}",
            )
        )
    text = (
        f"In parameters of 32 bits, counted from the models: all {len(results.domains)} domains, and what one "
        f"of them, {domain}, owns. Its pack holds moving statistics and label names too."
    )
    if not rows:
        return None
    unit = results.unit.removeprefix("one plain ")
    header = (
        "method", f"multiple of {unit}", "printed, ten domains", "all parameters", "a domain's own", "its classifier",
        "bits of both", "bytes of its pack",
    )  # fmt: skip
    return Section("What it costs", text, header, plain_rows(rows))


def orderings_section(results: Results) -> Section | None:
    """Returns for each pair of the paper's systems which is better there, and here; None where there is no pair."""
    means = {
        result.row.method: result
        for result in results.rows
        if result.row.method in TABLE_1 and result.mean(results.domains) is not None
    }
    if len(means) < 2:
        return None
    rows, agree, open_ = [], 0, 0
    for first, second in itertools.combinations(sorted(means, key=lambda name: -TABLE_1[name].mean), 2):
        there = TABLE_1[first].mean - TABLE_1[second].mean
        here = 100 * (means[first].mean(results.domains) - means[second].mean(results.domains))
        margin = 100 * math.hypot(*(means[name].margin(results.domains) for name in (first, second)))
        verdict = "not decided" if abs(here) <= margin else "as in the paper" if here > 0 else "the other way"
        agree += verdict == "as in the paper"
        open_ += verdict == "not decided"
        rows.append((f"{first} over {second}", f"{there:+.2f}", f"{here:+.2f} ± {margin:.2f}", verdict))
    text = (
        "By the mean over all domains. The margin is of 95%, from the numbers of images alone: it knows nothing of "
        f"what another seed would do. {agree} of {len(rows)} pairs are as in the paper, {open_} are not decided, "
        f"{len(rows) - agree - open_} are the other way round."
    )
    return Section("The paper's orderings", text, ("pair", "paper", "here", ""), plain_rows(rows))


def published_section(results: Results) -> Section | None:
    """Returns the paper's rows of the methods that are here, or None where there are none."""
    named = [TABLE_1[result.row.method] for result in results.rows if result.row.method in TABLE_1]
    if not named:
        return None
    domains = tuple(named[0].accuracies)
    rows = [
        (
            row.title,
            *(f"{row.accuracies[domain]:.2f}" for domain in domains),
            f"{row.mean:.2f}",
            str(row.score),
            row.multiple,
        )
        for row in named
    ]
    text = "Guo et al., AAAI 2019, Table 1: the Visual Decathlon, width 64, images of 72 pixels, accuracy on test in %."
    header = ("method", *domains, "mean", "S", "parameters")
    return Section("The paper's table, as printed", text, header, plain_rows(rows))


def runs_section(config: CampaignConfig, results: Results) -> Section:
    """Returns every run with its accuracy and its folder."""
    rows = []
    for result in results.rows:
        for domain, cell in result.cells.items():
            for run, accuracy in zip(cell.runs, cell.accuracies, strict=True):
                link = os.path.relpath(run.workdir, config.workdir)
                texts = (result.row.name, domain, str(run.seed), f"{100 * accuracy:.2f}", f"{cell.num_images:,}")
                rows.append((*(TableCell(text) for text in texts), TableCell(link, link=link)))
    text = (
        f"Accuracy on {results.split} in %. A folder has config.json, log.txt, metrics.jsonl and TensorBoard's events."
    )
    return Section(
        "Where each number is from", text, ("method", "domain", "seed", "accuracy", "images", "run"), tuple(rows)
    )
