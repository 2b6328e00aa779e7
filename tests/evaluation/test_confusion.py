"""The picture of which classes are taken for which."""

import numpy as np
import pytest

from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.evaluation.confusion import draw_confusion, most_confused


def drawn(confusion, names):
    figure = draw_confusion("tiny, val", Evaluation(np.array(confusion), 1.0), names)
    return figure, *figure.axes


def test_pairs_are_ordered_by_how_often_they_are_confused():
    assert most_confused(np.array([[5, 1, 0], [3, 0, 0], [0, 2, 9]])) == [(1, 0, 3), (2, 1, 2), (0, 1, 1)]
    assert most_confused(np.diag([3, 4])) == []
    assert len(most_confused(np.ones((9, 9), int))) == 20


def test_right_and_wrong_answers_are_shares_of_their_class_in_two_colours():
    figure, matrix, pairs = drawn([[3, 1], [0, 0]], ["$a$", "b_1"])
    right, wrong = (image.get_array() for image in matrix.images)
    np.testing.assert_allclose(np.ma.filled(right, -1), [[0.75, -1], [-1, 0]])
    np.testing.assert_allclose(np.ma.filled(wrong, -1), [[-1, 0.25], [-1, -1]])
    assert [text.get_text() for text in matrix.texts] == ["3", "1"]
    assert [text.get_text() for text in pairs.texts] == [" $a$ → b_1   1 of 4"]
    assert "3 of 4 images right" in figure.get_suptitle()
    figure.canvas.draw()  # names are no formulas


@pytest.mark.parametrize("classes", [2, 60, 61, 300])
def test_classes_are_named_as_far_as_there_is_room(classes):
    _, matrix, _ = drawn(np.eye(classes, dtype=int), [f"class {index}" for index in range(classes)])
    labels = [label.get_text() for label in matrix.get_yticklabels()]
    assert min(classes, 30) <= len(labels) <= 60 and labels[0] == "class 0"
    assert labels == [f"class {place}" for place in matrix.get_yticks()]
