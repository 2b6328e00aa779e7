"""The report of a campaign: report.md, and report.html in one file that needs nothing else."""

import pathlib

from PIL import Image
from rich.table import Table

import tfmdl
from tfmdl.campaign import figures, tables
from tfmdl.campaign.page import html_page
from tfmdl.campaign.plan import CampaignConfig
from tfmdl.campaign.results import Results
from tfmdl.campaign.samples import Samples
from tfmdl.campaign.sections import Section, Thumbnail
from tfmdl.evaluation.picture import short
from tfmdl.files import write_text
from tfmdl.outside import printable
from tfmdl.pages import thumbnail_uri

REPORT_MARKDOWN = "report.md"
REPORT_PAGE = "report.html"


def write_report(
    config: CampaignConfig, results: Results, samples: Samples | None = None
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes both files, aside and then into place, and returns their paths."""
    sections = [section for section in _sections(config, results, samples) if section]
    paths = (pathlib.Path(config.workdir, REPORT_MARKDOWN), pathlib.Path(config.workdir, REPORT_PAGE))
    page = html_page("Campaign", _settings(config), sections, [result.row.name for result in results.rows])
    for path, text in zip(paths, (_markdown(config, sections), page), strict=True):
        write_text(path, text)
    return paths


def summary(config: CampaignConfig, results: Results) -> Table:
    """Returns the first table of the report, for the terminal."""
    section = tables.table_section(config, results)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(section.header):
        table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=not index)
    for row in section.rows:
        table.add_row(*(cell.text for cell in row))
    return table


def _sections(config, results, samples):
    yield tables.table_section(config, results)
    yield tables.cost_section(config, results)
    if any(result.cost for result in results.rows):
        yield Section(
            "Accuracy against parameters",
            "Up and to the left is better. The bars are 95% intervals of the mean, from the numbers of images alone: "
            "another seed may do more.",
            picture=figures.accuracy_by_parameters(results),
        )
    if samples:
        yield _samples_section(results, samples)
    yield tables.orderings_section(results)
    yield tables.published_section(results)
    if any(result.cells for result in results.rows):
        yield Section(
            "Learning curves",
            "Accuracy on val in % by epoch, the mean over seeds and their range. Each panel has a scale of its own; "
            "that of the base domain has the trunks.",
            panels=figures.learning_curves(results),
        )
    yield tables.runs_section(config, results)


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
                thumbnail_uri(Image.fromarray(one.image)),
                names[one.label],
                "" if one.right else f"{names[one.answer]} {100 * one.probability:.0f}%",
            )
            for one in (*found.right, *found.wrong)
        )
    return Section("Right and wrong", text, thumbnails=rows)


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
