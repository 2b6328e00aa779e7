"""Accuracy, loss and confusion against plain numpy."""

import numpy as np
import pytest

from tfmdl.evaluation.accuracy import Tally


def test_a_tally_adds_up_batches(rng):
    logits, labels = rng.normal(size=(20, 4)).astype("float32") * 5, rng.integers(0, 4, 20)
    tally = Tally(4)
    for rows in (slice(0, 7), slice(7, 20)):
        tally.add(logits[rows], labels[rows])
    found = tally.result()
    hits = logits.argmax(axis=1) == labels
    shares = np.exp(logits.astype("float64")) / np.exp(logits.astype("float64")).sum(axis=1, keepdims=True)
    assert (found.correct, found.total, found.accuracy) == (hits.sum(), 20, hits.mean())
    assert found.loss == pytest.approx(-np.log(shares[np.arange(20), labels]).mean())
    assert found.per_class == [(hits[labels == c].sum(), (labels == c).sum()) for c in range(4)]
    assert found.confusion[labels[0], logits[0].argmax()] > 0


def test_large_logits_do_not_overflow():
    tally = Tally(2)
    tally.add(np.array([[1e4, -1e4], [-1e4, 1e4]], "float32"), np.array([0, 0]))
    assert tally.result().loss == pytest.approx(1e4)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ValueError, match=f"0..3.*received {label}"):
        Tally(4).add(np.zeros((1, 4)), np.array([label]))


def test_nothing_has_no_accuracy():
    with pytest.raises(ValueError, match="no images"):
        Tally(4).result()
