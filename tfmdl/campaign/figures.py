"""The report's pictures, as SVG text that stands in a page by itself.

Colours are variables of the page's style, so that it may be dark or light: --s0 to --s9 for the rows, --line for what
lies behind, and the text's own colour. What belongs to a row has an id that ends with "-row" and its number.
"""

import io
import re
import statistics

import matplotlib
from matplotlib.figure import Figure

from tfmdl.campaign.results import Results, RowResult

COLOURS = 10
PANEL_INCHES = (3.4, 2.2)
SCATTER_INCHES = (7.2, 4.2)
LABEL_POINTS = 12  # between the labels of points, at least

# Colours that nothing else has stand for the variables until the SVG is written.
_INK, _LINE = "#010203", "#020304"
_VARIABLES = {_INK: "currentColor", _LINE: "var(--line)"}
_ROWS = [f"#0304{number:02x}" for number in range(COLOURS)]
_VARIABLES |= {colour: f"var(--s{number})" for number, colour in enumerate(_ROWS)}
_STYLE = {
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE, "xtick.color": _LINE, "ytick.color": _LINE,
    "xtick.labelcolor": _INK, "ytick.labelcolor": _INK, "grid.color": _LINE, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.6, "font.size": 9, "axes.labelsize": 9,
    "svg.fonttype": "none",
}  # fmt: skip


def dashed(number: int) -> bool:
    """Returns whether the lines of a row are dashed: those that share their colours with earlier rows."""
    return number // COLOURS % 2 == 1


def learning_curves(results: Results) -> dict[str, str]:
    """Returns a panel per domain: accuracy on val by epoch, one line per row with the seeds' mean and range."""
    panels = {}
    for domain in results.domains:
        curves = {
            number: _curves(result.cells[domain].runs)
            for number, result in enumerate(results.rows)
            if domain in result.cells
        }
        if any(curves.values()):
            with matplotlib.rc_context(_STYLE):
                panels[domain] = _panel(domain, {number: values for number, values in curves.items() if values})
    return panels


def _panel(domain, curves):
    figure = Figure(PANEL_INCHES, layout="constrained")
    axes = figure.subplots()
    for number, values in curves.items():
        epochs, colour = range(1, len(values) + 1), _ROWS[number % COLOURS]
        mean = [statistics.fmean(at) for at in values]
        style = {"linestyle": (0, (4, 2)) if dashed(number) else "-", "marker": "o" if len(values) == 1 else None}
        axes.plot(epochs, mean, color=colour, linewidth=1.5, markersize=4, **style, gid=f"{domain}-line-row{number}")
        if len(values[0]) > 1:
            low, high = list(map(min, values)), list(map(max, values))
            axes.fill_between(
                epochs, low, high, color=colour, linewidth=0, alpha=0.15, gid=f"{domain}-range-row{number}"
            )
    axes.locator_params(axis="both", nbins=6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, f"learning curves of {domain}")


def _curves(runs):
    """Returns the accuracies of all runs at each epoch that all of them have."""
    curves = [[100 * line["val/accuracy"] for line in run.metrics() if "val/accuracy" in line] for run in runs]
    return list(zip(*curves, strict=False))


def accuracy_by_parameters(results: Results) -> str:
    """Returns mean accuracy over all domains with its interval against the parameters of the whole model, by row."""
    points = {
        number: result
        for number, result in enumerate(results.rows)
        if result.mean(results.domains) is not None and result.cost is not None
    }
    with matplotlib.rc_context(_STYLE):
        figure = Figure(SCATTER_INCHES, layout="constrained")
        axes = figure.subplots()
        for number, result in points.items():
            mean, margin = result.mean(results.domains), result.margin(results.domains)
            colour, x, y = _ROWS[number % COLOURS], result.cost.multiple, 100 * mean
            bar = axes.vlines(x, 100 * (mean - margin), 100 * (mean + margin), color=colour, linewidth=1.5)
            bar.set_gid(f"interval-row{number}")
            axes.plot(x, y, "s" if dashed(number) else "o", color=colour, markersize=6, gid=f"point-row{number}")
        axes.set_xlabel(f"parameters of all domains, in multiples of {results.unit} (classifiers not counted)")
        axes.set_ylabel(f"mean accuracy on {results.split} in %")
        axes.margins(0.08)
        _label(figure, axes, points, results.domains)
        return _svg(figure, "accuracy against parameters")


def _label(figure, axes, points: dict[int, RowResult], domains):
    """Writes the rows' names beside the picture, by their height, each with a line to its point."""
    ordered = sorted(points.items(), key=lambda point: point[1].mean(domains))
    figure.draw_without_rendering()  # which places the axes
    scale = 72 / figure.dpi
    height = axes.get_window_extent().height * scale
    wanted = [
        (axes.transData.transform((0, 100 * result.mean(domains)))[1] - axes.get_window_extent().y0) * scale
        for _, result in ordered
    ]
    for (number, result), at in zip(ordered, _spread(wanted, LABEL_POINTS, height), strict=True):
        axes.annotate(
            result.row.name,
            xy=(result.cost.multiple, 100 * result.mean(domains)),
            xytext=(1.03, at / height),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _LINE,
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 5,
                "gid": f"leader-row{number}",
            },
            gid=f"label-row{number}",
        )


def _spread(wanted: list[float], gap: float, height: float) -> list[float]:
    """Returns ascending places near those that are wanted, `gap` apart and, as far as there is room, below `height`."""
    places = []
    for at in wanted:
        places.append(max(at, places[-1] + gap) if places else at)
    limit = height
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return places


def _svg(figure, title):
    buffer = io.StringIO()
    # No date, and the same ids every time: the same results make the same file.
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    text = buffer.getvalue()
    # Its numbered ids would stand in the page once for each picture.
    text = re.sub(r' id="[\w.]+_\d+"', "", text[text.index("<svg") :])
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
