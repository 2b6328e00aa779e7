"""Features in memory: batches that are a function of seed, epoch and step."""

import numpy as np
import pytest

from tfmdl.data.features import FeaturePipeline, Features

IMAGES, BATCH = 11, 4


@pytest.fixture
def features():
    """Features of which each tells its row, as do its label and its id."""
    rows = np.arange(IMAGES, dtype="int32")
    return Features("tiny", rows, rows, np.repeat(rows[:, None], 3, axis=1).astype("float32"))


def rows_of(batches):
    """Returns the labels of batches, after a look at whether the features are those of the labels."""
    batches = list(batches.as_numpy_iterator())
    for batch in batches:
        assert batch["features"].shape == (BATCH, 3) and batch["features"].dtype == np.float32
        np.testing.assert_array_equal(batch["features"], np.repeat(batch["label"][:, None], 3, 1))
    return np.stack([batch["label"] for batch in batches])


def test_an_epoch_holds_every_image_once_but_for_what_fills_up_its_last_batch(features):
    pipeline = FeaturePipeline(features, BATCH, seed=0)
    rows = rows_of(pipeline.epoch(0))
    assert rows.shape == (pipeline.steps_per_epoch, BATCH) == (3, BATCH)
    assert sorted(rows.ravel()[:IMAGES]) == list(range(IMAGES))
    assert rows.ravel()[IMAGES:] == rows[0, 0]


def test_batches_are_a_function_of_seed_epoch_and_step(features):
    first, again = (FeaturePipeline(features, BATCH, seed=7) for _ in range(2))
    whole = rows_of(first.epoch(2))
    np.testing.assert_array_equal(rows_of(again.epoch(2)), whole)
    np.testing.assert_array_equal(rows_of(again.epoch(2, first_step=1)), whole[1:])
    np.testing.assert_array_equal(rows_of(first.epochs(3))[-len(whole) :], whole)
    assert (rows_of(first.epoch(3)) != whole).any()
    assert (rows_of(FeaturePipeline(features, BATCH, seed=8).epoch(2)) != whole).any()


def test_processes_that_share_a_batch_have_its_rows(features):
    whole, *parts = (
        FeaturePipeline(features, BATCH, 7, rows).epoch(2).as_numpy_iterator()
        for rows in (slice(None), slice(0, 1), slice(1, 4))
    )
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), values)


def test_parts_join_to_what_they_were(features):
    parts = list(features.batches(BATCH))
    assert [len(part.labels) for part in parts] == [4, 4, 3]
    joined = Features.joined(parts)
    for name in ("image_ids", "labels", "values"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(features, name))
