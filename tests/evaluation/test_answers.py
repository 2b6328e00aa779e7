"""The answers that are picked to be shown, against plain numpy."""

import numpy as np

from tfmdl.evaluation.answers import AnswerPicker


def _batches(rng, count=60):
    logits = rng.normal(size=(count, 3)).astype("float32") * 4
    return rng.permutation(count) + 2**62, logits, rng.integers(0, 3, count)


def _picked(columns, order, size, wrong=5, right=4):
    picker = AnswerPicker(wrong, right)
    for start in range(0, len(order), size):
        picker.add(*(column[order[start : start + size]] for column in columns))
    return picker


def test_the_wrong_answers_of_the_highest_probability_are_kept(rng):
    ids, logits, labels = columns = _batches(rng)
    shares = np.exp(logits.astype("float64"))
    shares /= shares.sum(axis=1, keepdims=True)
    mistakes = [row for row in np.argsort(-shares.max(axis=1)) if logits[row].argmax() != labels[row]][:5]
    found = _picked(columns, np.arange(60), 60).wrong
    assert [one.image_id for one in found] == ids[mistakes].tolist()
    assert [(one.label, one.answer) for one in found] == [(labels[row], logits[row].argmax()) for row in mistakes]
    np.testing.assert_allclose([one.probability for one in found], shares[mistakes].max(axis=1))


def test_the_same_are_kept_in_any_order_and_batches(rng):
    columns = _batches(rng)
    first, second = _picked(columns, np.arange(60), 60), _picked(columns, rng.permutation(60), 7)
    assert first.wrong == second.wrong and first.right == second.right
    assert len(first.right) == 4 and all(one.label == one.answer for one in first.right)


def test_there_are_no_more_than_there_are_and_large_logits_do_not_overflow():
    picker = AnswerPicker(3, 3)
    picker.add(np.array([7, 8]), np.array([[1e4, -1e4], [-1e4, 1e4]], "float32"), np.array([1, 1]))
    assert [(one.image_id, one.probability) for one in picker.wrong] == [(7, 1.0)]
    assert [one.image_id for one in picker.right] == [8]
    assert AnswerPicker(0, 0).wrong == ()
