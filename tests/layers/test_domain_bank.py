"""The bank: one variable per domain, by name and by id."""

import keras
import numpy as np
import pytest

from tfmdl.layers import DomainBank


def make(randomized, **kwargs):
    bank = DomainBank(("a", "b", "c"), name="bank", **kwargs)
    bank.build((2, 3))
    return randomized(bank)


def test_name_scalar_and_vector_pick_the_same_values(randomized):
    bank = make(randomized)
    ids = np.array([2, 0, 2, 1], "int32")
    gathered = keras.ops.convert_to_numpy(bank.select(ids))
    assert gathered.shape == (4, 2, 3)
    for value, index in zip(gathered, ids, strict=True):
        np.testing.assert_array_equal(value, bank.select("abc"[index]))
        np.testing.assert_array_equal(value, bank.select(index))


def test_shared_bank_has_one_variable_for_all(randomized):
    bank = make(randomized, shared=True)
    assert [v.path for v in bank.variables] == ["bank/shared"]
    assert bank.variable("a") is bank.variable("c")
    assert bank.select(np.array([0, 2], "int32")).shape == (2, 3)  # not repeated per image


def test_some_domains_share_and_the_others_have_their_own(randomized):
    bank = make(randomized, shared=("c", "a"))
    assert [v.path for v in bank.variables] == ["bank/shared", "bank/b"]
    assert bank.variable("a") is bank.variable("c") is not bank.variable("b")
    ids = np.array([2, 1, 0], "int32")
    for value, index in zip(keras.ops.convert_to_numpy(bank.select(ids)), ids, strict=True):
        np.testing.assert_array_equal(value, bank.select("abc"[index]))


def test_owner_ends_the_path_of_a_variable(randomized):
    assert [v.path for v in make(randomized).variables] == ["bank/a", "bank/b", "bank/c"]


@pytest.mark.parametrize("shared", [False, True])
def test_unknown_domain_is_named(randomized, shared):
    for pick in ("variable", "select"):
        with pytest.raises(ValueError, match="`domain` must be one of a, b, c; received domain='zebra'"):
            getattr(make(randomized, shared=shared), pick)("zebra")


def test_what_is_not_learned_is_not_trainable(randomized):
    assert not make(randomized, learned=False).trainable_variables
    assert len(make(randomized).trainable_variables) == 3
