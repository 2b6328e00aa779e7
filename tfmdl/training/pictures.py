"""Pictures of a run, epoch by epoch: how far kernels have moved, and what gates weigh."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from tfmdl.evaluation.picture import any_script

DPI = 100
MOST_NUMBERS = 12  # epochs whose cells are wide enough for a number
# In inches.
ROW, CELL, NAMES, HEAD, SCALE = 0.19, 0.42, 1.9, 1.1, 0.9
PANEL = MOST_NUMBERS * CELL


def draw_moved(epochs: Sequence[str], panels: dict[str, tuple[Sequence[str], np.ndarray]]) -> Figure:
    """Returns a map of how far kernels are from what they started from: a row per layer, a column per epoch.

    Args:
        epochs: What they are called.
        panels: By title, the names of the layers, and the distances, (epochs, layers): each by the norm of the kernel
            at the start.
    """
    largest = max(float(values.max()) for _, values in panels.values())
    title = "how far kernels are from where they started, by their norm there"
    return _draw_maps(title, epochs, panels, Normalize(0, largest or 1), "viridis")


def draw_gates(epochs: Sequence[str], panels: dict[str, tuple[Sequence[str], np.ndarray]]) -> Figure:
    """Returns a map of the mean gates: a panel per expert, a row per layer, a column per epoch.

    Args:
        epochs: What they are called.
        panels: By title, the names of the layers, and the gates, (epochs, layers), in 0..1.
    """
    percent = {name: (layers, 100 * values) for name, (layers, values) in panels.items()}
    # A domain begins with its own kernels, but for a hundredth: what is seen is how the others' become more, or less.
    return _draw_maps("mean gates in %", epochs, percent, LogNorm(0.1, 100, clip=True), "magma_r", "{:.1f}")


def pixels_of(figure: Figure) -> np.ndarray:
    """Returns a figure as it is drawn, uint8 (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    with any_script():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _draw_maps(title, epochs, panels, norm, colours, number="{:.2f}"):
    rows = max(len(layers) for layers, _ in panels.values())
    width = NAMES + len(panels) * min(PANEL, max(2.0, len(epochs) * CELL)) + SCALE
    # The panels of one row of layers name these once.
    same = len({tuple(layers) for layers, _ in panels.values()}) == 1
    width += 0 if same else (len(panels) - 1) * NAMES
    figure = Figure((width, HEAD + max(4, rows) * ROW), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (name, (layers, values)) in zip(axes, panels.items(), strict=True):
        shown = panel.imshow(values.T, norm=norm, cmap=colours, aspect="auto", interpolation="nearest")
        panel.set_title(name, fontsize=9, parse_math=False)
        named = not same or panel is axes[0]
        panel.set_yticks(range(len(layers)), layers if named else [""] * len(layers), fontsize=7, parse_math=False)
        places = range(len(epochs) - 1, -1, -len(epochs) // MOST_NUMBERS)  # the last one at any rate
        panel.set_xticks(places, [epochs[place] for place in places], fontsize=7)
        panel.set_xlabel("epoch", fontsize=8)
        panel.tick_params(length=2)
        if len(epochs) <= MOST_NUMBERS:
            _write_numbers(panel, values, norm, shown.get_cmap(), number)
    figure.colorbar(shown, ax=list(axes), fraction=0.03, pad=0.01).ax.tick_params(labelsize=7)
    return figure


def _write_numbers(panel, values, norm, colours, number):
    for epoch, row in enumerate(values):
        for layer, value in enumerate(row):
            red, green, blue, _ = colours(norm(value))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            panel.text(epoch, layer, number.format(value), ha="center", va="center", fontsize=6, color=ink)
