"""The report's pictures, as SVG text that stands in a page by itself."""

import io
import statistics

import matplotlib
from matplotlib.figure import Figure

from tfmdl.campaign.results import Results

COLUMNS = 3
PANEL_INCHES = (3.6, 2.3)
COLOURS = [*matplotlib.color_sequences["tab10"], *matplotlib.color_sequences["Dark2"]]


def learning_curves(results: Results) -> str:
    """Returns one panel per domain: accuracy on val by epoch, one line per row with the seeds' mean and range."""
    domains = [domain for domain in results.domains if any(domain in result.cells for result in results.rows)]
    rows = -(-len(domains) // COLUMNS)
    figure = Figure((COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1] + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel in panels[len(domains) :]:
        panel.remove()
    lines = {}
    for panel, domain in zip(panels, domains, strict=False):
        for index, result in enumerate(results.rows):
            values = _curves(result.cells[domain].runs) if domain in result.cells else []
            if not values:
                continue
            epochs, colour = range(1, len(values) + 1), COLOURS[index % len(COLOURS)]
            mean = [statistics.fmean(at) for at in values]
            (lines[result.row.name],) = panel.plot(epochs, mean, color=colour, linewidth=1.3)
            panel.fill_between(epochs, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.15)
        panel.set_title(domain, fontsize=10)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.25)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("accuracy on val in %", fontsize=9)
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return _svg(figure, "learning curves")


def _curves(runs):
    """Returns the accuracies of all runs at each epoch that all of them have."""
    curves = [[100 * line["val/accuracy"] for line in run.metrics() if "val/accuracy" in line] for run in runs]
    return list(zip(*curves, strict=False))


def accuracy_by_parameters(results: Results) -> str:
    """Returns mean accuracy over all domains against the parameters of the whole model, one point per row."""
    figure = Figure((8.0, 4.0), layout="constrained")
    panel = figure.subplots()
    for index, result in enumerate(results.rows):
        mean = result.mean(results.domains)
        if mean is None or result.cost is None:
            continue
        x, y = result.cost.multiple, 100 * mean
        panel.scatter(x, y, color=COLOURS[index % len(COLOURS)], s=36, zorder=3, label=result.row.name)
    panel.set_xlabel(
        f"parameters of all domains, in multiples of {results.unit} (classifiers not counted)", fontsize=8
    )
    panel.set_ylabel(f"mean accuracy on {results.split} in %", fontsize=9)
    panel.margins(0.1)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    return _svg(figure, "accuracy against parameters")


def _svg(figure, title):
    buffer = io.StringIO()
    # No date, and the same ids every time: the same results make the same file.
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
