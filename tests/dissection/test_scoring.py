"""Thresholds, overlaps and intervals, against plain computations over whole arrays."""

import itertools

import numpy as np
import pytest

from tfmdl.dissection import scoring


def batches(maps, size):
    return [(first, maps[first : first + size]) for first in range(0, len(maps), size)]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_thresholds_of_a_stream_leave_the_share_above(rng, size):
    maps = rng.normal(size=(40, 10, 9, 3)).astype("float32")
    maps[3] += 5  # most of what is above is in one image
    thresholds = scoring.Thresholds(len(maps))
    for _, batch in batches(maps, size):
        thresholds.add(batch)
    above = (maps > thresholds.values()).sum(axis=(0, 1, 2))
    assert above.tolist() == [int(scoring.SHARE_ABOVE * 40 * 90)] * 3


def test_a_unit_that_does_not_vary_is_never_above(rng):
    maps = np.zeros((20, 8, 8, 2), "float32")
    maps[..., 1] = rng.normal(size=(20, 8, 8))
    thresholds = scoring.Thresholds(20)
    thresholds.add(maps)
    assert (maps > thresholds.values()).any(axis=(0, 1, 2)).tolist() == [False, True]


def test_top_images_are_those_of_the_highest_peaks(rng):
    maps = rng.normal(size=(30, 4, 5, 6)).astype("float32")
    top = scoring.TopImages(4)
    for first, batch in batches(maps, 7):
        top.add(first, batch)
    expected = np.argsort(-maps.max(axis=(1, 2)), axis=0)[:4].T
    assert np.array_equal(top.images(), expected)


def test_upsampling_is_linear_between_centres():
    ramp = np.array([[[0.0, 4.0], [8.0, 12.0]]])
    row = np.array([0, 0, 4 / 3, 8 / 3, 4, 4])  # the centres of the two fields are those of the second and fifth pixel
    assert scoring.upsampled(ramp, (2, 6))[0] == pytest.approx(np.array([row, row + 8]), abs=1e-5)
    assert scoring.upsampled(np.full((3, 2, 5), 7.0), (9, 9)) == pytest.approx(np.full((3, 9, 9), 7.0))


# Concepts 0 and 1 are of category 0, concept 2 is of category 1.
CATEGORY_OF = np.array([0, 0, 1])


@pytest.fixture
def scene(rng):
    """Maps of 3 units for 12 images, and labels: half of the images are labelled for one category only."""
    maps = rng.normal(size=(12, 4, 4, 3)).astype("float32")
    masks, categories = [], []
    for number in range(12):
        own = (
            {0: rng.random((8, 8)) < 0.4, 1: rng.random((8, 8)) < 0.2} if number % 2 else {2: rng.random((8, 8)) < 0.5}
        )
        masks.append(own)
        categories.append([0] if number % 2 else [1])
        maps[number, ..., 0] += 3 * (number % 2)  # unit 0 is active where category 0 is labelled
    return maps, masks, categories


def plain_iou(scene, thresholds):
    """IoU by its definition, over the images that are labelled for the concept's category."""
    maps, masks, categories = scene
    iou = np.zeros((3, 3))
    for unit, concept in itertools.product(range(3), range(3)):
        both = either = 0
        for number in range(12):
            if CATEGORY_OF[concept] in categories[number]:
                above = scoring.upsampled(maps[number, ..., unit][None], (8, 8))[0] > thresholds[unit]
                mask = masks[number].get(concept, np.zeros((8, 8), bool))
                both, either = both + (above & mask).sum(), either + (above | mask).sum()
        iou[unit, concept] = both / either if either else 0
    return iou


def test_overlaps_are_of_images_labelled_for_the_category(scene):
    maps, masks, categories = scene
    thresholds, area = np.array([1.0, 0.5, 0.8]), np.zeros(3)
    found = scoring.Overlaps(thresholds, CATEGORY_OF, 2)
    for number in range(12):
        labels = scoring.Labels.of(masks[number], categories[number], (8, 8))
        area[labels.ids] += labels.planes.sum(axis=0)
        found.add(maps[number], labels)
    assert found.iou(area) == pytest.approx(plain_iou(scene, thresholds), abs=1e-6)


def test_units_are_drawn_anew_within_their_layers(rng):
    counts, units = np.array([[3, 1, 0], [0, 0, 8]]), np.array([16, 8])
    drawn = scoring.resampled(rng, counts, units, 4000)
    assert drawn.shape == (4000, 3)
    assert (drawn[:, 2] == 8).all()  # all units of the second layer detect it, whichever are drawn
    assert drawn.mean(axis=0) == pytest.approx([3, 1, 8], rel=0.1)
    assert drawn.var(axis=0)[:2] == pytest.approx([16 * 3 / 16 * 13 / 16, 16 * 1 / 16 * 15 / 16], rel=0.15)


def test_an_interval_is_about_the_value_where_resamples_lie_below_it(rng):
    concepts = np.full((1, 40), 1)  # each of 40 concepts by one of 50 units
    drawn = (scoring.resampled(rng, concepts, np.array([50])) > 0).sum(axis=1)
    assert drawn.max() < 40
    low, high = scoring.interval(40, drawn)
    assert 30 < low < 40 < high < 50 and high - low == pytest.approx(4 * drawn.std(), rel=0.2)
    assert scoring.interval(7, np.full(5, 7)) == (7, 7)


def test_reach_is_the_overlap_of_what_lies_within(rng):
    assert scoring.reach(100.0, 100.0) == 1
    assert scoring.reach(200.0, 10.0) == scoring.reach(10.0, 200.0) == 0.05


def test_distinct_concepts_among_fewer_units_are_those_of_all_draws():
    concepts = [5, 5, 7, None, None]  # of 5 units, two detect 5, one detects 7, two detect nothing
    counts = np.bincount([5, 5, 7])
    for drawn in range(1, 6):
        subsets = [{c for c in chosen if c is not None} for chosen in itertools.combinations(concepts, drawn)]
        expected = sum(map(len, subsets)) / len(subsets)
        assert scoring.distinct_among(counts, 5, drawn) == pytest.approx(expected)
        twice = scoring.distinct_among(np.stack([counts, 0 * counts]), 5, drawn)
        assert twice == pytest.approx([expected, 0])
