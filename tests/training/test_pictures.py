"""Maps of layers by epochs."""

import numpy as np
import pytest

from tfmdl.training.pictures import draw_gates, draw_moved, pixels_of

LAYERS = ["stem", "$stage_1$"]


def shown(figure):
    """Returns the panels of a figure, without its scale of colours."""
    *panels, _ = figure.axes
    return panels


def labels(ticks):
    return [label.get_text() for label in ticks]


@pytest.mark.parametrize("epochs", [1, 2, 12, 13, 40])
def test_epochs_are_named_as_far_as_there_is_room_the_last_at_any_rate(epochs):
    names = [*map(str, range(1, epochs)), "kept"]
    (panel,) = shown(draw_moved(names, {"tiny: depthwise": (LAYERS, np.ones((epochs, 2)))}))
    found = labels(panel.get_xticklabels())
    assert min(epochs, 6) <= len(found) <= 13 and "kept" in found
    assert found == [names[int(place)] for place in panel.get_xticks()]
    assert len(panel.texts) == (2 * epochs if epochs <= 12 else 0)


def test_a_row_is_a_layer_and_a_column_an_epoch():
    values = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    (panel,) = shown(draw_moved("123", {"tiny: depthwise": (LAYERS, values)}))
    np.testing.assert_array_equal(panel.images[0].get_array(), values.T)
    assert labels(panel.get_yticklabels()) == LAYERS
    assert [text.get_text() for text in panel.texts] == ["0.10", "0.20", "0.30", "0.40", "0.50", "0.60"]


def test_gates_are_percent_a_panel_for_each_expert():
    own = np.array([[0.99, 0.98]])
    figure = draw_gates("1", {"tiny: kernels of tiny": (LAYERS, own), "tiny: kernels of base": (LAYERS, 1 - own)})
    panels = shown(figure)
    assert [panel.get_title() for panel in panels] == ["tiny: kernels of tiny", "tiny: kernels of base"]
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [["99.0", "98.0"], ["1.0", "2.0"]]
    pixels = pixels_of(figure)
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.std() > 0
