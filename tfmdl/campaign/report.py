"""The report of a campaign: report.md, and report.html in one file that needs nothing else."""

import base64
import dataclasses
import html
import io
import itertools
import math
import os
import pathlib
import statistics

from PIL import Image
from rich.table import Table

import tfmdl
from tfmdl.campaign import figures
from tfmdl.campaign.plan import CampaignConfig
from tfmdl.campaign.results import Results
from tfmdl.campaign.samples import Samples
from tfmdl.evaluation.decathlon import Z_95
from tfmdl.evaluation.picture import short
from tfmdl.files import write_text
from tfmdl.outside import printable
from tfmdl.published import TABLE_1

REPORT_MARKDOWN = "report.md"
REPORT_PAGE = "report.html"
NOT_RUN = "not run"
FAILED = "failed"
THUMBNAIL = 96  # pixels of the longer side, at most


@dataclasses.dataclass(frozen=True)
class TableCell:
    """A cell: its text, what stands behind it where there is room, a link relative to the report, its rank in 0..1."""

    text: str
    note: str = ""
    link: str | None = None
    rank: float | None = None


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small image, as a data URI; the name of its class, and what it was taken for if that was another."""

    uri: str
    label: str
    mistake: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, what is to be said of it, and a table, a picture or rows of thumbnails by name."""

    title: str
    text: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[TableCell, ...], ...] = ()
    picture: str | None = None
    thumbnails: dict[str, tuple[Thumbnail, ...]] = dataclasses.field(default_factory=dict)


def write_report(
    config: CampaignConfig, results: Results, samples: Samples | None = None
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes both files, aside and then into place, and returns their paths."""
    sections = [section for section in _sections(config, results, samples) if section]
    paths = (pathlib.Path(config.workdir, REPORT_MARKDOWN), pathlib.Path(config.workdir, REPORT_PAGE))
    for path, text in zip(paths, (_markdown(config, sections), _html(config, sections)), strict=True):
        write_text(path, text)
    return paths


def summary(config: CampaignConfig, results: Results) -> Table:
    """Returns the first table of the report, for the terminal."""
    section = _table_section(config, results)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(section.header):
        table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=not index)
    for row in section.rows:
        table.add_row(*(cell.text for cell in row))
    return table


def _sections(config, results, samples):
    yield _table_section(config, results)
    yield _cost_section(config, results)
    if any(result.cost for result in results.rows):
        yield Section(
            "Accuracy against parameters",
            "Up and to the left is better.",
            picture=figures.accuracy_by_parameters(results),
        )
    if samples:
        yield _samples_section(results, samples)
    yield _orderings_section(results)
    yield _published_section(results)
    if any(result.cells for result in results.rows):
        yield Section(
            "Learning curves",
            "Accuracy on val by epoch; the base domain's panel has the trunks.",
            picture=figures.learning_curves(results),
        )
    yield _runs_section(config, results)


def _table_section(config, results):
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


def _cost_section(config, results):
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
    return Section("What it costs", text, header, _plain(rows))


def _samples_section(results, samples):
    text = (
        f"What {samples.row} answered, the best by the mean over all domains, by its run of the first seed. Of each "
        f"domain some images of {results.split} that it got right, taken by chance, and those that it got most wrong, "
        "with the true class, the answer and its probability."
    )
    counts = sorted({found.num_images for found in samples.domains.values()})
    if counts:
        text += f" Out of {' to '.join(f'{number:,}' for number in dict.fromkeys((counts[0], counts[-1])))} per domain."
    for domain, reason in samples.unread.items():
        text += f" {domain} cannot be read: {printable(reason)}."
    rows = {}
    for domain, found in samples.domains.items():
        names = [short(name) for name in found.label_names]
        rows[domain] = tuple(
            Thumbnail(
                _data_uri(one.image),
                names[one.label],
                "" if one.right else f"{names[one.answer]} {100 * one.probability:.0f}%",
            )
            for one in (*found.right, *found.wrong)
        )
    return Section("Right and wrong", text, thumbnails=rows)


def _data_uri(pixels):
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _orderings_section(results):
    """Each pair of the paper's systems: which is better there, and here."""
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
        here, margin = _difference(means[first], means[second], results.domains)
        verdict = "not decided" if abs(here) <= margin else "as in the paper" if here > 0 else "the other way"
        agree += verdict == "as in the paper"
        open_ += verdict == "not decided"
        rows.append((f"{first} over {second}", f"{there:+.2f}", f"{here:+.2f} ± {margin:.2f}", verdict))
    text = (
        "By the mean over all domains. The margin is of 95%, from the numbers of images alone: it knows nothing of "
        f"what another seed would do. {agree} of {len(rows)} pairs are as in the paper, {open_} are not decided, "
        f"{len(rows) - agree - open_} are the other way round."
    )
    return Section("The paper's orderings", text, ("pair", "paper", "here", ""), _plain(rows))


def _difference(first, second, domains):
    """Returns the difference of two means in percent, and its 95% margin by the binomial errors."""
    here = 100 * (first.mean(domains) - second.mean(domains))
    variance = 0.0
    for result in (first, second):
        for domain in domains:
            cell = result.cells[domain]
            variance += cell.mean * (1 - cell.mean) / (cell.num_images * len(cell.runs))
    return here, 100 * Z_95 * math.sqrt(variance) / len(domains)


def _published_section(results):
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
    return Section("The paper's table, as printed", text, ("method", *domains, "mean", "S", "parameters"), _plain(rows))


def _runs_section(config, results):
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


def _plain(rows):
    return tuple(tuple(TableCell(text) for text in row) for row in rows)


def _settings(config):
    settings = {
        **({"base domain": config.base} if config.base else {"trunk": config.init_from}),
        "recipe": config.recipe,
        "epochs": config.epochs or "the recipe's",
        "epochs of trunks": config.base_epochs or "the recipe's",
        "seeds": ", ".join(map(str, config.seeds)),
        "trained on": ", ".join(config.train_splits),
        "other flags": " ".join(config.train_flags) or "none",
        "tfmdl": tfmdl.__version__,
    }
    return "; ".join(f"{name}: {value}" for name, value in settings.items())


def _markdown(config, sections):
    lines = ["# Campaign", "", _settings(config), ""]
    for section in sections:
        if not section.rows:
            continue  # pictures are in the HTML
        lines += [f"## {section.title}", "", section.text, ""]
        lines.append("| " + " | ".join(section.header) + " |")
        lines.append("|" + "---|" * len(section.header))
        for row in section.rows:
            cells = (f"[{cell.text}]({cell.link})" if cell.link == cell.text else cell.text + cell.note for cell in row)
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: 34 139 90; --right: #1a6b32; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --right: #5fd38a; --wrong: #ff8f86; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 92rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin: 2.2rem 0 0.3rem; } h3 { margin: 1rem 0 0.4rem; font-size: 1rem; }
p { max-width: 60rem; margin: 0.3rem 0 0.8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
td a { color: inherit; text-decoration: none; } td a:hover { text-decoration: underline; }
svg { max-width: 100%; height: auto; }
.samples { display: flex; flex-wrap: wrap; gap: 0.6rem; margin: 0; padding: 0; list-style: none; }
.samples li { width: 104px; font-size: 0.75rem; line-height: 1.3; overflow-wrap: anywhere; }
.samples img { width: 104px; display: block; margin-bottom: 0.2rem; border-radius: 4px; image-rendering: pixelated; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
figure { margin: 0; background: #fff; border-radius: 6px; padding: 0.5rem; width: fit-content; max-width: 100%; }
"""


def _html(config, sections):
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Campaign</title>',
        f"<style>{_STYLE}</style></head><body><h1>Campaign</h1><p>{html.escape(_settings(config))}</p>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>")
        if section.rows:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in section.header)
            body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in section.rows)
            parts.append(
                f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
            )
        if section.picture:
            parts.append(f"<figure>{section.picture}</figure>")
        for name, thumbnails in section.thumbnails.items():
            items = "".join(map(_html_thumbnail, thumbnails))
            parts.append(f'<h3>{html.escape(name)}</h3><ul class="samples">{items}</ul>')
    return "\n".join([*parts, "</body></html>"])


def _html_thumbnail(thumbnail):
    label, mistake = html.escape(thumbnail.label), html.escape(thumbnail.mistake)
    lines = f'<div class="right">✓&nbsp;{label}</div>'
    if mistake:
        lines += f'<div class="wrong">✗&nbsp;{mistake}</div>'
    return f'<li><img src="{thumbnail.uri}" alt="">{lines}</li>'


def _html_cell(cell):
    text = html.escape(cell.text)
    if cell.link:
        link = html.escape(cell.link, quote=True)
        text = f'<a href="{link}/" title="{link}">{text}</a>'
    shade = "" if cell.rank is None else f' style="background: rgb(var(--good) / {0.4 * cell.rank:.2f})"'
    return f"<td{shade}>{text}{html.escape(cell.note)}</td>"
