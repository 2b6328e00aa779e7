"""Checkpoints: the newest are kept, what is half-written is not read, and values go back to the variables by path."""

import re

import keras
import numpy as np
import pytest

from tfmdl.files import read_tensors, write_tensors
from tfmdl.training.checkpoints import KEEP, Checkpoint, Checkpoints, collect, restore


def at(step, value=0.0):
    return Checkpoint(step, True, 1.5, {"a": np.full(2, value)})


def test_the_newest_checkpoints_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.newest() == (None, [])
    steps = (3, 12, 100, 100000)
    for step in steps:
        path = checkpoints.save(at(step, step))
        newest, damages = checkpoints.newest()
        assert (newest.path, damages) == (path, [])
    assert [int(file.stem[-9:]) for file in sorted(path.parent.iterdir())] == list(steps[-KEEP:])
    np.testing.assert_array_equal(newest.tensors["a"], [100000, 100000])
    assert (newest.step, newest.mid_epoch, newest.epoch_seconds) == (100000, True, 1.5)


@pytest.mark.parametrize("name", ["step-000000009.safetensors.partial", "step-9.safetensors", "notes.txt"])
def test_what_is_no_checkpoint_is_neither_read_nor_removed(name, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / name).write_bytes(b"half")
    assert checkpoints.newest() == (None, [])
    for step in range(1, KEEP + 2):
        path = checkpoints.save(at(step))
    assert checkpoints.newest()[0].path == path
    assert (tmp_path / name).read_bytes() == b"half"


def damaged(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_before_a_damaged_checkpoint_is_one_that_is_whole(tmp_path):
    """And so it is when the run that goes on from there has written others, and was killed before it was as far."""
    checkpoints = Checkpoints(tmp_path)
    first, last = checkpoints.save(at(10)), checkpoints.save(at(20))
    damaged(last)
    newest, (damage,) = checkpoints.newest()
    assert newest.path == first and str(last) in damage
    for step in (12, 14, 16):
        path = checkpoints.save(at(step))
        damaged(path)
        assert checkpoints.newest()[0].step < step
        path = checkpoints.save(at(step))
        newest, damages = checkpoints.newest()
        assert newest.path == path and len(damages) == 1
    checkpoints.save(at(20))
    assert checkpoints.newest()[1] == []
    checkpoints.save(at(22))
    assert [int(file.stem[-9:]) for file in sorted(tmp_path.iterdir())] == [20, 22]


def test_without_a_whole_checkpoint_it_says_what_to_do(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        damaged(checkpoints.save(at(step)))
    with pytest.raises(ValueError, match=f"{tmp_path}/step-000000002.*no earlier .* is whole. Without {tmp_path}"):
        checkpoints.newest()


@pytest.mark.parametrize(
    "change",
    [
        {"step": 50},  # a run that is told it was finished would write a pack of what is not trained
        {"step": -1},
        {"step": 7.0},
        {"step": True},
        {"mid_epoch": 0},
        {"epoch_seconds": float("nan")},
        {"epoch_seconds": None},
        {"kind": "pack"},
        {"kind": "check\npoint"},
        {"more": 1},
    ],
)
def test_a_state_that_cannot_be_true_is_refused(change, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(at(7))
    tensors, header = read_tensors(path)
    write_tensors(path, tensors, header | change)
    with pytest.raises(ValueError, match=f"^{path}: ") as told:
        checkpoints.newest()
    assert "\n" not in str(told.value)


def groups_of(value):
    """A variable and its optimiser, whose own state (momentum, loss scale) is that after one step."""
    variable = keras.Variable(np.full((2, 3), value, "float32"), name="kernel")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5, momentum=0.9))
    optimizer.build([variable])
    optimizer.apply([keras.ops.full((2, 3), value)])
    return {"network": [variable], "optimizer": optimizer.variables}


def test_variables_and_optimiser_come_back():
    keras.utils.clear_session()  # names are those of a fresh process
    wanted = collect(groups_of(2.0))
    assert any("momentum" in name for name in wanted) and any("scale" in name for name in wanted)
    keras.utils.clear_session()
    groups = groups_of(1.0)
    assert not all(np.array_equal(value, wanted[name]) for name, value in collect(groups).items())
    restore(groups, wanted)
    found = collect(groups)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_does_not_fit_is_refused_by_name():
    groups = {"network": [keras.Variable(np.zeros((2, 3)), name="kernel", dtype="float32")]}
    ((name, value),) = collect(groups).items()
    with pytest.raises(ValueError, match="not hold the same variables: network:more"):
        restore(groups, {name: value, "network:more": value})
    with pytest.raises(ValueError, match=f"not hold the same variables: {name}"):
        restore(groups, {})
    for other in (value.T, value.astype("float64")):
        message = re.escape(f"{name} of shape {other.shape} and {other.dtype}, the run needs (2, 3) and float32")
        with pytest.raises(ValueError, match=message):
            restore(groups, {name: other})
